//! What the core logs goes to Python's `logging`.
//!
//! The threads of a connection must not wait for the interpreter's lock, which a policy may hold for
//! a minute. So lines are queued, and a thread of their own hands them to Python.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::in_python;
use crate::fork;

/// Lines that may wait for Python; more are dropped, and counted.
const QUEUE: usize = 1000;

struct Line {
    level: u8,
    text: String,
}

/// The queue, and the process whose thread empties it.
static QUEUED: Mutex<Option<(u32, SyncSender<Line>)>> = Mutex::new(None);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts to hand lines on, unless it has begun.
pub(crate) fn start() {
    // Another library in this process may have a subscriber of its own; then it gets the lines.
    let _ = tracing::subscriber::set_global_default(ToPython);
    let mut queued = QUEUED.lock().unwrap_or_else(PoisonError::into_inner);
    if queued.as_ref().is_some_and(|(generation, _)| *generation == fork::generation()) {
        return;
    }
    let (sender, lines) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("chiral-log".to_owned());
    if thread.spawn(move || hand_on(&lines)).is_ok() {
        *queued = Some((fork::generation(), sender));
    }
}

fn hand_on(lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        // None when the interpreter has ended.
        let handed = Python::try_attach(|py| {
            let dropped = DROPPED.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                log(py, 30, &format!("{dropped} lines of the log were dropped"));
            }
            log(py, line.level, &line.text);
        });
        if handed.is_none() {
            return;
        }
    }
}

/// Logs an exception with its traceback.
pub(crate) fn exception(py: Python<'_>, logger: &str, what: &str, error: &PyErr) {
    let options = PyDict::new(py);
    let parts = (error.get_type(py), error.value(py), error.traceback(py));
    let outcome = options.set_item("exc_info", parts).and_then(|()| {
        let logger = py.import("logging")?.call_method1("getLogger", (logger,))?;
        logger.call_method("error", ("%s failed", what), Some(&options))
    });
    // A handler that fails is `logging`'s to tell of, here and below.
    drop(outcome);
}

fn log(py: Python<'_>, level: u8, text: &str) {
    let logged = py
        .import("logging")
        .and_then(|logging| logging.call_method1("getLogger", ("chiral",)))
        .and_then(|logger| logger.call_method1("log", (level, "%s", text)));
    drop(logged);
}

struct ToPython;

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("chiral")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            _ => 20,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let queued = QUEUED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = &*queued
            && sender.try_send(Line { level, text: in_python(&text.0) }).is_err()
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a `String` does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
