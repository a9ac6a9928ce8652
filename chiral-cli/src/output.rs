//! Where results and notices go.

use std::io::{self, ErrorKind, Write};

use anyhow::Context as _;

/// Prints a result on standard output, at once. That a reader has seen enough and closed the pipe
/// is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Tells the user something on standard error. Nobody may be listening: that is no error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
