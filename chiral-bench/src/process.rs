//! The robot that is measured, in a process of its own: a server for each line, and the bare
//! transports.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chiral_blocking::Robot as _;
use chiral_cli::bench::{BenchRobot, Deliver, Exchange, Subject, floor, payload_len};
use chiral_cli::helper::{self, Helper};
use chiral_cli::output;
use chiral_driver::{ServerConfig, TlsServer};
use chiral_proto::server::ActionQueue;
use chiral_tests::adapter::Serving;
use chiral_tests::adapters;
use chiral_tests::certificates::Identity;
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
    /// Of the certificate of those lines that are on TLS.
    fingerprint: String,
    payload_len: usize,
}

/// The robots of the process. One is for all lines whose cameras write to the heap: more of them
/// would write beside the one that is measured, and hold up its actions.
struct Robots {
    #[cfg(feature = "zenoh-shm")]
    cameras: usize,
    observe_takes: Duration,
    on_heap: Arc<BenchRobot>,
}

impl Robots {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let heap: Deliver = Arc::new(|picture| picture);
        Ok(Self {
            #[cfg(feature = "zenoh-shm")]
            cameras: options.cameras,
            observe_takes: Duration::from_millis(options.observe_takes_ms),
            on_heap: Arc::new(BenchRobot::start(options.cameras, &heap)?),
        })
    }

    fn on_heap(&self) -> SlowRobot {
        SlowRobot::new(Arc::clone(&self.on_heap), self.observe_takes)
    }

    /// A robot whose cameras copy their pictures to shared memory, if there is any. Where it is
    /// full, a picture stays on the heap.
    #[cfg(feature = "zenoh-shm")]
    fn in_shared_memory(
        &self,
        memory: Option<Arc<chiral_zenoh::SharedMemory>>,
    ) -> io::Result<SlowRobot> {
        let Some(memory) = memory else { return Ok(self.on_heap()) };
        let deliver: Deliver = Arc::new(move |picture| {
            let Some(mut buffer) = memory.buffer(picture.len()) else { return picture };
            buffer.copy_from_slice(&picture);
            buffer.freeze()
        });
        let robot = BenchRobot::start(self.cameras, &deliver).map_err(io::Error::other)?;
        Ok(SlowRobot::new(Arc::new(robot), self.observe_takes))
    }
}

/// The robot for a server, by the memory that the server has.
#[cfg(feature = "zenoh-shm")]
macro_rules! robot_for {
    ($robots:expr, $server:expr) => {
        $robots.in_shared_memory($server.acceptor_extension())?
    };
}
#[cfg(not(feature = "zenoh-shm"))]
macro_rules! robot_for {
    ($robots:expr, $server:expr) => {{
        let _ = $server;
        $robots.on_heap()
    }};
}

/// Serves the robot on a line.
fn serve(line: Line, tls: &TlsServer, robots: &Robots) -> anyhow::Result<Box<dyn Serving>> {
    if line.transport == Transport::Tungstenite {
        return Ok(Box::new(tungstenite::Server::start(robots.on_heap())?));
    }
    let mut config = ServerConfig::default();
    // Each action is timed.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
    if line.transport == Transport::Wss {
        config.tls = Some(tls.clone());
    }
    let address = line.transport.address();
    Ok(match line.adapter {
        Adapter::Tokio => adapters::tokio::ADAPTER.start(address, config, |server| {
            Ok(OnTasks::<chiral_tokio::Tokio>::new(robot_for!(robots, server)))
        }),
        Adapter::Smol => adapters::smol::ADAPTER.start(address, config, |server| {
            Ok(OnTasks::<chiral_smol::Smol>::new(robot_for!(robots, server)))
        }),
        Adapter::Blocking => adapters::blocking::ADAPTER
            .start(address, config, |server| Ok(robot_for!(robots, server))),
    }?)
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let lines = &options.lines.0;
    let robots = Robots::start(options)?;
    let payload_len = payload_len(&robots.on_heap.sensors().snapshot_now());
    let tls = Identity::self_signed().server();
    let servers =
        lines.iter().map(|&line| serve(line, &tls, &robots)).collect::<anyhow::Result<Vec<_>>>()?;
    let is_bare_wanted = lines.iter().any(|line| line.transport.is_zenoh());
    let bare = is_bare_wanted.then(|| bare::Server::start(payload_len)).transpose()?;
    let addresses = Addresses {
        lines: servers.iter().map(|server| server.uri()).collect(),
        floor: floor::serve(payload_len)?,
        bare: bare.as_ref().map(|server| server.endpoint().to_owned()),
        fingerprint: tls.fingerprint(),
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
            let policy = Measured::connect(line, address, &self.addresses.fingerprint)?;
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
