//! A robot's server.

use std::ffi::{CString, c_char};
use std::time::Duration;

use chiral_blocking::proto::server::{self, ActionQueue};
use chiral_blocking::{FailureText, PolicyServer, ServerConfig, Watchdog};

use crate::client::seconds;
use crate::contract::chiral_action_spec;
use crate::error::{
    CHIRAL_OK, CHIRAL_UNREACHABLE, Failure, c_text, chiral_status, guard, guard_or,
};
use crate::memory;
use crate::robot::{CallbackRobot, chiral_robot};
use crate::security::{chiral_server_tls, chiral_token};
use crate::sensors::chiral_sensors;
use crate::sized::{self, sized};

/// Where policies connect to a robot, one at a time. Any thread may call any function but
/// `chiral_server_free` at any time.
pub struct chiral_server {
    pub(crate) server: PolicyServer,
    uri: CString,
    /// Of a server that speaks TLS.
    fingerprint: Option<CString>,
}

/// A newer action replaces one that the robot was not given yet.
pub const CHIRAL_QUEUE_LATEST: i32 = 0;
/// In order; what has waited for longer than `action_queue_limit` seconds is dropped.
pub const CHIRAL_QUEUE_MAX_AGE: i32 = 1;
/// Every action, in order; a policy that is too fast is held up when `action_queue_limit` wait.
pub const CHIRAL_QUEUE_IN_ORDER: i32 = 2;

/// Settings of a server. What is zero is as if it were not there.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_server_config {
    /// `sizeof(chiral_server_config)`.
    pub size: usize,
    /// The contract: what an action must be; null for any.
    pub action: *const chiral_action_spec,
    /// After so many seconds without an action the robot is told to hold still. Zero: as the contract's
    /// rate says; without one half a second for a robot that pulls, never for one that is called.
    /// Negative: never.
    pub watchdog: f64,
    /// How old, in seconds, the observation may be on which an action was decided. Zero: 5. Negative:
    /// as old as it likes.
    pub max_obs_age: f64,
    /// What becomes of actions that come faster than the robot takes them: one of `CHIRAL_QUEUE_…`.
    pub action_queue: i32,
    /// Seconds, or actions, where `action_queue` needs it.
    pub action_queue_limit: f64,
    /// Whether the newest policy gets the robot, and the one before is sent away, instead of the
    /// other way round.
    pub take_over: bool,
    /// Whether a robot that pulls is asked for observations too.
    pub pull_observations: bool,
    /// The token that a policy has to show; null for none. Only over WebSocket.
    pub token: *const chiral_token,
    /// Speaks TLS, and nothing else, on a TCP address; null for not.
    pub tls: *const chiral_server_tls,
}

sized!(chiral_server_config);

impl chiral_server_config {
    /// # Safety
    /// Its pointers are valid.
    unsafe fn read(&self) -> Result<ServerConfig, Failure> {
        let mut machine = server::Config::default();
        if !self.action.is_null() {
            // SAFETY: the caller's promise.
            let spec = unsafe { sized::read(self.action)? };
            // SAFETY: the caller's promise.
            machine.action_spec = unsafe { spec.read()? };
        }
        machine.action_queue = match self.action_queue {
            CHIRAL_QUEUE_LATEST => ActionQueue::Latest,
            CHIRAL_QUEUE_MAX_AGE => {
                let limit = seconds(self.action_queue_limit, "action_queue_limit")?;
                ActionQueue::MaxAge(limit.unwrap_or_default())
            }
            CHIRAL_QUEUE_IN_ORDER => {
                ActionQueue::InOrder { capacity: self.action_queue_limit as usize }
            }
            other => return Err(Failure::misuse(format_args!("{other} is no queue of actions"))),
        };
        if self.max_obs_age != 0.0 {
            machine.max_obs_age = positive(self.max_obs_age, "max_obs_age")?;
        }
        let watchdog = match positive(self.watchdog, "watchdog")? {
            Some(silence) if !silence.is_zero() => Watchdog::After(silence),
            Some(_) => Watchdog::Default,
            None => Watchdog::Off,
        };
        let mut config = ServerConfig {
            machine,
            watchdog,
            take_over: self.take_over,
            pull_observations: self.pull_observations,
            // What a callback failed with is no panic of Rust's, and the policy is to know it.
            failure_text: FailureText::Everything,
            ..ServerConfig::default()
        };
        if !self.token.is_null() {
            // SAFETY: the caller's promise.
            let token = unsafe { sized::read(self.token)? };
            // SAFETY: the caller's promise.
            config = config.token(unsafe { token.read()? });
        }
        if !self.tls.is_null() {
            #[cfg(feature = "tls")]
            {
                // SAFETY: the caller's promise.
                let tls = unsafe { sized::read(self.tls)? };
                // SAFETY: the caller's promise.
                config = config.tls(unsafe { tls.read()? });
            }
            #[cfg(not(feature = "tls"))]
            return Err(crate::security::without_tls());
        }
        Ok(config)
    }
}

