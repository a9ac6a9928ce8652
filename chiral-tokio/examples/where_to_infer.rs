//! What a model that computes for a tenth of a second does to the rates of a policy, by where it is
//! called: observations are asked for at 30 Hz, actions dispatched at 50 Hz. The robot is in this
//! process, on threads of its own.
//!
//! `cargo run --release --example where_to_infer`, or with the seconds of each row: `… -- 10`.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_tokio::proto::sensors::{CameraFrame, Sensors};
use chiral_tokio::proto::{Action, ActionSpec, CameraConfig, Observation, Rate, client, server};
use chiral_tokio::{
    PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds,
};
use tokio::runtime::{Builder, Runtime};

/// How long the model computes. It blocks its thread for that long, as a call of most frameworks
/// does.
const INFERENCE: Duration = Duration::from_millis(100);

struct Arm(Sensors);

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.0
    }

    async fn apply_action(&self, _: Action) -> Result<(), RobotError> {
        Ok(())
    }
}

/// Serves an arm until the end of the process, and says where.
fn serve_arm(address: &mpsc::Sender<String>) -> anyhow::Result<()> {
    let camera = CameraConfig::new("wrist_cam", [480, 640, 3]);
    let sensors = Sensors::with_clock([camera], [], monotonic_seconds)?;
    let wrist = sensors.camera("wrist_cam")?;
    std::thread::spawn(move || {
        loop {
            let image = vec![0_u8; 480 * 640 * 3];
            wrist.publish(CameraFrame::new().image(image)).expect("it is as declared");
            std::thread::sleep(Duration::from_millis(33));
        }
    });
    let config = ServerConfig {
        machine: server::Config { action_spec: ActionSpec::vector(7), ..Default::default() },
        watchdog: Watchdog::After(Duration::from_millis(500)), // this arm never moves
        ..ServerConfig::default()
    };
    Runtime::new()?.block_on(async {
        let server = PolicyServer::bind_with("127.0.0.1:0", config).await?;
        address.send(server.uri()?)?;
        Ok(server.serve(Arm(sensors)).await?)
    })
}

/// Stands for your model: the joint targets of half a second from one observation.
fn infer(observation: &Observation) -> Vec<[f32; 7]> {
    std::thread::sleep(INFERENCE);
    vec![[observation.timestamp as f32; 7]; 25]
}

async fn policy(uri: String, inline: bool, duration: Duration) -> anyhow::Result<client::Stats> {
    let robot = PolicyClient::connect(&uri).await?;
    robot.start_obs_stream(Rate::hz(30)?)?;
    robot.start_action_dispatch(Rate::hz(50)?)?;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let observation = robot.next_obs().await?;
        let plan = if inline {
            infer(&observation)
        } else {
            let observation = observation.clone();
            tokio::task::spawn_blocking(move || infer(&observation)).await?
        };
        robot.follow(&observation, plan)?;
    }
    let stats = robot.stats();
    robot.close().await;
    Ok(stats)
}

fn report(place: &str, stats: &client::Stats) {
    let [observations, actions] =
        [&stats.observations, &stats.actions].map(|meter| meter.hz().unwrap_or(0.0));
    let missed = stats.dispatch_ticks_missed;
    println!("{place:46} {observations:8.1} {actions:8.1} {missed:8}");
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let seconds = std::env::args().nth(1).map_or(Ok(5.0), |seconds| seconds.parse())?;
    let duration = Duration::try_from_secs_f64(seconds)?;
    let (address, listening) = mpsc::channel();
    let robot = std::thread::spawn(move || serve_arm(&address));
    let Ok(uri) = listening.recv() else {
        return robot.join().expect("it does not panic").context("the robot did not start");
    };

    println!("{:46} {:>8} {:>8} {:>8}", "the model is called", "obs Hz", "act. Hz", "missed");
    let current_thread = Builder::new_current_thread().enable_all().build()?;
    let stats = current_thread.block_on(policy(uri.clone(), true, duration))?;
    report("on `current_thread`, inline", &stats);
    let stats = current_thread.block_on(policy(uri.clone(), false, duration))?;
    report("on `current_thread`, in `spawn_blocking`", &stats);
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stats = threads.block_on(policy(uri.clone(), true, duration))?;
    report("in `main` of a runtime of 2 threads, inline", &stats);
    let stats = threads.block_on(threads.spawn(policy(uri.clone(), true, duration)))??;
    report("in a task of a runtime of 2 threads, inline", &stats);
    Ok(())
}
