//! This program again, in a process of its own, for one side of a command.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long a helper may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often its exit is polled for.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running helper process. Dropped, it is killed.
pub struct Helper {
    child: Child,
    /// A helper ends when this is closed, so that it never outlives the one who started it.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts a helper with these arguments.
    pub fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the helper process did not start")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Self { child, stdin, stdout })
    }

    /// The next line that the helper says, without its end.
    pub fn next_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let len = self.stdout.read_line(&mut line)?;
        anyhow::ensure!(len > 0, "the helper process has ended early");
        Ok(line.trim_end().to_owned())
    }

    /// Tells the helper a line.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("its input is piped")?;
        writeln!(stdin, "{line}").context("the helper process has ended early")
    }

    /// Ends the helper in an orderly way.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let deadline = Instant::now() + EXIT_TIMEOUT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            anyhow::ensure!(Instant::now() < deadline, "the helper process does not end");
            std::thread::sleep(EXIT_POLL_INTERVAL);
        };
        anyhow::ensure!(status.success(), "the helper process failed: {status}");
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a helper: waits until the one who started it closes its input, or goes.
pub fn wait_for_end() -> io::Result<()> {
    io::stdin().lock().read_to_end(&mut Vec::new()).map(drop)
}
