//! A robot with a loop of its own, which pulls what it is to do.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::time::Duration;

use chiral_blocking::proto::server::{ObserveReply, ResetReply, StepReply};
use chiral_blocking::proto::{Action, ResetResult, StepResult};
use chiral_blocking::{Command, Commands, Hold};

use crate::contract::done;
use crate::error::{
    CHIRAL_DISCONNECTED, CHIRAL_NOTHING, CHIRAL_OK, Failure, chiral_status, guard, guard_or,
};
use crate::map::chiral_map;
use crate::memory;
use crate::observation::chiral_observation;
use crate::sensors::chiral_sensors;
use crate::server::{chiral_server, unreachable};
use crate::sized::{self, sized};

/// The commands of a robot's policies, for a robot that pulls them in a loop of its own. One thread at
/// a time.
///
/// No function here waits for the network: the only locks that they take are held by chiral's other
/// threads for microseconds, never across a system call that can wait. `chiral_commands_action` and
/// `chiral_commands_must_hold` allocate nothing.
pub struct chiral_commands {
    commands: Commands,
    /// The robot was to hold still when an action came that was passed over: it still is.
    holds_on: bool,
    sensors: chiral_blocking::proto::sensors::Sensors,
    resets: VecDeque<ResetReply>,
    steps: VecDeque<StepReply>,
    observes: VecDeque<ObserveReply>,
}

/// Apply the action.
pub const CHIRAL_COMMAND_ACTION: i32 = 1;
/// Reset, and answer with `chiral_commands_reply_reset`. What the policy sent behind it waits.
pub const CHIRAL_COMMAND_RESET: i32 = 2;
/// Apply the action, and answer with `chiral_commands_reply_step`.
pub const CHIRAL_COMMAND_STEP: i32 = 3;
/// Make an observation, and answer with `chiral_commands_reply_observation`.
pub const CHIRAL_COMMAND_OBSERVE: i32 = 4;
/// Hold still; `hold` says why.
pub const CHIRAL_COMMAND_HOLD: i32 = 5;

/// No action has come for `silent_for` seconds. The next one moves the robot again.
pub const CHIRAL_HOLD_SILENT: i32 = 1;
/// The robot is stopped: no action comes until it is armed again.
pub const CHIRAL_HOLD_STOPPED: i32 = 2;
/// The policy has gone.
pub const CHIRAL_HOLD_DISCONNECTED: i32 = 3;

/// What a policy wants of a robot that pulls.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_command {
    /// `sizeof(chiral_command)`.
    pub size: usize,
    /// One of `CHIRAL_COMMAND_…`.
    pub kind: i32,
    /// Of an action or a step: how many values it has, whatever there was room for.
    pub count: usize,
    /// How many rows they make: 1, but for a step.
    pub rows: usize,
    /// Of a hold because no action came, or a stop for that: for how many seconds; else zero.
    pub silent_for: f64,
    /// Of a hold: why, one of `CHIRAL_HOLD_…`.
    pub hold: i32,
    /// Of an action or a step: whether it was clamped to what the robot's contract allows.
    pub clamped: bool,
}

sized!(chiral_command);

/// Serves a robot that pulls its commands, in threads of chiral's and without waiting, until the server
/// is shut down or the commands are freed. `metadata` describes the robot and may be null; it is
/// copied. The commands are to be freed before the server.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_pull(
    server: *const chiral_server,
    sensors: *const chiral_sensors,
    metadata: *const chiral_map,
    commands: *mut *mut chiral_commands,
) -> chiral_status {
    let pull = || {
        // SAFETY: as the header asks of callers.
        let server = unsafe { memory::borrow(server, "server")? };
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? }.sensors.clone();
        // SAFETY: as the header asks of callers.
        let metadata = unsafe { metadata.as_ref() }.map(|map| map.map.clone());
        let commands = server.server.pull(&sensors, metadata.unwrap_or_default());
        Ok(chiral_commands {
            commands: commands.map_err(unreachable)?,
            holds_on: false,
            sensors,
            resets: VecDeque::new(),
            steps: VecDeque::new(),
            observes: VecDeque::new(),
        })
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(commands, "commands", pull) }
}

