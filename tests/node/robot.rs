use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chiral_blocking::{PolicyServer, Robot, RobotError, ServerConfig};
use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::server::{ActionQueue, Answer};
use chiral_proto::{Action, CameraConfig, ConnectionError, Map};

use crate::counts::Counts;
use crate::{say, wait_for_end};

/// Pixels of each camera of a robot that has several, and of one that has only one.
const LARGE: [usize; 2] = [480, 640];
const SMALL: [usize; 2] = [48, 64];

/// A robot whose pixels are all its number.
struct Numbered {
    number: u8,
    sensors: Sensors,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    /// The next expected action of the connected policy, and the number of the next observation.
    next_action: u64,
    next_observation: u64,
}

pub(crate) fn serve(address: &str, number: u8, cameras: usize) -> Result<(), Box<dyn Error>> {
    let robot = Arc::new(Numbered::new(number, cameras)?);
    let mut config = ServerConfig::default();
    // Every action counts, also those that come while the robot was not scheduled.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 4096 };
    let server = PolicyServer::bind_with(address, config)?;
    server.spawn(Arc::clone(&robot))?;
    say(&format!("ready {}", server.uri()?));
    wait_for_end();
    server.shutdown();
    say(&robot.lock().counts.to_string());
    Ok(())
}

impl Numbered {
    fn new(number: u8, cameras: usize) -> Result<Self, Box<dyn Error>> {
        let [height, width] = if cameras == 1 { SMALL } else { LARGE };
        let configs = (0..cameras).map(|index| {
            CameraConfig::new(format!("cam_{index}"), [height, width, 3]).depth([height, width])
        });
        let sensors = Sensors::new(configs, [])?;
        for camera in sensors.cameras() {
            let image = vec![number; height * width * 3];
            let depth = vec![f32::from(number); height * width];
            camera.publish(CameraFrame::new().image(image).depth(depth).captured_at(0.0))?;
        }
        Ok(Self { number, sensors, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Robot for Numbered {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("number", u64::from(self.number)))
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        let mut state = self.lock();
        let number = state.next_observation;
        state.next_observation += 1;
        state.counts.observations += 1;
        drop(state);
        let mut observation = self.sensors.snapshot(number as f64);
        observation.extra = Map::new().with("number", u64::from(self.number));
        Ok(observation.into())
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let values = action.to_f32();
        let [whose, number] = values[..] else {
            return Err(format!("found {} values, expected 2", values.len()).into());
        };
        let mut state = self.lock();
        if (whose - f32::from(self.number)).abs() < 0.5 {
            state.counts.actions += 1;
        } else {
            state.counts.foreign += 1;
        }
        if number as u64 != state.next_action {
            state.counts.astray += 1;
        }
        state.next_action = number as u64 + 1;
        Ok(())
    }

    fn on_connect(&self) {
        let mut state = self.lock();
        (state.next_action, state.next_observation) = (0, 0);
        state.counts.connections += 1;
        drop(state);
        say("connected");
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        say(&format!("disconnected {reason}"));
    }
}
