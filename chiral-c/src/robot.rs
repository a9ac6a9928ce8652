//! A robot that is called.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::server::{Answer, DropReason};
use chiral_blocking::proto::{Action, ConnectionError, Map, ResetResult, StepResult, StopReason};
use chiral_blocking::{Robot, RobotError};

use crate::array::number_of;
use crate::client::{User, chiral_step};
use crate::error::{Failure, c_text, clear_callback_failure, take_callback_failure};
use crate::map::chiral_map;
use crate::memory;
use crate::observation::chiral_observation;
use crate::sensors::chiral_sensors;
use crate::sized::{self, sized};

/// An action, as a robot is given it. Valid during the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_action {
    /// `sizeof(chiral_action)`.
    pub size: usize,
    /// Its values, row-major, as `float` whatever the policy sent.
    pub values: *const f32,
    /// How many values there are.
    pub count: usize,
    /// How many rows they make: 1, but for a legacy step.
    pub rows: usize,
    /// How many values a row has.
    pub width: usize,
    /// The dtype that the policy sent.
    pub dtype: i32,
    /// Whether it was clamped to what the robot's contract allows.
    pub clamped: bool,
}

/// What a robot does when it is called. Null where it does what it says there.
///
/// Those that return a number return 0, or a negative number when they have failed: then the
/// connection ends, and the policy is told the words that were given to `chiral_fail`. None may leave
/// by an exception or `longjmp`.
///
/// What moves the robot (`apply_action`, `step`, `reset`, `on_watchdog`, `on_stop`, `on_actions_dropped`,
/// `on_disconnect`) is called one at a time, in the order in which the policy sent what it is about,
/// `on_disconnect` last. `metadata` and `observe` are called by another thread beside that. All
/// threads are chiral's own.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_robot {
    /// `sizeof(chiral_robot)`.
    pub size: usize,
    /// The first argument of each function.
    pub user: *mut c_void,
    /// Describes the robot, into an empty map. Null: it stays empty.
    pub metadata: Option<unsafe extern "C" fn(user: *mut c_void, metadata: *mut chiral_map) -> i32>,
    /// Resets the robot. `*observation` is the one after it, which then belongs to chiral, or stays
    /// null for a snapshot of the sensors; `info` is an empty map. Null: nothing moves.
    pub reset: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            observation: *mut *mut chiral_observation,
            info: *mut chiral_map,
        ) -> i32,
    >,
    /// Makes an observation, which then belongs to chiral. Null, or an observation that stays null: a
    /// snapshot of the sensors, taken when the answer leaves.
    pub observe: Option<
        unsafe extern "C" fn(user: *mut c_void, observation: *mut *mut chiral_observation) -> i32,
    >,
    /// Applies an action. Null: it is not.
    pub apply_action:
        Option<unsafe extern "C" fn(user: *mut c_void, action: *const chiral_action) -> i32>,
    /// The legacy step. `result` has an empty map, and a null observation as in `reset`. Null:
    /// `apply_action`, and a snapshot of the sensors.
    pub step: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            action: *const chiral_action,
            result: *mut chiral_step,
        ) -> i32,
    >,
    /// A policy has connected; nothing else is asked before this has returned.
    pub on_connect: Option<unsafe extern "C" fn(user: *mut c_void) -> i32>,
    /// No action has come for so many seconds: hold still.
    pub on_watchdog: Option<unsafe extern "C" fn(user: *mut c_void, silent_for: f64) -> i32>,
    /// The robot is stopped, and why: hold still. No action comes until it is armed again. Null:
    /// `on_watchdog`. `silent_for` is for how many seconds no action has come, if it is for that.
    pub on_stop: Option<
        unsafe extern "C" fn(user: *mut c_void, reason: *const c_char, silent_for: f64) -> i32,
    >,
    /// The policy has gone, and why: hold still.
    pub on_disconnect:
        Option<unsafe extern "C" fn(user: *mut c_void, reason: *const c_char) -> i32>,
    /// So many actions came that were not applied, and will not be, and why.
    pub on_actions_dropped:
        Option<unsafe extern "C" fn(user: *mut c_void, count: u64, reason: *const c_char) -> i32>,
}

sized!(chiral_action, chiral_robot);

/// A robot of callbacks.
pub(crate) struct CallbackRobot {
    sensors: Sensors,
    callbacks: Callbacks,
}

/// The functions; their pointer is [`user`](Self::user), which may go from thread to thread.
struct Callbacks {
    robot: chiral_robot,
    user: User,
}

// SAFETY: the functions are called as `chiral_robot` says, by threads of chiral's; that they and
// their pointer can be used there is the caller's business.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

impl CallbackRobot {
    /// # Safety
    /// The pointers are null or valid, and the functions may be called as the header says.
    pub(crate) unsafe fn new(
        sensors: *const chiral_sensors,
        robot: *const chiral_robot,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? }.sensors.clone();
        // SAFETY: the caller's promise.
        let robot = unsafe { sized::read(robot)? };
        Ok(Self { sensors, callbacks: Callbacks { user: User(robot.user), robot } })
    }

    fn user(&self) -> *mut c_void {
        self.callbacks.user.get()
    }

    /// What a callback made, or a snapshot.
    ///
    /// # Safety
    /// The pointer is null, or one to an observation that belongs to chiral now.
    unsafe fn take(
        &self,
        observation: *mut chiral_observation,
    ) -> Result<chiral_blocking::proto::Observation, RobotError> {
        // SAFETY: the caller's promise.
        match unsafe { memory::take(observation) } {
            Some(observation) => Ok(observation.into_inner()),
            None => Ok(self.sensors.try_snapshot_now()?),
        }
    }
}

