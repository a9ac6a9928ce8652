//! The robot that is measured, in a process of its own: a server for each line, and the bare
//! transports.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chiral_blocking::Robot as _;
use chiral_cli::bench::{Deliver, Exchange, Subject, floor, payload_len};
use chiral_cli::helper::{self, Helper};
use chiral_cli::output;
use chiral_driver::ServerConfig;
use chiral_proto::server::ActionQueue;
use chiral_tests::adapter::Serving;
use chiral_tests::adapters;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::line::{Adapter, Line, Transport};
use crate::policy::Measured;
use crate::robot::{OnTasks, SlowRobot};
use crate::{bare, tungstenite};

/// The robot's process.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    cameras: usize,
    #[arg(long)]
    observe_takes_ms: u64,
    /// What to serve the robot on, as JSON.
    #[arg(long, value_parser = lines)]
    lines: Lines,
}

#[derive(Debug, Clone)]
struct Lines(Vec<Line>);

fn lines(json: &str) -> Result<Lines, serde_json::Error> {
    serde_json::from_str(json).map(Lines)
}

/// Where the robot's process is to be reached.
#[derive(Debug, Serialize, Deserialize)]
struct Addresses {
    /// As the lines were given.
    lines: Vec<String>,
    floor: String,
    /// Where bare Zenoh is measured, if a line is on Zenoh.
    bare: Option<String>,
    payload_len: usize,
}

/// What a robot that is made for a server gets of its memory.
#[cfg(feature = "zenoh-shm")]
macro_rules! deliver_to {
    ($server:expr) => {
        into_shared_memory($server.acceptor_extension())
    };
}
#[cfg(not(feature = "zenoh-shm"))]
macro_rules! deliver_to {
    ($server:expr) => {{
        let _ = $server;
        as_it_is()
    }};
}

/// A camera whose pictures stay on the heap.
fn as_it_is() -> Deliver {
    Arc::new(|picture| picture)
}

/// A camera that writes to shared memory, if there is any: a picture is copied there. Where it is
/// full, the picture stays on the heap.
#[cfg(feature = "zenoh-shm")]
fn into_shared_memory(memory: Option<Arc<chiral_zenoh::SharedMemory>>) -> Deliver {
    let Some(memory) = memory else { return as_it_is() };
    Arc::new(move |picture| {
        let Some(mut buffer) = memory.buffer(picture.len()) else { return picture };
        buffer.copy_from_slice(&picture);
        buffer.freeze()
    })
}

/// Serves a robot of its own on a line.
fn serve(line: Line, options: &Options) -> anyhow::Result<Box<dyn Serving>> {
    let observe_takes = Duration::from_millis(options.observe_takes_ms);
    let robot = |deliver: &Deliver| {
        SlowRobot::start(options.cameras, observe_takes, deliver).map_err(io::Error::other)
    };
    if line.transport == Transport::Tungstenite {
        return Ok(Box::new(tungstenite::Server::start(robot(&as_it_is())?)?));
    }
    let mut config = ServerConfig::default();
    // Each action is timed.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
    let address = line.transport.address();
    Ok(match line.adapter {
        Adapter::Tokio => adapters::tokio::ADAPTER.start(address, config, |server| {
            Ok(OnTasks::<chiral_tokio::Tokio>::new(robot(&deliver_to!(server))?))
        }),
        Adapter::Smol => adapters::smol::ADAPTER.start(address, config, |server| {
            Ok(OnTasks::<chiral_smol::Smol>::new(robot(&deliver_to!(server))?))
        }),
        Adapter::Blocking => {
            adapters::blocking::ADAPTER.start(address, config, |server| robot(&deliver_to!(server)))
        }
    }?)
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let lines = &options.lines.0;
    let payload_len = {
        let robot = SlowRobot::start(options.cameras, Duration::ZERO, &as_it_is())?;
        payload_len(&robot.sensors().snapshot_now())
    };
    let servers =
        lines.iter().map(|&line| serve(line, options)).collect::<anyhow::Result<Vec<_>>>()?;
    let is_bare_wanted = lines.iter().any(|line| line.transport.is_zenoh());
    let bare = is_bare_wanted.then(|| bare::Server::start(payload_len)).transpose()?;
    let addresses = Addresses {
        lines: servers.iter().map(|server| server.uri()).collect(),
        floor: floor::serve(payload_len)?,
        bare: bare.as_ref().map(|server| server.endpoint().to_owned()),
        payload_len,
    };
    output::print(&format!("{}\n", serde_json::to_string(&addresses)?))?;
    helper::wait_for_end()?;
    // Zenoh must be shut down before the process ends.
    servers.iter().for_each(|server| server.shut_down());
    Ok(())
}

/// A running process of the robot. Dropped, it is killed.
pub(crate) struct RobotProcess {
    helper: Helper,
    lines: Vec<Line>,
    addresses: Addresses,
}

impl RobotProcess {
    pub(crate) fn start(
        cameras: usize,
        observe_takes_ms: u64,
        lines: &[Line],
    ) -> anyhow::Result<Self> {
        let mut helper = Helper::start(&[
            "robot".to_owned(),
            format!("--cameras={cameras}"),
            format!("--observe-takes-ms={observe_takes_ms}"),
            format!("--lines={}", serde_json::to_string(lines)?),
        ])?;
        let line = helper.next_line().context("the robot's process was not ready")?;
        Ok(Self { helper, lines: lines.to_vec(), addresses: serde_json::from_str(&line)? })
    }

    /// Bytes of an observation's sensor data.
    pub(crate) fn payload_len(&self) -> usize {
        self.addresses.payload_len
    }

    /// The bare socket.
    pub(crate) fn floor(&self) -> io::Result<floor::Client> {
        floor::Client::connect(&self.addresses.floor, self.payload_len())
    }

    /// Connects a policy on each line.
    pub(crate) fn connect(&self) -> anyhow::Result<Vec<Subject>> {
        let bare = self.addresses.bare.as_deref();
        let bare = bare.map(|at| bare::Client::connect(at, self.payload_len())).transpose()?;
        let bare = Rc::new(RefCell::new(bare));
        let connect = |(&line, address): (&Line, &String)| {
            let policy = Measured::connect(line, address)?;
            let shared_memory = policy.shares_memory(line)?;
            let bare = Rc::clone(&bare);
            let exchange = move || match &mut *bare.borrow_mut() {
                Some(client) => client.exchange(),
                None => anyhow::bail!("bare Zenoh is not measured"),
            };
            let bare = line.transport.is_zenoh().then(|| Box::new(exchange) as Exchange);
            Ok(Subject {
                adapter: line.adapter.name(),
                transport: line.transport.name(),
                connection: Box::new(policy),
                bare,
                shared_memory,
            })
        };
        self.lines.iter().zip(&self.addresses.lines).map(connect).collect()
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.helper.stop()
    }
}
