//! A rendered arm at its table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chiral_driver::{RobotError, monotonic_seconds};
use chiral_proto::sensors::{CameraFrame, CameraWriter, ProprioWriter, Sensors};
use chiral_proto::{Action, Map, Rate, map};
use chiral_sim::arm::DOF;
use chiral_sim::episode::{DISPATCH_HZ, TICK_HZ};
use chiral_sim::render::Renderer;
use chiral_sim::world::{Outcome, World};

use super::environment::{Effect, Environment, StepOutcome};
use super::fault::{ApplyFault, Fault};
use super::spec::{ARM_PROPRIOS, Size, Spec};
use super::threads::Threads;
use super::view::View;

/// The most that is simulated at once, when the computer was busy elsewhere.
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// The arm at its table, and the cameras that look at it. Nothing happens by itself: time passes
/// and sensors are read when they are told to.
pub(crate) struct Arm {
    state: Mutex<State>,
    cameras: Vec<ArmCamera>,
    proprios: [ProprioWriter; ARM_PROPRIOS.len()],
    fault: Option<Fault>,
}

struct State {
    world: World,
    seed: u64,
    episode: u64,
    /// Simulated seconds since the start.
    clock: f64,
    /// Up to when the world was simulated, where its time is the wall's.
    stepped: Instant,
}

impl State {
    fn simulate(&mut self, seconds: f64) {
        self.clock += seconds;
        self.world.step(seconds);
    }
}

/// How an arm's episode stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Status {
    /// Simulated seconds since the start.
    pub(crate) clock: f64,
    /// Resets so far.
    pub(crate) episode: u64,
    /// Simulated seconds since the episode began.
    pub(crate) time: f64,
    /// The tip was held at the target.
    pub(crate) solved: bool,
    /// The episode is over: solved, or out of time.
    pub(crate) over: bool,
}

/// Starts an arm that moves in real time.
pub(super) fn start(
    spec: &Spec,
    sensors: &Sensors,
    threads: &mut Threads,
) -> anyhow::Result<Arc<dyn Environment>> {
    let arm = Arc::new(Arm::new(spec, sensors, None)?);
    let world = Arc::clone(&arm);
    threads.spawn("arm".to_owned(), Rate::hz(TICK_HZ)?, move || world.pass_time())?;
    let joints = Arc::clone(&arm);
    threads.spawn("joints".to_owned(), spec.rate, move || joints.read_joints())?;
    for index in 0..arm.cameras.len() {
        let arm = Arc::clone(&arm);
        let name = format!("camera {index}");
        threads.spawn(name, spec.rate, move || arm.capture(index))?;
    }
    Ok(arm)
}

