//! Ctrl-C and, on Unix, SIGTERM and SIGHUP.

use anyhow::Context as _;

/// Calls `interrupted`, in a thread of its own, each time that the user wants the program to end.
/// From then on such a signal no longer ends it by itself.
pub(crate) fn listen(interrupted: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    ctrlc::set_handler(interrupted).context("signals cannot be listened for")
}