/// Frees the commands: the policy is told that the control loop has ended. Does nothing to a null
/// pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_free(commands: *mut chiral_commands) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(commands) };
}

/// The next action, if there is one: writes its `width` values to `values`. `CHIRAL_NOTHING` when
/// there is none, which is the usual case. An action of another number of values is an error, and
/// passed over; declare the action (`chiral_action_spec`), and none comes.
///
/// Resets, and requests for observations, are answered with a snapshot of the sensors; so is a step,
/// with the call after the one that gave its action.
///
/// One thread at a time. Never waits, and allocates nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_action(
    commands: *mut chiral_commands,
    values: *mut f32,
    width: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow_mut(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let values = unsafe { memory::places(values, width, "values")? };
        let must_hold = commands.must_hold();
        let Some(action) = commands.commands.try_next_action() else { return Ok(CHIRAL_NOTHING) };
        commands.holds_on = must_hold && action.values.len() != width;
        if action.values.len() != width {
            return Err(Failure::misuse(format_args!(
                "an action of shape {} came, expected {width} values: declare the robot's action, \
                 then others are refused",
                action.shape()
            )));
        }
        action.values.copy_to_f32(memory::fill(values, 0.0));
        Ok(CHIRAL_OK)
    })
}

/// The next command, if there is one; `CHIRAL_NOTHING` when there is none, which is the usual case. Of
/// an action or a step, as many values as there is room for are written to `values`.
///
/// One thread at a time. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_next(
    commands: *mut chiral_commands,
    command: *mut chiral_command,
    values: *mut f32,
    capacity: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { sized::check_place(command)? };
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow_mut(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let values = unsafe { memory::places(values, capacity, "values")? };
        let Some(next) = commands.commands.try_next() else { return Ok(CHIRAL_NOTHING) };
        commands.holds_on &= !matches!(next, Command::Action(_) | Command::Step(..));
        let value = match next {
            Command::Action(action) => taken(CHIRAL_COMMAND_ACTION, &action, values),
            Command::Step(action, reply) => {
                commands.steps.push_back(reply);
                taken(CHIRAL_COMMAND_STEP, &action, values)
            }
            Command::Reset(reply) => {
                commands.resets.push_back(reply);
                chiral_command { kind: CHIRAL_COMMAND_RESET, ..sized::zeroed() }
            }
            Command::Observe(reply) => {
                commands.observes.push_back(reply);
                chiral_command { kind: CHIRAL_COMMAND_OBSERVE, ..sized::zeroed() }
            }
            Command::Hold(hold) => {
                let (hold, silent_for) = match hold {
                    Hold::Watchdog { silent_for } => (CHIRAL_HOLD_SILENT, silent_for),
                    Hold::Stopped(reason) => (CHIRAL_HOLD_STOPPED, reason.silent_for()),
                    _ => {
                        commands.forget();
                        (CHIRAL_HOLD_DISCONNECTED, Duration::ZERO)
                    }
                };
                let silent_for = silent_for.as_secs_f64();
                chiral_command { kind: CHIRAL_COMMAND_HOLD, silent_for, hold, ..sized::zeroed() }
            }
            // A command that this version does not know is not answered by the loop.
            _ => return Ok(CHIRAL_NOTHING),
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(command, &value)? };
        Ok(CHIRAL_OK)
    })
}

fn taken(kind: i32, action: &Action, values: &mut [MaybeUninit<f32>]) -> chiral_command {
    let len = action.values.len().min(values.len());
    action.values.copy_to_f32(memory::fill(&mut values[..len], 0.0));
    let rows = action.shape().iter().rev().skip(1).product();
    let (count, clamped) = (action.values.len(), action.clamped);
    chiral_command { kind, count, rows, clamped, ..sized::zeroed() }
}

impl chiral_commands {
    fn must_hold(&self) -> bool {
        self.holds_on || self.commands.must_hold()
    }

    /// Forgets what the policy that has gone had asked.
    fn forget(&mut self) {
        self.resets.clear();
        self.steps.clear();
        self.observes.clear();
    }
}

fn unasked(what: &str) -> Failure {
    Failure::misuse(format_args!(
        "there is no {what} to answer: it was answered, or its policy went"
    ))
}

