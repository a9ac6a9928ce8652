//! The examples do what they say.

use std::path::PathBuf;
use std::time::Duration;

use smol::Timer;
use smol::future::{or, zip};
use smol::io::{AsyncBufReadExt, BufReader, Lines};
use smol::process::{Child, ChildStdout, Command, Stdio};
use smol::stream::StreamExt;

/// An example, to be run with one argument; it dies with the test.
fn example(name: &str, argument: &str) -> Command {
    let test = std::env::current_exe().expect("the test has a path");
    // …/target/debug/deps/test → …/target/debug/examples/name
    let folder: PathBuf = test.ancestors().nth(2).expect("in target/debug/deps").join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "`cargo test -p chiral-smol` builds {}", program.display());
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The example `smol_server`, with the lines that it prints.
struct Server {
    #[cfg_attr(not(unix), expect(dead_code, reason = "it ends with the test"))]
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    uri: String,
}

impl Server {
    async fn start() -> Self {
        let mut process = example("smol_server", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let first = soon(lines.next()).await.expect("it prints").expect("it is text");
        let uri = first.strip_prefix("serving at ").expect("where it is").to_owned();
        Self { process, lines, uri }
    }

    /// The next line that it prints.
    async fn line(&mut self) -> String {
        soon(self.lines.next()).await.expect("it still runs").expect("it is text")
    }

    /// The next line that begins so. Before that it may say that it holds still, for the
    /// test's machine may be busy, and name another action.
    async fn line_with(&mut self, start: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(start) {
                return line;
            }
            let is_passed_over = ["holding still: no action for", "joint targets: ["];
            assert!(is_passed_over.iter().any(|start| line.starts_with(start)), "{line}");
        }
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    #[cfg(unix)]
    async fn interrupt(mut self) -> smol::process::ExitStatus {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await;
        assert!(sent.expect("there is a `kill`").success());
        soon(self.process.status()).await.expect("it ends")
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(120)).await;
        panic!("still waiting after two minutes")
    };
    or(future, late).await
}

#[test]
fn the_client_and_the_chunked_policy_drive_the_server() {
    smol::block_on(async {
        let mut server = Server::start().await;
        let uri = server.uri.clone();

        let client = soon(example("smol_client", &uri).output()).await.unwrap();
        let said = String::from_utf8(client.stdout).unwrap();
        assert!(client.status.success(), "{said}");
        assert_eq!(said.matches("the first pixel is [").count(), 10, "{said}");
        // The robot applies nothing after the end: the last one may have come too late.
        for _ in 0..9 {
            server.line_with("joint targets: [").await;
        }
        server.line_with("holding still: the peer closed the connection").await;

        let moving = async {
            for _ in 0..50 {
                server.line_with("joint targets: [0.").await;
            }
        };
        let mut policy = example("smol_chunked_policy", &uri);
        let (policy, ()) = soon(zip(policy.output(), moving)).await;
        let policy = policy.unwrap();
        let said = String::from_utf8(policy.stdout).unwrap();
        assert!(policy.status.success(), "{said}");
        assert_eq!(said.matches("new plan at").count(), 20, "{said}");
    });
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_server_and_tells_its_policy() {
    smol::block_on(async {
        let mut server = Server::start().await;
        let policy = soon(chiral_smol::PolicyClient::connect(&server.uri)).await.unwrap();
        policy.send_action([0.5; 7]).unwrap();
        server.line_with("joint targets: [0.5").await;
        assert!(server.interrupt().await.success());
        let error = soon(policy.observe()).await.unwrap_err().to_string();
        assert!(error.contains("1001"), "{error}");
    });
}
