//! The log on the standard error.

use std::process::{Command, Stdio};
use std::ptr::null_mut;

use chiral_c::{CHIRAL_LOG_DEBUG, CHIRAL_OK, chiral_set_log};

const IS_CHILD: &str = "CHIRAL_TEST_LOG_CHILD";

/// In a process of its own, as the log is set once in a program.
#[test]
fn a_line_that_cannot_be_written_is_no_panic() {
    if std::env::var_os(IS_CHILD).is_some() {
        // SAFETY: null pointers are allowed.
        assert_eq!(unsafe { chiral_set_log(CHIRAL_LOG_DEBUG, None, null_mut()) }, CHIRAL_OK);
        tracing::warn!(target: "chiral", "nobody reads this");
        return;
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(std::env::current_exe().expect("this program"))
        // Otherwise the harness takes what `eprintln!` prints.
        .args(["--exact", "a_line_that_cannot_be_written_is_no_panic", "--nocapture"])
        .env(IS_CHILD, "1")
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .expect("it is run");
    assert!(status.success(), "{status}");
}