fn gone(error: impl std::fmt::Display) -> Failure {
    Failure::new(CHIRAL_DISCONNECTED, error)
}

/// # Safety
/// The pointer is null, or one to an observation that belongs to chiral now.
unsafe fn take(
    commands: &chiral_commands,
    observation: *mut chiral_observation,
) -> chiral_blocking::proto::Observation {
    // SAFETY: the caller's promise.
    match unsafe { memory::take(observation) } {
        Some(observation) => observation.into_inner(),
        None => commands.sensors.snapshot_now(),
    }
}

/// Answers the oldest reset that was not answered. `observation` belongs to chiral then, and may be
/// null for a snapshot of the sensors; `info` is copied, and may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_reply_reset(
    commands: *mut chiral_commands,
    observation: *mut chiral_observation,
    info: *const chiral_map,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow_mut(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { take(commands, observation) };
        // SAFETY: as the header asks of callers.
        let info = unsafe { info.as_ref() }.map(|info| info.map.clone()).unwrap_or_default();
        let reply = commands.resets.pop_front().ok_or_else(|| unasked("reset"))?;
        commands.commands.reply_reset(reply, ResetResult { observation, info }).map_err(gone)?;
        Ok(CHIRAL_OK)
    })
}

/// Answers the oldest step that was not answered. Its observation is as in
/// `chiral_commands_reply_reset`; its map is copied, and may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_reply_step(
    commands: *mut chiral_commands,
    result: *const crate::client::chiral_step,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let result = unsafe { sized::read(result)? };
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow_mut(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { take(commands, result.observation) };
        // SAFETY: as the header asks of callers.
        let info = unsafe { result.info.as_ref() }.map(|info| info.map.clone());
        let reply = commands.steps.pop_front().ok_or_else(|| unasked("step"))?;
        let result = StepResult {
            observation,
            reward: result.reward,
            terminated: result.terminated,
            truncated: result.truncated,
            info: info.unwrap_or_default(),
        };
        commands.commands.reply_step(reply, result).map_err(gone)?;
        Ok(CHIRAL_OK)
    })
}

/// Answers the oldest request for an observation that was not answered. The observation belongs to
/// chiral then, and may be null for a snapshot of the sensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_reply_observation(
    commands: *mut chiral_commands,
    observation: *mut chiral_observation,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow_mut(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { take(commands, observation) };
        let reply = commands.observes.pop_front().ok_or_else(|| unasked("request"))?;
        commands.commands.reply_observation(reply, observation).map_err(gone)?;
        Ok(CHIRAL_OK)
    })
}

/// Whether the robot is to hold still: it has never had an action, or was told to since.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_must_hold(commands: *const chiral_commands) -> bool {
    // SAFETY: as the header asks of callers.
    guard_or(true, || Ok(unsafe { memory::borrow(commands, "commands")? }.must_hold()))
}

/// Whether a policy is connected, as far as the commands that were pulled tell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_is_connected(commands: *const chiral_commands) -> bool {
    // SAFETY: as the header asks of callers.
    guard_or(false, || Ok(unsafe { memory::borrow(commands, "commands")? }.commands.is_connected()))
}

/// As `chiral_server_arm`, for the control loop's own use: `CHIRAL_NOTHING` when no policy is connected,
/// as far as the commands that were pulled tell. One thread at a time. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_arm(commands: *const chiral_commands) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        Ok(done(unsafe { memory::borrow(commands, "commands")? }.commands.arm()))
    })
}

/// As `chiral_server_stop_motion`, for the control loop's own use. One thread at a time. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_stop_motion(
    commands: *const chiral_commands,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        Ok(done(unsafe { memory::borrow(commands, "commands")? }.commands.stop_motion()))
    })
}

/// Has the robot describe itself so from now on. The map is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_commands_set_metadata(
    commands: *const chiral_commands,
    metadata: *const chiral_map,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let commands = unsafe { memory::borrow(commands, "commands")? };
        // SAFETY: as the header asks of callers.
        let metadata = unsafe { memory::borrow(metadata, "metadata")? };
        commands.commands.set_metadata(metadata.map.clone());
        Ok(CHIRAL_OK)
    })
}
