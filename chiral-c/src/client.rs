//! A policy's connection to a robot.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use chiral_blocking::PolicyClient;
use chiral_blocking::proto::client::{Config, ConnectionState};
use chiral_blocking::proto::{Array, Rate};

use crate::actions::rows;
use crate::connection::{OnConnection, chiral_connection_event, chiral_reconnect, hook};
use crate::error::{
    CHIRAL_DISCONNECTED, CHIRAL_INTERRUPTED, CHIRAL_NOTHING, CHIRAL_OK, Failure, c_text,
    chiral_status, guard, guard_or,
};
use crate::map::chiral_map;
use crate::memory;
use crate::observation::chiral_observation;
use crate::security::{chiral_client_tls, chiral_token};
use crate::sized::{self, sized};

/// A policy's connection to a robot. Any number of threads may call its functions at once, each of
/// which gets its own answer; `chiral_client_free` is for the last one.
pub struct chiral_client(pub(crate) PolicyClient);

/// Settings of a client. What is zero is as if it were not there.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_client_config {
    /// `sizeof(chiral_client_config)`.
    pub size: usize,
    /// How long connecting waits for a robot that is not up yet, or has another policy, in seconds.
    /// Zero: for ever.
    pub connect_timeout: f64,
    /// How long each request waits for its answer, in seconds. Zero: metadata and observations 10,
    /// resets and steps 120.
    pub request_timeout: f64,
    /// An action that has waited in the queue for longer than this is not sent any more, in seconds.
    /// Zero: each is.
    pub max_age: f64,
    /// How many actions may wait in the queue. Zero: 1024.
    pub queue_capacity: usize,
    /// How many requests of the observation stream may be under way. Zero: 1.
    pub stream_window: usize,
    /// Header fields of the WebSocket's request: a name, its value, the next name, …, as texts.
    pub headers: *const *const c_char,
    /// How many texts there are: twice as many as fields.
    pub header_texts: usize,
    /// The token that the robot asks for; null for none.
    pub token: *const chiral_token,
    /// Whom to take for the robot, for a URI of `wss://`; null for whoever the operating system trusts.
    /// With it a URI without TLS is an error.
    pub tls: *const chiral_client_tls,
    /// How a connection that was lost is made again; null: it is not, and the client ends with it.
    pub reconnect: *const chiral_reconnect,
    /// Called every second while connecting waits, by the thread that connects, with one line for a
    /// person and the seconds so far; while the connection is made again, by chiral's own. The text is
    /// valid during the call.
    pub on_waiting:
        Option<unsafe extern "C" fn(user: *mut c_void, text: *const c_char, waited: f64)>,
    /// Called when the connection is lost, made again, or has ended, by the connection's thread: it must
    /// not wait, and may call any function of the client that does not. Returns 0, or a negative number
    /// when it has failed, which the log is told. The event is valid during the call.
    pub on_connection: Option<
        unsafe extern "C" fn(user: *mut c_void, event: *const chiral_connection_event) -> i32,
    >,
    /// The first argument of both. Neither is called after `chiral_client_connect` has failed, or
    /// `chiral_client_free` has returned.
    pub user: *mut c_void,
}

/// The answer to a legacy step, given by a client or by a robot.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_step {
    /// `sizeof(chiral_step)`.
    pub size: usize,
    /// The observation after the step.
    pub observation: *mut chiral_observation,
    /// The reward.
    pub reward: f64,
    /// Whether the episode has ended by itself.
    pub terminated: bool,
    /// Whether the episode was cut short.
    pub truncated: bool,
    /// Whatever else the robot says.
    pub info: *mut chiral_map,
}

sized!(chiral_client_config, chiral_step);

/// The user's pointer, which goes from thread to thread with the functions that take it.
#[derive(Clone, Copy)]
pub(crate) struct User(pub(crate) *mut c_void);

// SAFETY: the header says by which threads a function is called; that its pointer may be used there
// is the caller's business.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    pub(crate) fn get(self) -> *mut c_void {
        self.0
    }
}

/// A duration in seconds; `None` for zero.
pub(crate) fn seconds(seconds: f64, what: &str) -> Result<Option<Duration>, Failure> {
    if seconds == 0.0 {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| {
        Failure::misuse(format_args!("{what} is {seconds}, expected seconds, zero or more"))
    })
}