/// Calls a callback; what it says of its failure is the error.
fn call(callback: impl FnOnce() -> i32) -> Result<(), RobotError> {
    clear_callback_failure();
    if callback() < 0 { Err(take_callback_failure().into()) } else { Ok(()) }
}

/// Calls a callback that cannot fail for the driver: the failure ends the connection as a panic would.
fn notify(callback: impl FnOnce() -> i32) {
    if let Err(error) = call(callback) {
        // No panic hook prints this: the driver logs it, and tells the policy.
        std::panic::resume_unwind(Box::new(error.to_string()));
    }
}

fn with_action<T>(action: &Action, run: impl FnOnce(&chiral_action) -> T) -> T {
    let (values, shape) = (action.to_f32(), action.shape());
    let width = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).product();
    run(&chiral_action {
        values: values.as_ptr(),
        count: values.len(),
        rows,
        width,
        dtype: number_of(action.values.dtype()),
        clamped: action.clamped,
        ..sized::zeroed()
    })
}

impl Robot for CallbackRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let mut metadata = chiral_map::default();
        if let Some(describe) = self.callbacks.robot.metadata {
            // SAFETY: the header says how it is called, and `new` asks for such functions.
            call(|| unsafe { describe(self.user(), &raw mut metadata) })?;
        }
        Ok(metadata.map)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        let (mut observation, mut info) = (std::ptr::null_mut(), chiral_map::default());
        let mut outcome = Ok(());
        if let Some(reset) = self.callbacks.robot.reset {
            outcome = call(|| {
                // SAFETY: as in `metadata`.
                unsafe { reset(self.user(), &raw mut observation, &raw mut info) }
            });
        }
        // SAFETY: what a callback leaves there belongs to chiral.
        let observation = unsafe { self.take(observation) };
        outcome?;
        Ok(ResetResult { observation: observation?, info: info.map })
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        let mut observation = std::ptr::null_mut();
        let mut outcome = Ok(());
        if let Some(observe) = self.callbacks.robot.observe {
            // SAFETY: as in `metadata`.
            outcome = call(|| unsafe { observe(self.user(), &raw mut observation) });
        }
        // SAFETY: what a callback leaves there belongs to chiral.
        let observation = unsafe { memory::take(observation) };
        outcome?;
        Ok(match observation {
            Some(observation) => observation.into_inner().into(),
            None => (&self.sensors).into(),
        })
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let Some(apply) = self.callbacks.robot.apply_action else { return Ok(()) };
        // SAFETY: as in `metadata`.
        with_action(&action, |action| call(|| unsafe { apply(self.user(), action) }))
    }

    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        let Some(step) = self.callbacks.robot.step else {
            self.apply_action(action)?;
            let observation = self.sensors.try_snapshot_now()?;
            return Ok(StepResult { observation, ..StepResult::default() });
        };
        let mut info = chiral_map::default();
        let mut result = chiral_step { info: &raw mut info, ..sized::zeroed() };
        let outcome = with_action(&action, |action| {
            // SAFETY: as in `metadata`.
            call(|| unsafe { step(self.user(), action, &raw mut result) })
        });
        // SAFETY: what a callback leaves there belongs to chiral.
        let observation = unsafe { self.take(result.observation) };
        outcome?;
        Ok(StepResult {
            observation: observation?,
            reward: result.reward,
            terminated: result.terminated,
            truncated: result.truncated,
            info: info.map,
        })
    }

    fn on_connect(&self) {
        if let Some(connected) = self.callbacks.robot.on_connect {
            // SAFETY: as in `metadata`.
            notify(|| unsafe { connected(self.user()) });
        }
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        if let Some(disconnected) = self.callbacks.robot.on_disconnect {
            let reason = c_text(&reason.to_string());
            // SAFETY: as in `metadata`.
            notify(|| unsafe { disconnected(self.user(), reason.as_ptr()) });
        }
    }

    fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        if let Some(dropped) = self.callbacks.robot.on_actions_dropped {
            let reason = c_text(&reason.to_string());
            // SAFETY: as in `metadata`.
            notify(|| unsafe { dropped(self.user(), count, reason.as_ptr()) });
        }
    }

    fn on_watchdog(&self, silent_for: Duration) {
        if let Some(watchdog) = self.callbacks.robot.on_watchdog {
            // SAFETY: as in `metadata`.
            notify(|| unsafe { watchdog(self.user(), silent_for.as_secs_f64()) });
        }
    }

    fn on_stop(&self, reason: &StopReason) {
        let silent_for = reason.silent_for();
        let Some(stopped) = self.callbacks.robot.on_stop else {
            return self.on_watchdog(silent_for);
        };
        let reason = c_text(&reason.to_string());
        // SAFETY: as in `metadata`.
        notify(|| unsafe { stopped(self.user(), reason.as_ptr(), silent_for.as_secs_f64()) });
    }
}
