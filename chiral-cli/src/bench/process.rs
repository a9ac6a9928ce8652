//! The robot that is measured, in a process of its own.

use std::sync::Arc;

use anyhow::Context as _;
use chiral_blocking::{PolicyServer, Robot as _, ServerConfig};
use chiral_proto::server::ActionQueue;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::floor;
use super::robot::{BenchRobot, payload_len};
use crate::helper::{self, Helper};
use crate::output;

/// The robot of `chiral bench`; started by it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    cameras: usize,
}

/// Where a robot's process is to be reached.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Addresses {
    pub(super) robot: String,
    pub(super) floor: String,
    /// Bytes of an observation's sensor data.
    pub(super) payload_len: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let robot = BenchRobot::start(options.cameras, &(Arc::new(|picture| picture) as _))?;
    let payload_len = payload_len(&robot.sensors().snapshot_now());
    let mut config = ServerConfig::default();
    // Each action is timed.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
    let server = PolicyServer::bind_with("127.0.0.1:0", config)?;
    server.spawn(robot)?;
    let addresses =
        Addresses { robot: server.uri()?, floor: floor::serve(payload_len)?, payload_len };
    output::print(&format!("{}\n", serde_json::to_string(&addresses)?))?;
    helper::wait_for_end()?;
    server.shutdown();
    Ok(())
}

/// Starts a robot; where it is to be reached comes too.
pub(super) fn start(cameras: usize) -> anyhow::Result<(Helper, Addresses)> {
    let arguments = ["bench-robot".to_owned(), format!("--cameras={cameras}")];
    let mut process = Helper::start(&arguments)?;
    let line = process.next_line().context("the robot's process was not ready")?;
    Ok((process, serde_json::from_str(&line)?))
}
