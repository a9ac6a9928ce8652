//! What functions return, and where the words of an error are.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chiral_blocking::proto::client::{Misuse, NotQueued, NotQueuedReason, RequestError};
use chiral_blocking::{CallError, ConnectError};

use crate::memory;

/// What most functions return: `CHIRAL_OK`, `CHIRAL_NOTHING`, or an error, which is negative and
/// whose words `chiral_last_error` has.
pub type chiral_status = i32;

/// It is done.
pub const CHIRAL_OK: chiral_status = 0;
/// There is nothing yet: no observation, no action, no end of the wait in time. No error.
pub const CHIRAL_NOTHING: chiral_status = 1;
/// The call cannot be made so: a bad argument, a null pointer, a value out of its range.
pub const CHIRAL_MISUSE: chiral_status = -1;
/// The connection has ended.
pub const CHIRAL_DISCONNECTED: chiral_status = -2;
/// No answer came in time. The connection goes on.
pub const CHIRAL_TIMED_OUT: chiral_status = -3;
/// The robot cannot be reached, or does not take the policy; or an address cannot be listened on.
pub const CHIRAL_UNREACHABLE: chiral_status = -4;
/// Actions did not go into the queue; the queue is as it was.
pub const CHIRAL_NOT_QUEUED: chiral_status = -5;
/// A sensor's data are not as it was declared; what was there before stays.
pub const CHIRAL_SENSOR: chiral_status = -6;
/// A fault of chiral itself. Please report it.
pub const CHIRAL_FAULT: chiral_status = -7;
/// The connection was lost, and is being made again: try later.
pub const CHIRAL_INTERRUPTED: chiral_status = -8;
/// The robot's contract does not allow an action. None was sent or queued.
pub const CHIRAL_REFUSED: chiral_status = -9;

/// An error: its status and its words.
#[derive(Debug)]
pub(crate) struct Failure {
    status: chiral_status,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: chiral_status, text: impl Display) -> Self {
        Self { status, text: text.to_string() }
    }

    pub(crate) fn misuse(text: impl Display) -> Self {
        Self::new(CHIRAL_MISUSE, text)
    }

    pub(crate) fn sensor(error: impl Display) -> Self {
        Self::new(CHIRAL_SENSOR, error)
    }

    /// Leaves the words to `chiral_last_error`.
    pub(crate) fn tell(self) -> chiral_status {
        set_last_error(&self.text);
        self.status
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let status = match &error {
            CallError::Misuse(Misuse::Disconnected(_))
            | CallError::Unanswered(RequestError::Disconnected(_)) => CHIRAL_DISCONNECTED,
            CallError::Misuse(Misuse::Interrupted(_))
            | CallError::Unanswered(RequestError::Interrupted { .. }) => CHIRAL_INTERRUPTED,
            CallError::Misuse(Misuse::Contract(_)) => CHIRAL_REFUSED,
            CallError::Unanswered(RequestError::TimedOut { .. }) => CHIRAL_TIMED_OUT,
            _ => CHIRAL_MISUSE,
        };
        Self::new(status, error)
    }
}

impl From<Misuse> for Failure {
    fn from(error: Misuse) -> Self {
        CallError::from(error).into()
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let status = match &error {
            ConnectError::Uri(_)
            | ConnectError::NotBuiltIn { .. }
            | ConnectError::Request(_)
            | ConnectError::WithoutTls { .. } => CHIRAL_MISUSE,
            _ => CHIRAL_UNREACHABLE,
        };
        Self::new(status, error)
    }
}

