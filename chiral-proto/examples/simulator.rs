//! A simulator with a fixed step: both machines in memory, on simulated time, minutes of it in
//! milliseconds. `cargo run -p chiral-proto --example simulator`
//!
//! The machines read no clock: they take the time as a parameter, so a simulator gives them its own,
//! and a run is the same each time, however busy the computer is. Here a policy that thinks for
//! 150 ms drives a carriage on a rail over a network of 10 ms: what latency costs is known before
//! there is a robot. Put your own in the places of `Robot` and `Policy`.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "an application")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_proto::client::{self, Client};
use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::server::{self, Server};
use chiral_proto::stats::Histogram;
use chiral_proto::wire::Frame;
use chiral_proto::{Action, CameraConfig, Machine, Observation, ProprioConfig, Rate, ResetResult};

/// What the physics advance by. The rates of the policy need not be multiples of it: a tick that
/// lies between two steps comes with the later one, and the grid does not drift.
const STEP: Duration = Duration::from_millis(2);
const NETWORK: Duration = Duration::from_millis(10);
const THINKING: Duration = Duration::from_millis(150);
/// The rate of the actions.
const HZ: f32 = 50.0;
/// Pixels of the camera, a line above the rail, and the metres that one of them shows.
const PIXELS: usize = 200;
const PIXEL: f32 = 0.01;

/// The network in one direction: what was sent arrives `NETWORK` later. Frames travel as they are,
/// so no pixel is copied. (The feature `testing` has such a link with bandwidth and losses.)
#[derive(Default)]
struct Wire(VecDeque<(Instant, Frame)>);

impl Wire {
    /// The part of the loop that is the same for every application. It calls `handle_timeout` at
    /// each step; a simulator that jumps from event to event asks `poll_timeout` how far.
    fn carry(&mut self, now: Instant, from: &mut impl Machine, to: &mut impl Machine) {
        from.handle_timeout(now);
        while let Some(frame) = from.poll_transmit(now) {
            self.0.push_back((now + NETWORK, frame));
        }
        while self.0.front().is_some_and(|(arrival, _)| *arrival <= now)
            && let Some((_, frame)) = self.0.pop_front()
        {
            to.handle_frame(now, &frame);
        }
    }
}

/// The simulated robot: it goes where the last action says, at 1 m/s at the most.
pub(crate) struct Robot {
    server: Server,
    sensors: Sensors,
    /// In metres from the rail's beginning.
    position: f32,
    commanded: f32,
    pub(crate) reached: u32,
    /// How old the image was on which an action was decided, when the action came.
    pub(crate) age: Histogram,
}

impl Robot {
    /// Where the carriage is to go: another place each time, the same places each run.
    fn target(&self) -> f32 {
        0.1 + 1.8 * (self.reached as f32 * 0.618).fract()
    }

    /// One step of the physics, then what the sensors see of it.
    fn step(&mut self, time: f64, n: u32) -> Result<(), Box<dyn Error>> {
        let furthest = STEP.as_secs_f32();
        self.position += (self.commanded - self.position).clamp(-furthest, furthest);
        self.sensors.update_proprio("position", &[self.position])?;
        if n.is_multiple_of(10) {
            let mut image = vec![0_u8; PIXELS]; // the camera is slower than the physics: 50 Hz
            image[(self.target() / PIXEL) as usize] = 255;
            // The sensors have no clock either: the simulator says when the image was captured.
            self.sensors.publish("rail_cam", CameraFrame::new().image(image).captured_at(time))?;
        }
        Ok(())
    }

    fn answer(&mut self, now: Instant, time: f64) -> Result<(), Box<dyn Error>> {
        while let Some(event) = self.server.poll_event(now) {
            match event {
                server::Event::Action(action) => {
                    [self.commanded] = action.to_array()?;
                    let seen = action.obs_timestamps.and_then(|seen| seen.get("rail_cam"));
                    let age = (time - seen.unwrap_or(time)).max(0.0);
                    self.age.record(Duration::from_secs_f64(age));
                }
                server::Event::Observe(reply) => {
                    self.server.reply_observation(reply, self.sensors.snapshot(time))?;
                }
                // The policy says that it is there. The next target shows from the next step on.
                server::Event::Reset(reply) => {
                    self.reached += u32::from((self.position - self.target()).abs() <= PIXEL);
                    self.commanded = self.position;
                    let observation = self.sensors.snapshot(time);
                    let result = ResetResult { observation, ..ResetResult::default() };
                    self.server.reply_reset(reply, result)?;
                }
                // The actions have stopped: hold still.
                server::Event::Watchdog { .. } => self.commanded = self.position,
                server::Event::ActionsDropped { .. } => {} // a newer one came first
                server::Event::Disconnected(reason) => return Err(reason.into()),
                other => self.server.fail(format!("a simulation has no use for {other:?}")),
            }
        }
        Ok(())
    }
}

