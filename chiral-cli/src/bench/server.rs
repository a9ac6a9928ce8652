//! The robot that is measured, in a process of its own.

use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::stats::Histogram;
use chiral_proto::{Action, Array, CameraConfig, Map, ResetResult};
use chiral_tokio::{PolicyClient, PolicyServer, Robot, RobotError, ServerConfig};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{Transport, floor, measure};

const HEIGHT: usize = 480;
const WIDTH: usize = 640;

/// The first element of an action whose second is the time at which it was sent.
pub(super) const MARK: f64 = 8765.0;

/// Nanoseconds of a clock that all processes of the machine share.
pub(super) fn monotonic_nanos() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

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
    let (robot, payload_len) = BenchRobot::new(options.cameras)?;
    let robot = std::sync::Arc::new(robot);
    let server = PolicyServer::bind("127.0.0.1:0").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = Addresses {
        ws: format!("ws://{}", server.local_addr()?),
        tungstenite: listener.local_addr()?.to_string(),
        floor: floor::serve(payload_len)?,
        payload_len,
    };
    println!("{}", serde_json::to_string(&addresses)?);
    let upgraded = std::sync::Arc::clone(&robot);
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

/// A robot whose cameras deliver at 30 Hz at no cost, and which measures how long the actions that
/// it gets were under way. A reset makes it forget what it measured.
struct BenchRobot {
    sensors: Sensors,
    latency: Mutex<Histogram>,
}

impl BenchRobot {
    fn new(cameras: usize) -> anyhow::Result<(Self, usize)> {
        let configs = (0..cameras).map(|index| {
            CameraConfig::new(format!("cam_{index}"), [HEIGHT, WIDTH, 3]).depth([HEIGHT, WIDTH])
        });
        let sensors = Sensors::new(configs, [])?;
        let payload_len = measure::payload_len(&sensors.snapshot(0.0));
        let thread_sensors = sensors.clone();
        std::thread::Builder::new().name("cameras".to_owned()).spawn(move || {
            // Each camera has two frames of its own, handed over whole in turns: it costs nothing,
            // so that the transport is what is measured, and it is as much memory as real cameras'.
            let frames = |pixel: u8| -> Vec<_> {
                let frame = |_| {
                    let image = vec![pixel; HEIGHT * WIDTH * 3];
                    let depth = vec![f32::from(pixel) / 100.0; HEIGHT * WIDTH];
                    let image = Array::from_vec([HEIGHT, WIDTH, 3], image);
                    let depth = Array::from_vec([HEIGHT, WIDTH], depth);
                    (image.expect("the shape fits"), depth.expect("the shape fits"))
                };
                (0..cameras).map(frame).collect()
            };
            for frames in [frames(1), frames(255)].iter().cycle() {
                for (camera, (image, depth)) in thread_sensors.cameras().zip(frames) {
                    let frame = CameraFrame::new()
                        .image(image.clone())
                        .depth(depth.clone())
                        .captured_at(monotonic_nanos() * 1e-9);
                    camera.publish(frame).expect("the frame is as declared");
                }
                std::thread::sleep(Duration::from_millis(33));
            }
        })?;
        Ok((Self { sensors, latency: Mutex::default() }, payload_len))
    }

    fn latency(&self) -> std::sync::MutexGuard<'_, Histogram> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Robot for BenchRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let now = monotonic_nanos();
        if let [mark, sent_at] = action.values.to_f64()[..]
            && mark.to_bits() == MARK.to_bits()
        {
            self.latency().record(Duration::from_nanos((now - sent_at).max(0.0) as u64));
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
    pub(super) async fn start(cameras: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut child = Command::new(program)
            .args(["bench-server", "--cameras", &cameras.to_string()])
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
