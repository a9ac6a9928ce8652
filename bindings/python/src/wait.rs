//! Waiting without the interpreter's lock, in pieces, so that Ctrl-C interrupts it.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How long a signal may wait.
const PIECE: Duration = Duration::from_millis(50);

/// Waits until `poll`, which blocks for as long as it is told, has something; `None` at the deadline.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut poll: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let piece = left.map_or(PIECE, |left| left.min(PIECE));
        if let Some(found) = py.detach(|| poll(piece)) {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if left.is_some_and(|left| left <= piece) {
            return Ok(None);
        }
    }
}

/// The end of a time that is given in seconds; `None` for one without end.
pub(crate) fn deadline(seconds: Option<f64>) -> PyResult<Option<Instant>> {
    Ok(duration(seconds, "a timeout")?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// A time that is given in seconds.
pub(crate) fn duration(seconds: Option<f64>, what: &str) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    if seconds == f64::INFINITY {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| {
        PyValueError::new_err(format!(
            "found {what} of {seconds} s, expected a number of seconds from 0"
        ))
    })
}