impl Arm {
    /// The arm of a spec, with what it gets wrong, for the sensors declared by that spec. They
    /// show nothing yet.
    pub(crate) fn new(
        spec: &Spec,
        sensors: &Sensors,
        fault: Option<Fault>,
    ) -> anyhow::Result<Self> {
        let cameras = spec.views().into_iter().zip(sensors.cameras());
        let camera = |(view, writer)| ArmCamera::new(view, spec.size, writer, fault);
        Ok(Self {
            state: Mutex::new(State {
                world: World::new(spec.seed),
                seed: spec.seed,
                episode: 0,
                clock: 0.0,
                stepped: Instant::now(),
            }),
            cameras: cameras.map(camera).collect(),
            proprios: [
                sensors.proprio(ARM_PROPRIOS[0])?,
                sensors.proprio(ARM_PROPRIOS[1])?,
                sensors.proprio(ARM_PROPRIOS[2])?,
            ],
            fault,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How the episode stands.
    pub(crate) fn status(&self) -> Status {
        let state = self.state();
        let outcome = state.world.outcome();
        Status {
            clock: state.clock,
            episode: state.episode,
            time: state.world.time(),
            solved: matches!(outcome, Outcome::Solved { .. }),
            over: outcome != Outcome::Running,
        }
    }

    /// Lets as much time pass as did on the wall since the last time.
    pub(crate) fn pass_time(&self) {
        let mut state = self.state();
        let now = Instant::now();
        let passed = now.duration_since(state.stepped).min(LONGEST_STEP);
        state.stepped = now;
        if !passed.is_zero() {
            state.simulate(passed.as_secs_f64());
        }
    }

    /// Simulates so many seconds, more than zero, independently of the wall clock.
    pub(crate) fn simulate(&self, seconds: f64) {
        self.state().simulate(seconds);
    }

    /// Has the joints' sensors show what is now.
    pub(crate) fn read_joints(&self) {
        // Held to the end: no reading overtakes a newer one.
        let state = self.state();
        let read = self.fault.apply_to_proprio(state.world.proprio());
        let values = [read.joint_pos, read.joint_vel, read.ee_pose];
        for (writer, values) in self.proprios.iter().zip(&values) {
            writer.update(values).expect("the stream was declared with so many");
        }
    }

    /// Has a camera, declared at `index`, show what is now.
    pub(crate) fn capture(&self, index: usize) {
        self.cameras[index].capture(&self.state);
    }

    /// Has all sensors show what is now.
    pub(crate) fn sense(&self) {
        self.read_joints();
        (0..self.cameras.len()).for_each(|index| self.capture(index));
    }
}

impl Environment for Arm {
    fn action_space(&self) -> Map {
        map! {
            "shape" => [DOF],
            "dtype" => "float32",
            "meaning" => "joint angles to move to, radians",
        }
    }

    /// Moves towards the action's last row.
    fn apply(&self, action: &Action) -> Result<Effect, RobotError> {
        let values = action.to_f32();
        let Some(&joints) = rows(&values)?.last() else {
            return Ok(Effect::Ignored("it has no values"));
        };
        self.state().world.command(self.fault.apply_to_action(joints));
        Ok(if joints.iter().any(|angle| angle.is_finite()) {
            Effect::CarriedOut
        } else {
            Effect::Ignored("none of its angles is finite, so every joint stays where it is")
        })
    }

    /// Moves towards one row after the other, each for the time between two actions of a stream.
    fn step(&self, action: &Action) -> Result<StepOutcome, RobotError> {
        let values = action.to_f32();
        let rows = rows(&values)?;
        let outcome = {
            let mut state = self.state();
            for &joints in rows {
                state.world.command(self.fault.apply_to_action(joints));
                state.simulate(1.0 / f64::from(DISPATCH_HZ));
            }
            let outcome = state.world.outcome();
            StepOutcome {
                reward: -state.world.distance(),
                terminated: matches!(outcome, Outcome::Solved { .. }),
                truncated: outcome == Outcome::TimedOut,
            }
        };
        self.sense();
        Ok(outcome)
    }

    fn reset(&self) -> Map {
        let seed = {
            let mut state = self.state();
            let seed = state.seed;
            state.seed = seed.wrapping_add(1);
            state.episode += 1;
            state.world.reset(seed);
            state.stepped = Instant::now();
            seed
        };
        self.sense();
        Map::new().with("seed", seed)
    }

    fn hold_still(&self) {
        let mut state = self.state();
        let here = state.world.proprio().joint_pos;
        state.world.command(here);
    }
}

/// The rows of an action: one, several, or none.
fn rows(values: &[f32]) -> Result<&[[f32; DOF]], RobotError> {
    let (rows, rest) = values.as_chunks();
    if rest.is_empty() {
        return Ok(rows);
    }
    let found = values.len();
    Err(format!("found an action of {found} values, expected {DOF} joint angles, or rows of them")
        .into())
}

/// A camera that renders what it sees.
struct ArmCamera {
    view: View,
    size: Size,
    writer: CameraWriter,
    fault: Option<Fault>,
    /// Locked from the capture of a frame to its publication: no frame overtakes a newer one.
    buffers: Mutex<RenderBuffers>,
}

#[derive(Default)]
struct RenderBuffers {
    renderer: Renderer,
    /// The depth map of a camera without one.
    depth: Vec<f32>,
}

impl ArmCamera {
    fn new(view: View, size: Size, writer: CameraWriter, fault: Option<Fault>) -> Self {
        Self { view, size, writer, fault, buffers: Mutex::default() }
    }

    fn capture(&self, state: &Mutex<State>) {
        let mut buffers = lock(&self.buffers);
        let RenderBuffers { renderer, depth: unwanted } = &mut *buffers;
        let (posture, bodies, captured_at) = {
            let state = lock(state);
            (state.world.posture(), state.world.bodies(), monotonic_seconds())
        };
        let camera = self.view.camera(self.size, &posture);
        let mut image = self.writer.image_buffer::<u8>().expect("images are uint8");
        let mut frame = CameraFrame::new()
            .captured_at(captured_at)
            .intrinsics(self.fault.apply_to_intrinsics(camera.intrinsics()))
            .extrinsics(self.fault.apply_to_extrinsics(camera.camera_to_world()));
        if self.writer.config().depth.is_some() {
            let mut depth = self.writer.depth_buffer::<f32>().expect("depth is float32");
            renderer.render(&camera, &bodies, &mut image, &mut depth);
            self.fault.apply_to_depth(&mut depth);
            frame = frame.depth(depth);
        } else {
            unwanted.resize(camera.pixels(), 0.0);
            renderer.render(&camera, &bodies, &mut image, unwanted);
        }
        self.fault.apply_to_image(&mut image);
        self.writer.publish(frame.image(image)).expect("the frame is as declared");
    }
}

/// What is behind the lock is whole even if a thread panicked with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
