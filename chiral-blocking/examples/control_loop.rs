//! A robot with a control loop of its own, at 1 kHz, that pulls its actions:
//! `cargo run --release --example control_loop`, then the example `blocking_client` in another
//! terminal. Ctrl-C ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chiral_blocking::proto::sensors::{CameraFrame, Sensors};
use chiral_blocking::proto::{ActionSpec, CameraConfig, Map, ProprioConfig, server};
use chiral_blocking::{PolicyServer, ServerConfig, Watchdog, monotonic_seconds};

const PERIOD: Duration = Duration::from_millis(1);
/// Radians per period.
const MAX_STEP: f32 = 0.001;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // who connects, and what fails

    let camera = CameraConfig::new("wrist_cam", [480, 640, 3]);
    let joints = ProprioConfig::new("joint_pos", 7);
    let sensors = Sensors::with_clock([camera], [joints], monotonic_seconds)?;
    let wrist = sensors.camera("wrist_cam")?;
    std::thread::spawn(move || {
        for brightness in (0_u8..=255).cycle() {
            let image = vec![brightness; 480 * 640 * 3]; // from your camera's driver
            wrist.publish(CameraFrame::new().image(image)).expect("it is as declared");
            std::thread::sleep(Duration::from_millis(33));
        }
    });

    let config = ServerConfig {
        // Only 7 finite numbers reach the loop.
        machine: server::Config { action_spec: ActionSpec::vector(7), ..Default::default() },
        // The default of a robot that pulls, written out.
        watchdog: Watchdog::After(Duration::from_millis(500)),
        ..ServerConfig::default()
    };
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
    let server = PolicyServer::bind_with(&address, config)?;
    let mut commands = server.pull(&sensors, Map::new().with("robot", "arm-3"))?;
    println!("serving at {}", server.uri()?);

    let interrupted = Arc::new(AtomicBool::new(false));
    let interrupt = Arc::clone(&interrupted);
    ctrlc::set_handler(move || interrupt.store(true, Ordering::Relaxed))?;

    let mut position = [0.0_f32; 7]; // radians; read from your arm
    let mut target = position;
    let mut was_holding = true;
    let mut tick = Instant::now();
    while !interrupted.load(Ordering::Relaxed) {
        // Neither this nor anything else here waits for the network.
        while let Some(action) = commands.try_next_action() {
            target = action.to_array()?;
        }
        let must_hold = commands.must_hold();
        if must_hold {
            target = position; // the policy has gone, or is silent: stay where the arm is
        }
        if must_hold != was_holding {
            println!("{}", if must_hold { "holding still" } else { "moving" });
            was_holding = must_hold;
        }
        for (position, target) in position.iter_mut().zip(target) {
            *position += (target - *position).clamp(-MAX_STEP, MAX_STEP);
        }
        sensors.update_proprio("joint_pos", &position)?;
        tick += PERIOD;
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
    }
    println!("holding still");
    drop(commands); // the policy is told that the control loop has ended
    Ok(())
}
