//! The robot's process.

use chiral_blocking::{PolicyServer, ServerConfig};
use chiral_proto::Rate;
use chiral_proto::server::ActionQueue;
use chiral_sim::episode::OBSERVATION_HZ;
use clap::{Args, ValueEnum as _};

use super::robot::DemoRobot;
use crate::helper::{self, Helper};
use crate::output;
use crate::robot::fault::Fault;
use crate::robot::{Scene, Size, Spec};
use crate::transport::Transport;

/// The robot's name, where robots have one.
pub(super) const NAME: &str = "demo";

/// The robot of `chiral demo`; started by it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    size: Size,
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    #[arg(long)]
    fast: bool,
    #[arg(long = "break", value_enum)]
    fault: Option<Fault>,
}

/// Serves the arm on a port of the system's choice, told on standard output, until standard input
/// ends: the demo holds the other end, so that this process never outlives it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let &Options { seed, size, transport, fast, fault } = options;
    let spec = Spec {
        scene: Scene::Arm,
        cameras: None,
        size,
        depth: true,
        proprios: Vec::new(),
        rate: Rate::hz(OBSERVATION_HZ)?,
        seed,
    };
    spec.check()?;
    let mut config = ServerConfig::default();
    // Each action is one step of the simulated time in a fast demo.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
    let server = PolicyServer::bind_with(&transport.loopback(NAME)?, config)?;
    server.spawn(DemoRobot::start(spec, fast, fault)?)?;
    output::print(&format!("{}\n", server.uri()?))?;
    helper::wait_for_end()?;
    server.shutdown();
    Ok(())
}

/// Starts the robot; where it is to be reached comes too.
pub(super) fn start(options: &super::Options) -> anyhow::Result<(Helper, String)> {
    let mut arguments = vec![
        "demo-robot".to_owned(),
        format!("--seed={}", options.seed),
        format!("--size={}", options.size()),
        format!("--transport={}", options.transport),
    ];
    if options.fast {
        arguments.push("--fast".to_owned());
    }
    if let Some(fault) = options.fault.and_then(|fault| fault.to_possible_value()) {
        arguments.push(format!("--break={}", fault.get_name()));
    }
    let mut robot = Helper::start(&arguments)?;
    let uri = robot.next_line()?;
    Ok((robot, uri))
}
