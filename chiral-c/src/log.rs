//! The log.

use std::ffi::{c_char, c_void};
use std::fmt::{self, Write};
use std::io::{self, Write as _};

use chiral_blocking::monotonic_seconds;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::client::User;
use crate::error::{CHIRAL_OK, Failure, c_text, chiral_status, guard};

/// What did not go as it should.
pub const CHIRAL_LOG_ERROR: i32 = 1;
/// What somebody ought to look at: who is waited for, actions that were dropped.
pub const CHIRAL_LOG_WARN: i32 = 2;
/// Who connects and who goes.
pub const CHIRAL_LOG_INFO: i32 = 3;
/// All of it.
pub const CHIRAL_LOG_DEBUG: i32 = 4;

/// What is called for each line of the log.
type Call = unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const c_char);

/// Has `call` called for each line of the log up to `level`, one of `CHIRAL_LOG_…`, with its level and
/// its text, which is valid during the call. Null prints the lines to the standard error. Without this
/// nothing is seen of who connects, who is refused, and what is dropped.
///
/// Once in a program, before its other calls; a second call fails. `call` is called by any thread, of
/// chiral's and of the program's, and must not call this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_set_log(
    level: i32,
    call: Option<unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const c_char)>,
    user: *mut c_void,
) -> chiral_status {
    guard(|| {
        let level = match level {
            CHIRAL_LOG_ERROR => Level::ERROR,
            CHIRAL_LOG_WARN => Level::WARN,
            CHIRAL_LOG_INFO => Level::INFO,
            CHIRAL_LOG_DEBUG => Level::DEBUG,
            other => return Err(Failure::misuse(format_args!("{other} is no level of the log"))),
        };
        let log = Log { level, call, user: User(user) };
        tracing::subscriber::set_global_default(log)
            .map_err(|_| Failure::misuse("the log is set already: set it once in a program"))?;
        Ok(CHIRAL_OK)
    })
}

/// Hands events to C; spans are not kept.
struct Log {
    level: Level,
    call: Option<Call>,
    user: User,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Zenoh has a log of its own, which speaks of its insides.
        *metadata.level() <= self.level && metadata.target().starts_with("chiral")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let Some(call) = self.call else {
            // `eprintln!` would panic where this cannot be written.
            let _ =
                writeln!(io::stderr().lock(), "{:.3} {level:5} {}", monotonic_seconds(), text.0);
            return;
        };
        let number = match level {
            Level::ERROR => CHIRAL_LOG_ERROR,
            Level::WARN => CHIRAL_LOG_WARN,
            Level::INFO => CHIRAL_LOG_INFO,
            _ => CHIRAL_LOG_DEBUG,
        };
        let text = c_text(&text.0);
        // SAFETY: as the header asks of callers, it is such a function, and takes this pointer.
        unsafe { call(self.user.get(), number, text.as_ptr()) };
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
        debug_assert!(written.is_ok(), "a String takes every write");
    }
}