/// The policy: looks, thinks, and goes on with a plan of half a second from what it saw.
pub(crate) struct Policy {
    client: Client,
    /// What it thinks about, and since when.
    thinking: Option<(Instant, Arc<Observation>)>,
    resetting: bool,
}

impl Policy {
    fn think(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        while let Some(event) = self.client.poll_event() {
            match event {
                // Who is thinking looks again when the thought is over.
                client::Event::Streamed(observation) if !self.resetting => {
                    self.thinking.get_or_insert((now, observation));
                }
                client::Event::Reset { .. } => self.resetting = false,
                client::Event::Disconnected(reason) => return Err(reason.into()),
                _ => {}
            }
        }
        let thought = self.thinking.take_if(|(since, _)| *since + THINKING <= now);
        let Some((_, observation)) = thought else { return Ok(()) };
        let position = observation.proprio("position")?.values.to_f32()[0];
        let image = observation.camera("rail_cam")?.image.bytes();
        let bright = image.iter().position(|&pixel| pixel > 0).ok_or("there is no target")?;
        let target = (bright as f32 + 0.5) * PIXEL;
        if (position - target).abs() < PIXEL / 10.0 {
            self.client.request_reset(now, None)?;
            self.resetting = true;
            return Ok(());
        }
        // Row `i` is for the `i`-th action after what was seen; what has left meanwhile is skipped. Each
        // action carries the timestamps of this observation, whenever it leaves. (`put_chunk` appends
        // to the plan before, this replaces it.)
        let plan = (1..=25_u8).map(|n| {
            let furthest = 0.5 * f32::from(n) / HZ;
            Action::from([position + (target - position).clamp(-furthest, furthest)])
        });
        self.client.follow(now, &observation, plan)?;
        Ok(())
    }
}

/// Simulates for so long, and returns the robot as it is then, and what the policy has counted.
pub(crate) fn run(simulated: Duration) -> Result<(Robot, client::Stats), Box<dyn Error>> {
    let start = Instant::now(); // an instant has no other origin; this is the only look at a clock
    let watchdog = Some(Duration::from_millis(500));
    let camera = CameraConfig::new("rail_cam", [1, PIXELS]);
    let mut robot = Robot {
        server: Server::new(start, server::Config { watchdog, ..server::Config::default() }),
        sensors: Sensors::new([camera], [ProprioConfig::new("position", 1)])?,
        position: 0.0,
        commanded: 0.0,
        reached: 0,
        age: Histogram::default(),
    };
    let client = Client::new(client::Config::default());
    let mut policy = Policy { client, thinking: None, resetting: false };
    policy.client.start_obs_stream(start, Rate::hz(30.0)?)?;
    policy.client.start_action_dispatch(start, Rate::hz(HZ)?)?;
    let (mut to_robot, mut to_policy) = (Wire::default(), Wire::default());

    for n in 0..(simulated.as_nanos() / STEP.as_nanos()) as u32 {
        let time = STEP * n;
        let now = start + time;
        robot.step(time.as_secs_f64(), n)?;
        to_robot.carry(now, &mut policy.client, &mut robot.server);
        robot.answer(now, time.as_secs_f64())?;
        to_policy.carry(now, &mut robot.server, &mut policy.client);
        policy.think(now)?;
    }
    Ok((robot, policy.client.stats(start + simulated)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (robot, stats) = run(Duration::from_secs(120))?;
    println!("{} targets reached in two minutes", robot.reached);
    println!("age of the images behind the actions: {}", robot.age);
    println!("{stats}");
    Ok(())
}
