//! The robot that is measured, in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chiral_blocking::Robot as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::measure::Yardsticks;
use super::robot::{self, BenchRobot, process_cpu_seconds};
use super::{Line, Transport, bare, floor, measure, tungstenite};
use crate::adapter::{self, Client, Settings};
use crate::helper::{self, Helper};
use crate::output;
use crate::robot::{Memory, SimulatedRobot};

/// The measured side of `chiral bench`; started by it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    cameras: usize,
    #[arg(long, default_value_t = 0)]
    observe_takes_ms: u64,
    /// What to serve the robot on, as JSON.
    #[arg(long, value_parser = lines)]
    lines: Lines,
}

/// The lines to serve the robot on: each has a server of its own.
#[derive(Debug, Clone)]
struct Lines(Vec<Line>);

fn lines(json: &str) -> Result<Lines, serde_json::Error> {
    serde_json::from_str(json).map(Lines)
}

/// Where a server process is to be reached.
#[derive(Debug, Serialize, Deserialize)]
struct Addresses {
    /// As the lines were given.
    lines: Vec<String>,
    floor: String,
    /// Where bare Zenoh is measured, if a line is on Zenoh.
    bare: Option<String>,
    payload_len: usize,
}

enum Server {
    Ours(adapter::Server),
    Tungstenite(tungstenite::Server),
}

impl Server {
    fn start(line: Line, options: &Options, noisy: &Arc<SimulatedRobot>) -> anyhow::Result<Self> {
        let observe_takes = Duration::from_millis(options.observe_takes_ms);
        let robot = |simulated| Arc::new(BenchRobot::new(simulated, observe_takes));
        let robot_in = |memory: &Memory| {
            let simulated = match line.transport {
                // Its cameras write to this server's memory.
                Transport::ZenohShm => Arc::new(robot::noisy(memory, options.cameras)?),
                _ => Arc::clone(noisy),
            };
            Ok(robot(simulated))
        };
        Ok(match line.transport.ours() {
            None => Self::Tungstenite(tungstenite::Server::start(robot(Arc::clone(noisy)))?),
            Some(transport) => {
                let address = transport.loopback("bench")?;
                Self::Ours(adapter::Server::start_with(line.adapter, &address, robot_in)?)
            }
        })
    }

    /// Zenoh must be shut down before the process ends.
    fn end(self) {
        match self {
            Self::Ours(server) => server.shutdown(),
            Self::Tungstenite(server) => drop(server),
        }
    }

    fn address(&self) -> anyhow::Result<String> {
        Ok(match self {
            Self::Ours(server) => server.uri()?,
            Self::Tungstenite(server) => server.address().to_owned(),
        })
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let noisy = Arc::new(robot::noisy(&Memory::default(), options.cameras)?);
    let payload_len = measure::payload_len(&noisy.sensors().snapshot_now());
    let lines = &options.lines.0;
    let start = |&line| Server::start(line, options, &noisy);
    let servers = lines.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let is_bare_wanted = lines.iter().any(|line| line.transport.is_zenoh());
    let bare = is_bare_wanted.then(|| bare::Server::start(payload_len)).transpose()?;
    let addresses = Addresses {
        lines: servers.iter().map(Server::address).collect::<anyhow::Result<_>>()?,
        floor: floor::serve(payload_len)?,
        bare: bare.as_ref().map(|server| server.endpoint().to_owned()),
        payload_len,
    };
    output::print(&format!("{}\n", serde_json::to_string(&addresses)?))?;
    helper::wait_for_end()?;
    servers.into_iter().for_each(Server::end);
    Ok(())
}

/// A running server process. Dropped, it is killed.
pub(super) struct ServerProcess {
    helper: Helper,
    lines: Vec<Line>,
    addresses: Addresses,
}

impl ServerProcess {
    pub(super) fn start(
        cameras: usize,
        observe_takes_ms: u64,
        lines: &[Line],
    ) -> anyhow::Result<Self> {
        let mut helper = Helper::start(&[
            "bench-server".to_owned(),
            format!("--cameras={cameras}"),
            format!("--observe-takes-ms={observe_takes_ms}"),
            format!("--lines={}", serde_json::to_string(lines)?),
        ])?;
        let line = helper.next_line().context("the server process was not ready")?;
        Ok(Self { helper, lines: lines.to_vec(), addresses: serde_json::from_str(&line)? })
    }

    /// Bytes of an observation's sensor data.
    pub(super) fn payload_len(&self) -> usize {
        self.addresses.payload_len
    }

    /// What the lines are measured beside.
    pub(super) fn yardsticks(&self) -> anyhow::Result<Yardsticks> {
        let Addresses { floor, bare, payload_len, .. } = &self.addresses;
        Ok(Yardsticks {
            floor: floor::Client::connect(floor, *payload_len)?,
            bare: bare.as_deref().map(|at| bare::Client::connect(at, *payload_len)).transpose()?,
        })
    }

    pub(super) fn connect(&self, line: Line) -> anyhow::Result<Client> {
        let mut served = self.lines.iter().zip(&self.addresses.lines);
        let (_, address) = served.find(|(known, _)| **known == line).context("it is served")?;
        match line.transport {
            Transport::Tungstenite => tungstenite::connect(address),
            _ => Client::connect(line.adapter, address, Settings::default()),
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.helper.stop()
    }
}

/// CPU seconds of both processes so far.
pub(super) fn cpu_seconds(client: &Client) -> anyhow::Result<f64> {
    let metadata = client.metadata()?;
    Ok(process_cpu_seconds() + measure::number(&metadata, "cpu_seconds")?)
}