impl From<NotQueued> for Failure {
    fn from(error: NotQueued) -> Self {
        let status = match &error.reason {
            NotQueuedReason::Disconnected(_) => CHIRAL_DISCONNECTED,
            NotQueuedReason::Interrupted(_) => CHIRAL_INTERRUPTED,
            NotQueuedReason::Contract { .. } => CHIRAL_REFUSED,
            _ => CHIRAL_NOT_QUEUED,
        };
        Self::new(status, error)
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
    /// What a callback said last of why it failed.
    static CALLBACK_FAILURE: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn set_last_error(text: &str) {
    let text = c_text(text);
    // A thread that is ending has nobody to tell.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
}

/// A text as C has it. Zero bytes in it, which C would take for its end, are shown.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).expect("zero bytes were replaced")
}

/// Runs the body of a function of the header: what fails leaves its words, and no panic goes out.
pub(crate) fn guard(body: impl FnOnce() -> Result<chiral_status, Failure>) -> chiral_status {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(Failure::new(
            CHIRAL_FAULT,
            format_args!("chiral has a fault, please report it: {text}"),
        ))
    });
    outcome.unwrap_or_else(Failure::tell)
}

/// As [`guard`], for a function that returns something else and cannot fail in another way.
pub(crate) fn guard_or<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    let mut returned = otherwise;
    guard(|| {
        returned = body()?;
        Ok(CHIRAL_OK)
    });
    returned
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// What a callback that has failed said of it.
pub(crate) fn take_callback_failure() -> String {
    let said = CALLBACK_FAILURE.try_with(RefCell::take).ok().flatten();
    said.unwrap_or_else(|| "it did not say why".to_owned())
}

/// Forgets what a callback of this thread said before.
pub(crate) fn clear_callback_failure() {
    let _ = CALLBACK_FAILURE.try_with(RefCell::take);
}

/// The words of the calling thread's last error: one sentence, in UTF-8. Empty before the first.
///
/// Valid until the next function of this header that fails in the same thread; copy it if it is to
/// stay. Any thread, for its own errors.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_last_error() -> *const c_char {
    const NONE: &CStr = c"";
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(NONE.as_ptr())
}

/// Says why a callback of the calling thread is about to fail, in UTF-8. The text is copied.
///
/// Within a callback, which then returns a negative number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_fail(text: *const c_char) {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let text = unsafe { memory::text(text, "text")? };
        let _ = CALLBACK_FAILURE.try_with(|said| said.replace(Some(text.to_owned())));
        Ok(CHIRAL_OK)
    });
}

/// The version of the library, such as `0.1.0`. Valid for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The time of the monotonic clock by which images are stamped, in seconds: on Linux that of
/// `CLOCK_MONOTONIC`, `std::chrono::steady_clock` and Python's `time.monotonic`. Any thread; never
/// waits.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_now() -> f64 {
    chiral_blocking::monotonic_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: it is a text, and no function is called before it is copied.
        unsafe { CStr::from_ptr(chiral_last_error()) }.to_str().expect("UTF-8").to_owned()
    }

    #[test]
    fn a_failure_leaves_its_words_and_its_status() {
        let status = guard(|| Err(Failure::misuse("no such\0camera")));
        assert_eq!((status, &last_error()[..]), (CHIRAL_MISUSE, "no such\\0camera"));
        assert_eq!(guard(|| Ok(CHIRAL_NOTHING)), CHIRAL_NOTHING);
        assert_eq!(last_error(), "no such\\0camera", "what succeeds leaves it");
        assert_eq!(std::thread::spawn(last_error).join().expect("it does not panic"), "");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let status = guard(|| std::panic::resume_unwind(Box::new("out of bounds".to_owned())));
        assert_eq!(status, CHIRAL_FAULT);
        assert!(last_error().ends_with("please report it: out of bounds"), "{}", last_error());
        assert_eq!(guard_or(7, || std::panic::resume_unwind(Box::new(()))), 7);
    }

    #[test]
    fn what_a_callback_said_is_taken_once() {
        clear_callback_failure();
        // SAFETY: it is a text.
        unsafe { chiral_fail(c"joint 3 is at its limit".as_ptr()) };
        assert_eq!(take_callback_failure(), "joint 3 is at its limit");
        assert_eq!(take_callback_failure(), "it did not say why");
    }
}
