//! Where results and notices go.

use std::io::{self, ErrorKind, Write};

use anyhow::Context as _;

/// Prints a result on standard output, at once. A closed pipe is no error: its reader has seen
/// enough.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a notice to standard error. A closed standard error is no error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