/// How long to wait: negative is for ever.
pub(crate) fn timeout(seconds: f64) -> Result<Option<Duration>, Failure> {
    if seconds.is_nan() {
        return Err(Failure::misuse("the timeout is not a number"));
    }
    // What is longer than a duration can say is for ever.
    Ok(if seconds < 0.0 { None } else { Duration::try_from_secs_f64(seconds).ok() })
}

/// Connects to the robot at `uri`, `ws://host:port`, `wss://host:port`, `host:port`, `unix:/path` or,
/// built with Zenoh, `tcp/host:port` and `zenoh:…`, and waits for it. `config` may be null. To be freed.
///
/// Any thread. Waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_connect(
    uri: *const c_char,
    config: *const chiral_client_config,
    client: *mut *mut chiral_client,
) -> chiral_status {
    let connect = || {
        // SAFETY: as the header asks of callers.
        let uri = unsafe { memory::text(uri, "uri")? };
        // SAFETY: as the header asks of callers.
        let config = unsafe { sized::read_or_default(config)? };
        // SAFETY: as the header asks of callers.
        let builder = unsafe { builder(&config)? };
        Ok(chiral_client(builder.connect(uri)?))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(client, "client", connect) }
}

/// # Safety
/// The pointers of `config` are valid.
unsafe fn builder(config: &chiral_client_config) -> Result<chiral_blocking::Builder, Failure> {
    let mut machine = Config { max_age: seconds(config.max_age, "max_age")?, ..Config::default() };
    if config.queue_capacity > 0 {
        machine.queue_capacity = config.queue_capacity;
    }
    if config.stream_window > 0 {
        machine.stream_window = config.stream_window;
    }
    let mut builder = PolicyClient::builder().config(machine);
    if let Some(timeout) = seconds(config.connect_timeout, "connect_timeout")? {
        builder = builder.connect_timeout(timeout);
    }
    if let Some(timeout) = seconds(config.request_timeout, "request_timeout")? {
        builder = builder.request_timeout(timeout);
    }
    // SAFETY: the caller's promise.
    let headers = unsafe { memory::slice(config.headers, config.header_texts, "headers")? };
    if headers.len() % 2 != 0 {
        return Err(Failure::misuse("headers has a name without a value"));
    }
    for pair in headers.chunks_exact(2) {
        // SAFETY: the caller's promise.
        let name = unsafe { memory::text(pair[0], "a header's name")? };
        // SAFETY: the caller's promise.
        let value = unsafe { memory::text(pair[1], "a header's value")? };
        builder = builder.header(name, value);
    }
    if !config.token.is_null() {
        // SAFETY: the caller's promise.
        let token = unsafe { sized::read(config.token)? };
        // SAFETY: the caller's promise.
        builder = builder.token(unsafe { token.read()? });
    }
    if !config.tls.is_null() {
        #[cfg(feature = "tls")]
        {
            // SAFETY: the caller's promise.
            let tls = unsafe { sized::read(config.tls)? };
            // SAFETY: the caller's promise.
            builder = builder.tls(unsafe { tls.read()? });
        }
        #[cfg(not(feature = "tls"))]
        return Err(crate::security::without_tls());
    }
    if !config.reconnect.is_null() {
        // SAFETY: the caller's promise.
        builder = builder.reconnect(unsafe { sized::read(config.reconnect)? }.read()?);
    }
    let user = User(config.user);
    if let Some(call) = config.on_connection {
        builder = builder.on_connection(hook(call as OnConnection, user));
    }
    if let Some(call) = config.on_waiting {
        builder = builder.on_waiting(move |waiting| {
            let text = c_text(&waiting.to_string());
            // SAFETY: as the header asks of callers, it is such a function, and takes this pointer.
            unsafe { call(user.get(), text.as_ptr(), waiting.waited.as_secs_f64()) };
        });
    }
    Ok(builder)
}

/// Closes the connection and waits until the robot knows, for 7 s at the most. Functions that wait in
/// other threads fail. The handle stays, to be freed.
///
/// Any thread. Waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_close(client: *const chiral_client) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { memory::borrow(client, "client")? }.0.clone().close();
        Ok(CHIRAL_OK)
    })
}

/// Closes the connection, if it is open, and frees the client. Does nothing to a null pointer.
///
/// While no other thread uses the client. Waits for the network, as `chiral_client_close`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_free(client: *mut chiral_client) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(client) };
}

