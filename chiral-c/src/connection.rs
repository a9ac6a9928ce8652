//! A connection that is lost, and made again.

use std::ffi::{CStr, c_char, c_void};

use chiral_blocking::ConnectionEvent;
use chiral_blocking::proto::client::Reconnect;

use crate::client::{User, chiral_client, seconds, timeout};
use crate::error::{
    CHIRAL_NOTHING, CHIRAL_OK, Failure, c_text, chiral_status, clear_callback_failure, guard,
    take_callback_failure,
};
use crate::memory;
use crate::sized::{self, sized};
use crate::stats::keep;

/// How a connection that was lost is made again. What is zero is as if it were not there.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_reconnect {
    /// `sizeof(chiral_reconnect)`.
    pub size: usize,
    /// The pause before the first try, in seconds; each pause is twice as long as the one before. Zero:
    /// 0.1.
    pub initial: f64,
    /// How long the pause becomes, at most. Zero: 5.
    pub max: f64,
    /// After how many seconds without a connection it is given up. Zero: never.
    pub give_up_after: f64,
    /// Whether requests for metadata and observations wait for the connection, and chunks that were
    /// decided before it was lost are discarded, for a policy that is to live through a restart of its
    /// robot without knowing of it. Otherwise they fail with `CHIRAL_INTERRUPTED`, as what moves the
    /// robot does in any case.
    pub hold_calls: bool,
}

/// The connection was lost, and is being made again. What was queued and planned is dropped.
pub const CHIRAL_CONNECTION_LOST: i32 = 1;
/// The connection was made again.
pub const CHIRAL_CONNECTION_RESTORED: i32 = 2;
/// The robot that is there now declares another contract than the one before: it may be another robot.
pub const CHIRAL_CONTRACT_CHANGED: i32 = 3;
/// The connection has ended, for good. Nothing comes after this.
pub const CHIRAL_CONNECTION_ENDED: i32 = 4;

/// Something that has happened to a client's connection.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_connection_event {
    /// `sizeof(chiral_connection_event)`.
    pub size: usize,
    /// What: one of `CHIRAL_CONNECTION_…` and `CHIRAL_CONTRACT_CHANGED`.
    pub kind: i32,
    /// How often it was tried to make the connection again, if it was.
    pub attempts: u32,
    /// For how many seconds there was none, if it was made again.
    pub down_for: f64,
    /// One line for a person: what has happened, and why.
    pub text: *const c_char,
}

sized!(chiral_reconnect, chiral_connection_event);

/// What is called with an event.
pub(crate) type OnConnection =
    unsafe extern "C" fn(user: *mut c_void, event: *const chiral_connection_event) -> i32;

impl chiral_reconnect {
    pub(crate) fn read(&self) -> Result<Reconnect, Failure> {
        let default = Reconnect::default();
        Ok(Reconnect {
            initial: seconds(self.initial, "reconnect.initial")?.unwrap_or(default.initial),
            max: seconds(self.max, "reconnect.max")?.unwrap_or(default.max),
            give_up_after: seconds(self.give_up_after, "reconnect.give_up_after")?,
            hold_calls: self.hold_calls,
        })
    }
}

/// An event as C has it; the text is borrowed.
fn event_with(event: &ConnectionEvent, text: &CStr) -> Option<chiral_connection_event> {
    let value = chiral_connection_event { text: text.as_ptr(), ..sized::zeroed() };
    Some(match event {
        ConnectionEvent::Disconnected { .. } => {
            chiral_connection_event { kind: CHIRAL_CONNECTION_LOST, ..value }
        }
        ConnectionEvent::Reconnected { attempts, down_for, .. } => chiral_connection_event {
            kind: CHIRAL_CONNECTION_RESTORED,
            attempts: *attempts,
            down_for: down_for.as_secs_f64(),
            ..value
        },
        ConnectionEvent::ContractChanged { .. } => {
            chiral_connection_event { kind: CHIRAL_CONTRACT_CHANGED, ..value }
        }
        ConnectionEvent::Ended { .. } => {
            chiral_connection_event { kind: CHIRAL_CONNECTION_ENDED, ..value }
        }
        // One that this version does not know.
        _ => return None,
    })
}

/// A function that calls one of C's with each event.
pub(crate) fn hook(call: OnConnection, user: User) -> impl Fn(&ConnectionEvent) + Send + Sync {
    move |event| {
        let text = c_text(&event.to_string());
        let Some(value) = event_with(event, &text) else { return };
        clear_callback_failure();
        // SAFETY: as the header asks of callers, it is such a function, and takes this pointer.
        if unsafe { call(user.get(), &raw const value) } < 0 {
            tracing::error!("`on_connection` failed: {}", take_callback_failure());
        }
    }
}

/// The next event of the connection that this function has not given yet: that it was lost, made again,
/// or has ended. Waits for one, for so many seconds; a negative number is for ever. `CHIRAL_NOTHING`
/// when none has come by then, or it has ended and that was given. Of events that nobody asks for the
/// last 64 are kept. The event's text is valid until the thread asks for another event or table.
///
/// Any thread; of several, each event goes to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_next_event(
    client: *const chiral_client,
    seconds: f64,
    event: *mut chiral_connection_event,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { sized::check_place(event)? };
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        let next = client.0.next_connection_event(timeout(seconds)?);
        let Some(next) = next else { return Ok(CHIRAL_NOTHING) };
        let Some(value) = event_with(&next, c"") else { return Ok(CHIRAL_NOTHING) };
        let value = chiral_connection_event { text: keep(&next.to_string()), ..value };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(event, &value)? };
        Ok(CHIRAL_OK)
    })
}
