//! The robot that is measured, in a process of its own.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::stats::Histogram;
use chiral_proto::{Action, Map, Rate, ResetResult};
use chiral_tokio::{
    PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, monotonic_seconds,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{Transport, floor, measure};
use crate::output;
use crate::robot::{Scene, SimulatedRobot, Size, Spec};

/// The first element of an action whose second is the time at which it was sent.
pub(super) const MARK: f64 = 8765.0;

/// CPU seconds that this process has used.
fn process_cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

/// The measured side of `chiral bench`; started by it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    cameras: usize,
    #[arg(long, default_value_t = 0)]
    observe_takes_ms: u64,
}

/// Where a server process is to be reached.
#[derive(Debug, Serialize, Deserialize)]
struct Addresses {
    ws: String,
    tungstenite: String,
    floor: String,
    payload_len: usize,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let robot = Arc::new(BenchRobot::new(&options)?);
    let payload_len = measure::payload_len(&robot.sensors().snapshot_now());
    let server = PolicyServer::bind("127.0.0.1:0").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = Addresses {
        ws: format!("ws://{}", server.local_addr()?),
        tungstenite: listener.local_addr()?.to_string(),
        floor: floor::serve(payload_len)?,
        payload_len,
    };
    output::print(&format!("{}\n", serde_json::to_string(&addresses)?))?;
    let upgraded = Arc::clone(&robot);
    tokio::spawn(async move { serve_tungstenite(listener, upgraded).await });
    let until_shutdown = server.serve(robot);
    // The parent holds the other end of standard input; when it goes, so does this process.
    let mut parent = BufReader::new(tokio::io::stdin()).lines();
    tokio::select! {
        ended = until_shutdown => ended?,
        _ = parent.next_line() => {}
    }
    Ok(())
}

async fn serve_tungstenite(listener: TcpListener, robot: impl Robot + Clone) {
    let server = PolicyServer::unbound(ServerConfig::default());
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = chiral_tokio::Stream::new(stream) else { continue };
        let config = Some(unlimited());
        if let Ok(stream) = async_tungstenite::accept_async_with_config(stream, config).await {
            server.serve_websocket(stream, robot.clone()).await;
        }
    }
}

fn unlimited() -> async_tungstenite::tungstenite::protocol::WebSocketConfig {
    async_tungstenite::tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
}

/// A simulated robot that measures how long the actions that it gets were under way. A reset makes
/// it forget what it measured.
struct BenchRobot {
    simulated: SimulatedRobot,
    observe_takes: Duration,
    latency: Mutex<Histogram>,
}

impl BenchRobot {
    /// The cameras' noise costs next to nothing, so that the transport is what is measured.
    fn new(options: &Options) -> anyhow::Result<Self> {
        let spec = Spec {
            scene: Scene::Noise,
            cameras: Some(options.cameras),
            size: Size { width: 640, height: 480 },
            depth: true,
            proprios: Vec::new(),
            rate: Rate::hz(30.0)?,
            seed: 1,
        };
        Ok(Self {
            simulated: SimulatedRobot::start(spec, ())?,
            observe_takes: Duration::from_millis(options.observe_takes_ms),
            latency: Mutex::default(),
        })
    }

    fn latency(&self) -> MutexGuard<'_, Histogram> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Robot for BenchRobot {
    fn sensors(&self) -> &Sensors {
        self.simulated.sensors()
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        if !self.observe_takes.is_zero() {
            tokio::time::sleep(self.observe_takes).await;
        }
        Ok(Answer::from(self.sensors()))
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let now = monotonic_seconds();
        if let [mark, sent_at] = action.values.to_f64()[..]
            && mark.to_bits() == MARK.to_bits()
        {
            self.latency().record(Duration::from_secs_f64((now - sent_at).max(0.0)));
        }
        Ok(())
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        let latency = self.latency();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Ok(Map::new()
            .with("robot", "chiral bench")
            .with("action_p50_ms", ms(latency.quantile(0.5)))
            .with("action_p99_ms", ms(latency.quantile(0.99)))
            .with("action_max_ms", ms(latency.max()))
            .with("action_count", latency.count() as f64)
            .with("cpu_seconds", process_cpu_seconds()))
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        *self.latency() = Histogram::default();
        Ok(ResetResult::default())
    }
}

/// A running server process. Dropped, it is killed.
pub(super) struct ServerProcess {
    child: Child,
    addresses: Addresses,
    pub(super) floor: String,
    pub(super) payload_len: usize,
}

impl ServerProcess {
    pub(super) async fn start(cameras: usize, observe_takes_ms: u64) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut child = Command::new(program)
            .args(["bench-server", "--cameras", &cameras.to_string()])
            .args(["--observe-takes-ms", &observe_takes_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the server process did not start")?;
        let stdout = child.stdout.take().context("the server's output is piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.context("the server process ended before it was ready")?;
        let addresses: Addresses = serde_json::from_str(&line)?;
        let (floor, payload_len) = (addresses.floor.clone(), addresses.payload_len);
        Ok(Self { child, addresses, floor, payload_len })
    }

    pub(super) async fn connect(&self, transport: Transport) -> anyhow::Result<PolicyClient> {
        match transport {
            Transport::Ws => Ok(PolicyClient::connect(&self.addresses.ws).await?),
            Transport::Tungstenite => {
                let address = &self.addresses.tungstenite;
                let stream = chiral_tokio::Stream::new(TcpStream::connect(address).await?)?;
                let uri = format!("ws://{address}");
                let config = Some(unlimited());
                let (stream, _) =
                    async_tungstenite::client_async_with_config(uri, stream, config).await?;
                Ok(PolicyClient::from_websocket(stream))
            }
        }
    }

    /// CPU seconds of both processes so far.
    pub(super) async fn cpu_seconds(&self, client: &PolicyClient) -> anyhow::Result<f64> {
        let metadata = client.metadata().await?;
        Ok(process_cpu_seconds() + measure::number(&metadata, "cpu_seconds")?)
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().await?;
        Ok(())
    }
}