/// Why there is no connection, as the return value and, in words, as the last error:
/// `CHIRAL_INTERRUPTED` while it is being made again, `CHIRAL_DISCONNECTED` when it has ended, and
/// `CHIRAL_OK` while there is one.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_state(client: *const chiral_client) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        match unsafe { memory::borrow(client, "client")? }.0.connection_state() {
            ConnectionState::Interrupted { error, .. } => Err(Failure::new(
                CHIRAL_INTERRUPTED,
                format_args!("the connection was interrupted: {error}; it is being made again"),
            )),
            ConnectionState::Ended { error } => Err(Failure::new(
                CHIRAL_DISCONNECTED,
                format_args!("the connection has ended: {error}; connect again"),
            )),
            _ => Ok(CHIRAL_OK),
        }
    })
}

/// Whether nothing at all has come from the robot for 2 s although something is waited for: the
/// network may be dead, and the policy blind.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_is_silent(client: *const chiral_client) -> bool {
    // SAFETY: as the header asks of callers.
    guard_or(false, || Ok(unsafe { memory::borrow(client, "client")? }.0.is_silent()))
}

/// Asks the robot what it is. The map is to be freed.
///
/// Any thread. Waits for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_metadata(
    client: *const chiral_client,
    metadata: *mut *mut chiral_map,
) -> chiral_status {
    let ask = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        Ok(chiral_map::from(client.0.metadata()?))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(metadata, "metadata", ask) }
}

/// Resets the robot. Observation and map are to be freed; `info` may be null.
///
/// Any thread. Waits for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_reset(
    client: *const chiral_client,
    observation: *mut *mut chiral_observation,
    info: *mut *mut chiral_map,
) -> chiral_status {
    let ask = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        let reset = client.0.reset()?;
        if !info.is_null() {
            // SAFETY: as the header asks of callers.
            *unsafe { memory::place(info, "info")? } = memory::give(reset.info.into());
        }
        Ok(chiral_observation::from(reset.observation))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(observation, "observation", ask) }
}

/// Asks for an observation that is made for this call. It is to be freed.
///
/// Any thread. Waits for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_get(
    client: *const chiral_client,
    observation: *mut *mut chiral_observation,
) -> chiral_status {
    let ask = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        Ok(chiral_observation::from(client.0.observe()?))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(observation, "observation", ask) }
}

/// The legacy step of older policies: sends an action of `count` rows of `width` values each, and
/// waits for what comes of it. Observation and map of `result` are to be freed.
///
/// Any thread. Waits for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_step(
    client: *const chiral_client,
    values: *const f32,
    count: usize,
    width: usize,
    result: *mut chiral_step,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { sized::check_place(result)? };
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let values = unsafe { rows(values, count, width)? };
        let action = Array::from_slice([count, width], values).map_err(Failure::misuse)?;
        let step = client.0.step(action)?;
        let value = chiral_step {
            observation: memory::give(step.observation.into()),
            reward: step.reward,
            terminated: step.terminated,
            truncated: step.truncated,
            info: memory::give(step.info.into()),
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(result, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// Asks for observations at a fixed rate from now on, in hertz; stops at a rate of 0.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_stream(
    client: *const chiral_client,
    hz: f64,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        if hz == 0.0 {
            client.0.stop_obs_stream();
        } else {
            client.0.start_obs_stream(Rate::hz(hz).map_err(Failure::misuse)?)?;
        }
        Ok(CHIRAL_OK)
    })
}

/// The newest observation that any answer brought, which may be the same as before, to be freed;
/// `CHIRAL_NOTHING` before the first.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_latest(
    client: *const chiral_client,
    observation: *mut *mut chiral_observation,
) -> chiral_status {
    let latest = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        Ok(client.0.latest_obs().map(chiral_observation::from))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(observation, "observation", latest) }
}

/// The newest observation that this function has not given yet, to be freed. Waits for one, for so
/// many seconds; a negative number is for ever. `CHIRAL_NOTHING` when none has come by then.
///
/// Any thread; of several, each observation goes to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_next(
    client: *const chiral_client,
    seconds: f64,
    observation: *mut *mut chiral_observation,
) -> chiral_status {
    let next = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        Ok(client.0.next_obs(timeout(seconds)?)?.map(chiral_observation::from))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(observation, "observation", next) }
}

/// Waits until no more rows of the plan are left than `chiral_client_refill_at` says, for so many
/// seconds; a negative number is for ever. `CHIRAL_NOTHING` when more are left then.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_plan_low(
    client: *const chiral_client,
    seconds: f64,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        let is_low = client.0.plan_low(timeout(seconds)?)?;
        Ok(if is_low { CHIRAL_OK } else { CHIRAL_NOTHING })
    })
}
