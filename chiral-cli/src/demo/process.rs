//! The robot's process.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use chiral_proto::Rate;
use chiral_sim::episode::OBSERVATION_HZ;
use chiral_tokio::PolicyServer;
use clap::{Args, ValueEnum as _};
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::robot::DemoRobot;
use crate::output;
use crate::robot::fault::Fault;
use crate::robot::{Scene, Size, Spec};

/// How long the robot's process may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The robot of `chiral demo`; started by it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    size: Size,
    #[arg(long)]
    fast: bool,
    #[arg(long = "break", value_enum)]
    fault: Option<Fault>,
}

/// Serves the arm on a port of the system's choice, told on standard output, until standard input
/// ends: the demo holds the other end, so that this process never outlives it.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let Options { seed, size, fast, fault } = options;
    let spec = Spec {
        scene: Scene::Arm,
        cameras: None,
        size,
        depth: true,
        proprios: Vec::new(),
        rate: Rate::hz(OBSERVATION_HZ.into())?,
        seed,
    };
    spec.check()?;
    let robot = DemoRobot::start(spec, fast, fault)?;
    let server = PolicyServer::bind("127.0.0.1:0").await?;
    output::print(&format!("ws://{}\n", server.local_addr()?))?;
    let mut parent = tokio::io::stdin();
    let mut nothing = Vec::new();
    tokio::select! {
        ended = server.serve(robot) => ended?,
        _ = parent.read_to_end(&mut nothing) => {}
    }
    Ok(())
}

/// A running robot. Dropped, it is killed.
pub(super) struct RobotProcess {
    child: Child,
    pub(super) uri: String,
}

impl RobotProcess {
    pub(super) async fn start(options: &super::Options) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut command = Command::new(program);
        command.arg("demo-robot");
        command.args(["--seed", &options.seed.to_string()]);
        command.args(["--size", &options.size().to_string()]);
        if options.fast {
            command.arg("--fast");
        }
        if let Some(fault) = options.fault.and_then(|fault| fault.to_possible_value()) {
            command.args(["--break", fault.get_name()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the robot's process did not start")?;
        let stdout = child.stdout.take().context("the robot's output is piped")?;
        let uri = BufReader::new(stdout).lines().next_line().await?;
        let uri = uri.context("the robot's process ended before it was ready")?;
        Ok(Self { child, uri })
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = tokio::time::timeout(FAREWELL, self.child.wait())
            .await
            .context("the robot's process does not end")??;
        anyhow::ensure!(status.success(), "the robot's process failed: {status}");
        Ok(())
    }
}