/// A duration in seconds; `None` for a negative number.
fn positive(value: f64, what: &str) -> Result<Option<Duration>, Failure> {
    if value < 0.0 {
        return Ok(None);
    }
    Ok(Some(seconds(value, what)?.unwrap_or_default()))
}

/// A server that listens on `address`, `host:port`, where port 0 lets the system choose one, or
/// `unix:/path` or, built with Zenoh, `tcp/host:port` and `zenoh:…`. `config` may be null. To be
/// freed.
///
/// Without a token, or TLS with `client_authorities`, whoever reaches the address can drive the robot:
/// listen on `127.0.0.1` then.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_bind(
    address: *const c_char,
    config: *const chiral_server_config,
    server: *mut *mut chiral_server,
) -> chiral_status {
    let bind = || {
        // SAFETY: as the header asks of callers.
        let address = unsafe { memory::text(address, "address")? };
        // SAFETY: as the header asks of callers.
        let config = unsafe { sized::read_or_default(config)? };
        // SAFETY: as the header asks of callers.
        let config = unsafe { config.read()? };
        #[cfg(feature = "tls")]
        let fingerprint = config.tls.as_ref().map(|tls| c_text(&tls.fingerprint()));
        #[cfg(not(feature = "tls"))]
        let fingerprint = None;
        let server = PolicyServer::bind_with(address, config).map_err(unreachable)?;
        let uri = c_text(&server.uri().map_err(unreachable)?);
        Ok(chiral_server { server, uri, fingerprint })
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(server, "server", bind) }
}

pub(crate) fn unreachable(error: std::io::Error) -> Failure {
    Failure::new(CHIRAL_UNREACHABLE, error)
}

/// The URI with which a policy on the same computer connects. Valid until the server is freed.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_uri(server: *const chiral_server) -> *const c_char {
    guard_or(std::ptr::null(), || {
        // SAFETY: as the header asks of callers.
        Ok(unsafe { memory::borrow(server, "server")? }.uri.as_ptr())
    })
}

/// The SHA-256 fingerprint of the server's certificate, for `chiral_client_tls.pin`; null without TLS.
/// Valid until the server is freed.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_fingerprint(server: *const chiral_server) -> *const c_char {
    guard_or(std::ptr::null(), || {
        // SAFETY: as the header asks of callers.
        let server = unsafe { memory::borrow(server, "server")? };
        Ok(server.fingerprint.as_ref().map_or(std::ptr::null(), |text| text.as_ptr()))
    })
}

/// Serves a robot that is called to one policy after the other, until `chiral_server_shutdown` or
/// `chiral_server_stop`, which are to be called from elsewhere. The callbacks may be called until it
/// has returned.
///
/// Any thread. Waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_serve(
    server: *const chiral_server,
    sensors: *const chiral_sensors,
    robot: *const chiral_robot,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let server = unsafe { memory::borrow(server, "server")? };
        // SAFETY: as the header asks of callers.
        let robot = unsafe { CallbackRobot::new(sensors, robot)? };
        server.server.serve(robot).map_err(unreachable)?;
        Ok(CHIRAL_OK)
    })
}

/// As `chiral_server_serve`, but in threads of its own, and without waiting. The callbacks may be
/// called until `chiral_server_shutdown` has returned.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_start(
    server: *const chiral_server,
    sensors: *const chiral_sensors,
    robot: *const chiral_robot,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let server = unsafe { memory::borrow(server, "server")? };
        // SAFETY: as the header asks of callers.
        let robot = unsafe { CallbackRobot::new(sensors, robot)? };
        server.server.spawn(robot).map_err(unreachable)?;
        Ok(CHIRAL_OK)
    })
}

/// Stops listening, lets the requests that are being answered finish, closes the connection and
/// returns when the robot is at rest. No callback is called afterwards.
///
/// Any thread but those of the callbacks, for whose end it waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_shutdown(server: *const chiral_server) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { memory::borrow(server, "server")? }.server.shutdown();
        Ok(CHIRAL_OK)
    })
}

/// Stops listening and closes the connection that there is, without waiting for anything: callbacks
/// may still be called afterwards.
///
/// Any thread, callbacks too; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_stop(server: *const chiral_server) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { memory::borrow(server, "server")? }.server.stop();
        Ok(CHIRAL_OK)
    })
}

/// Shuts a server down, if it is not yet, and frees it. Does nothing to a null pointer.
///
/// Any thread but those of the callbacks, while no other thread uses the server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_free(server: *mut chiral_server) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(server) };
}
