//! What a robot declares of its actions, and how a policy keeps to it.

use std::ffi::{CString, c_char};
use std::time::Duration;

use chiral_blocking::proto::{
    Action, ActionKind, ActionSpec, Arming, ArmingState, ContractStatus, DtypeKind, OnViolation,
    PerDimension, Rate,
};

use crate::actions::{CHIRAL_ABSOLUTE, CHIRAL_DELTA, CHIRAL_VELOCITY, chiral_action_kind, kind_of};
use crate::client::chiral_client;
use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, Failure, c_text, chiral_status, guard, guard_or};
use crate::memory;
use crate::server::chiral_server;
use crate::sized::{self, sized};

/// Floats where a width or a shape is declared, elements of any type otherwise.
pub const CHIRAL_DTYPES_DEFAULT: i32 = 0;
/// Elements of any type.
pub const CHIRAL_DTYPES_ANY: i32 = 1;
/// `float16`, `float32` and `float64`.
pub const CHIRAL_DTYPES_FLOAT: i32 = 2;
/// Signed and unsigned integers.
pub const CHIRAL_DTYPES_INTEGER: i32 = 3;
/// `bool`.
pub const CHIRAL_DTYPES_BOOL: i32 = 4;

/// An action that is out of bounds or too large a step is not executed.
pub const CHIRAL_REFUSE: i32 = 0;
/// It is brought within the bounds and the largest step, and marked.
pub const CHIRAL_CLAMP: i32 = 1;

/// A new connection arms the robot. After a stop the policy has to connect again.
pub const CHIRAL_ARM_ON_CONNECT: i32 = 0;
/// A reset arms it, once the robot has done it; also after a stop.
pub const CHIRAL_ARM_ON_RESET: i32 = 1;
/// Nothing that the policy does arms it, only the robot's own program.
pub const CHIRAL_ARM_MANUALLY: i32 = 2;

/// A robot's contract with its policies: what an action must be to reach it. All zero: any shape, with
/// finite numbers. The server checks every action before the robot sees it, and tells the policies;
/// their clients check too.
///
/// Where there is a number for each dimension, `…_count` of them are given: one for all, or as many as
/// the action has values. They count as `float`, which is what a robot reads.
///
/// It is no safety function: keep the emergency stop, and the limits of the robot's own controller.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_action_spec {
    /// `sizeof(chiral_action_spec)`.
    pub size: usize,
    /// How many values an action has. Zero: any number, or as `shape` says.
    pub width: usize,
    /// An action's exact shape, in the place of a width; else null.
    pub shape: *const usize,
    /// How many dimensions `shape` has.
    pub rank: usize,
    /// The types of its elements: one of `CHIRAL_DTYPES_…`.
    pub dtypes: i32,
    /// What the values mean.
    pub kind: chiral_action_kind,
    /// The values that make the robot stay where it is, or null.
    pub hold: *const f32,
    /// How many these are: as many as an action has.
    pub hold_count: usize,
    /// The smallest values that are allowed, or null.
    pub low: *const f32,
    /// How many these are.
    pub low_count: usize,
    /// The largest values that are allowed, or null.
    pub high: *const f32,
    /// How many these are.
    pub high_count: usize,
    /// The largest steps, or null: by how much an action may differ from the last one that the robot was
    /// given; of a delta, how large it may be.
    pub max_step: *const f32,
    /// How many these are.
    pub max_step_count: usize,
    /// The name of the proprioception vector that says where the robot is, from where the first step of
    /// absolute actions is measured; null if there is none. It is not told to the policy.
    pub measured_by: *const c_char,
    /// What becomes of an action that is out of bounds or too large a step: `CHIRAL_REFUSE` or
    /// `CHIRAL_CLAMP`.
    pub on_violation: i32,
    /// What arms the robot: one of `CHIRAL_ARM_…`.
    pub arming: i32,
    /// How often an action is expected, in hertz. Zero: that is not said.
    pub rate: f64,
    /// After how many missed periods the robot is told to hold. Zero: one, if there is a rate. Negative:
    /// never.
    pub hold_after: i64,
    /// After how many missed periods it is stopped, and takes no action until it is armed. Zero: never.
    pub stop_after: i64,
    /// Whether an action without values reaches the robot.
    pub allow_empty: bool,
    /// Whether NaN and infinities reach the robot.
    pub allow_non_finite: bool,
    /// Where a client reads it: after how many seconds without an action the robot holds, if that is
    /// said as a time. A server says it in its settings, and leaves it zero here.
    pub watchdog: f64,
    /// Where a client reads it: how old, in seconds, the observation may be on which an action was
    /// decided. A server says it in its settings, and leaves it zero here.
    pub max_obs_age: f64,
}

/// Actions are refused: the robot has not been armed since the policy connected.
pub const CHIRAL_DISARMED: i32 = 0;
/// The next action moves the robot. None has since it was armed or reset.
pub const CHIRAL_ARMED: i32 = 1;
/// Actions move the robot.
pub const CHIRAL_MOVING: i32 = 2;
/// No action has come in time, and the robot holds. The next one moves it again.
pub const CHIRAL_HOLDING: i32 = 3;
/// Actions are refused until the robot is armed again: too many periods were missed, or the robot's own
/// program has stopped it.
pub const CHIRAL_STOPPED: i32 = 4;

/// How a policy keeps to the robot's contract.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_contract_status {
    /// `sizeof(chiral_contract_status)`.
    pub size: usize,
    /// Whether actions move the robot: one of `CHIRAL_DISARMED` and the four that follow it.
    pub state: i32,
    /// Of the last `periods`, those in which an action came on time.
    pub on_time: u32,
    /// The last periods while actions moved the robot, 100 at most; 0 if the robot declares no rate.
    pub periods: u32,
    /// All periods that were missed.
    pub missed: u64,
    /// Actions that were refused.
    pub refused: u64,
    /// Actions that were clamped.
    pub clamped: u64,
    /// Actions that came while the robot was disarmed or stopped.
    pub not_armed: u64,
    /// How often the robot was stopped.
    pub stops: u64,
}

sized!(chiral_action_spec, chiral_contract_status);

/// A robot's contract as a client knows it. Any thread may read it.
pub struct chiral_contract {
    spec: ActionSpec,
    shape: Vec<usize>,
    hold: Vec<f32>,
    text: CString,
}

impl From<ActionSpec> for chiral_contract {
    fn from(spec: ActionSpec) -> Self {
        let shape = spec.declared_shape().map(|shape| shape.to_vec()).unwrap_or_default();
        let hold = spec.declaration().hold.as_ref().map(|hold| hold.to_f32().into_owned());
        let text = c_text(&spec.to_string());
        Self { shape, hold: hold.unwrap_or_default(), text, spec }
    }
}

impl chiral_contract {
    /// As C has it; what it points to is borrowed.
    fn to_spec(&self) -> chiral_action_spec {
        let declared = self.spec.declaration();
        let numbers = |numbers: Option<&PerDimension>| {
            let numbers = numbers.map_or(&[][..], PerDimension::as_slice);
            (memory::pointer_or_null(numbers), numbers.len())
        };
        let (low, low_count) = numbers(declared.bounds.as_ref().map(|bounds| &bounds.low));
        let (high, high_count) = numbers(declared.bounds.as_ref().map(|bounds| &bounds.high));
        let (max_step, max_step_count) = numbers(declared.max_step.as_ref());
        let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
        let (width, shape) = match self.shape[..] {
            [width] => (width, &[][..]),
            _ => (0, &self.shape[..]),
        };
        chiral_action_spec {
            width,
            shape: memory::pointer_or_null(shape),
            rank: shape.len(),
            dtypes: match self.spec.declared_dtypes() {
                DtypeKind::Float => CHIRAL_DTYPES_FLOAT,
                DtypeKind::Integer => CHIRAL_DTYPES_INTEGER,
                DtypeKind::Bool => CHIRAL_DTYPES_BOOL,
                _ => CHIRAL_DTYPES_ANY,
            },
            kind: match declared.kind {
                Some(ActionKind::Absolute) => CHIRAL_ABSOLUTE,
                Some(ActionKind::Delta) => CHIRAL_DELTA,
                Some(ActionKind::Velocity) => CHIRAL_VELOCITY,
                _ => 0,
            },
            hold: memory::pointer_or_null(&self.hold),
            hold_count: self.hold.len(),
            low,
            low_count,
            high,
            high_count,
            max_step,
            max_step_count,
            on_violation: match declared.on_violation {
                OnViolation::Clamp => CHIRAL_CLAMP,
                _ => CHIRAL_REFUSE,
            },
            arming: match declared.arming {
                Arming::OnReset => CHIRAL_ARM_ON_RESET,
                Arming::Manual => CHIRAL_ARM_MANUALLY,
                _ => CHIRAL_ARM_ON_CONNECT,
            },
            rate: declared.rate.map_or(0.0, Rate::as_hz),
            hold_after: declared.hold_after.map_or(0, |periods| match periods {
                0 => -1,
                _ => periods.into(),
            }),
            stop_after: declared.stop_after.map_or(0, i64::from),
            allow_empty: self.spec.allows_empty(),
            allow_non_finite: self.spec.allows_non_finite(),
            watchdog: seconds(declared.watchdog),
            max_obs_age: seconds(declared.max_obs_age),
            ..sized::zeroed()
        }
    }
}

impl chiral_action_spec {
    /// # Safety
    /// Its pointers are valid.
    pub(crate) unsafe fn read(&self) -> Result<ActionSpec, Failure> {
        // SAFETY: the caller's promise.
        let mut spec = unsafe { self.form()? };
        if let Some(kind) = kind_of(self.kind)? {
            spec = spec.kind(kind);
        }
        if self.allow_empty {
            spec = spec.allow_empty();
        }
        if self.allow_non_finite {
            spec = spec.allow_non_finite();
        }
        // SAFETY: the caller's promise.
        let numbers = |pointer, count, what| unsafe { memory::slice(pointer, count, what) };
        let low = numbers(self.low, self.low_count, "low")?;
        let high = numbers(self.high, self.high_count, "high")?;
        if !low.is_empty() || !high.is_empty() {
            spec = spec.try_bounds(low, high).map_err(Failure::misuse)?;
        }
        let max_step = numbers(self.max_step, self.max_step_count, "max_step")?;
        if !max_step.is_empty() {
            spec = spec.try_max_step(max_step).map_err(Failure::misuse)?;
        }
        let hold = numbers(self.hold, self.hold_count, "hold")?;
        if !hold.is_empty() {
            let hold = Action::from(hold);
            spec.check(&hold)
                .map_err(|error| Failure::misuse(format_args!("the hold action: {error}")))?;
            spec = spec.hold(hold);
        }
        // SAFETY: the caller's promise.
        if let Some(stream) = unsafe { memory::text_or_null(self.measured_by, "measured_by")? } {
            spec = spec.measured_by(stream.to_owned());
        }
        self.rules(spec)
    }

    /// The specification of the shape and the types of its elements.
    ///
    /// # Safety
    /// Its pointers are valid.
    unsafe fn form(&self) -> Result<ActionSpec, Failure> {
        // SAFETY: the caller's promise.
        let shape = unsafe { memory::slice(self.shape, self.rank, "shape")? };
        let spec = match (self.width, shape) {
            (0, []) => ActionSpec::any(),
            (width, []) => ActionSpec::vector(width),
            (0, shape) => ActionSpec::shape(shape),
            (width, _) => {
                return Err(Failure::misuse(format_args!(
                    "the action is declared with a width of {width} and with a shape, expected one \
                     of them"
                )));
            }
        };
        Ok(match self.dtypes {
            CHIRAL_DTYPES_DEFAULT => spec,
            CHIRAL_DTYPES_ANY => spec.dtypes(DtypeKind::Any),
            CHIRAL_DTYPES_FLOAT => spec.dtypes(DtypeKind::Float),
            CHIRAL_DTYPES_INTEGER => spec.dtypes(DtypeKind::Integer),
            CHIRAL_DTYPES_BOOL => spec.dtypes(DtypeKind::Bool),
            other => return Err(Failure::misuse(format_args!("{other} is no kind of dtypes"))),
        })
    }

    /// The specification with what becomes of actions that break it or do not come.
    fn rules(&self, mut spec: ActionSpec) -> Result<ActionSpec, Failure> {
        spec = spec.on_violation(match self.on_violation {
            CHIRAL_REFUSE => OnViolation::Refuse,
            CHIRAL_CLAMP => OnViolation::Clamp,
            other => {
                return Err(Failure::misuse(format_args!(
                    "{other} is nothing that becomes of an action"
                )));
            }
        });
        spec = spec.arming(match self.arming {
            CHIRAL_ARM_ON_CONNECT => Arming::OnConnect,
            CHIRAL_ARM_ON_RESET => Arming::OnReset,
            CHIRAL_ARM_MANUALLY => Arming::Manual,
            other => {
                return Err(Failure::misuse(format_args!("{other} is nothing that arms a robot")));
            }
        });
        if self.rate != 0.0 {
            spec = spec.rate(Rate::hz(self.rate).map_err(Failure::misuse)?);
        }
        if self.hold_after != 0 {
            spec = spec.hold_after(periods(self.hold_after.max(0), "hold_after")?);
        }
        if self.stop_after != 0 {
            spec = spec.stop_after(periods(self.stop_after, "stop_after")?);
        }
        for (name, value) in [("watchdog", self.watchdog), ("max_obs_age", self.max_obs_age)] {
            if value != 0.0 {
                return Err(Failure::misuse(format_args!(
                    "{name} of the action is {value}, expected zero: it is a setting of the server"
                )));
            }
        }
        Ok(spec)
    }
}

fn periods(count: i64, what: &str) -> Result<u32, Failure> {
    u32::try_from(count).map_err(|_| {
        Failure::misuse(format_args!("{what} is {count}, expected a number of missed periods"))
    })
}

impl From<ContractStatus> for chiral_contract_status {
    fn from(status: ContractStatus) -> Self {
        Self {
            state: match status.state {
                ArmingState::Armed => CHIRAL_ARMED,
                ArmingState::Moving => CHIRAL_MOVING,
                ArmingState::Holding => CHIRAL_HOLDING,
                ArmingState::Stopped => CHIRAL_STOPPED,
                _ => CHIRAL_DISARMED,
            },
            on_time: status.on_time,
            periods: status.periods,
            missed: status.missed,
            refused: status.refused,
            clamped: status.clamped,
            not_armed: status.not_armed,
            stops: status.stops,
            ..sized::zeroed()
        }
    }
}

/// The robot's contract, as far as the client knows it, to be freed: what its metadata said when they
/// last came. Of a robot that declares none, and before, it allows everything.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_contract(
    client: *const chiral_client,
    contract: *mut *mut chiral_contract,
) -> chiral_status {
    let known = || {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        Ok(chiral_contract::from(client.0.contract()))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(contract, "contract", known) }
}

/// What a contract says. What the struct points to is valid until the contract is freed.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_contract_spec(
    contract: *const chiral_contract,
    spec: *mut chiral_action_spec,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let value = unsafe { memory::borrow(contract, "contract")? }.to_spec();
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(spec, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// What a contract says, in a few lines for a person. Valid until the contract is freed.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_contract_text(contract: *const chiral_contract) -> *const c_char {
    guard_or(std::ptr::null(), || {
        // SAFETY: as the header asks of callers.
        Ok(unsafe { memory::borrow(contract, "contract")? }.text.as_ptr())
    })
}

/// Frees a contract. Does nothing to a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_contract_free(contract: *mut chiral_contract) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(contract) };
}

/// How the robot says that this policy keeps to its contract, with the latest observation that said it;
/// `CHIRAL_NOTHING` for a robot that declares none, and before.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_contract_status(
    client: *const chiral_client,
    status: *mut chiral_contract_status,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let found = unsafe { memory::borrow(client, "client")? }.0.contract_status();
        // SAFETY: as the header asks of callers.
        unsafe { write_status(status, found) }
    })
}

/// How the policy that is connected keeps to the contract; `CHIRAL_NOTHING` when there is none.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_contract_status(
    server: *const chiral_server,
    status: *mut chiral_contract_status,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let found = unsafe { memory::borrow(server, "server")? }.server.stats();
        // SAFETY: as the header asks of callers.
        unsafe { write_status(status, found.map(|stats| stats.contract)) }
    })
}

/// # Safety
/// As for [`sized::write`].
unsafe fn write_status(
    place: *mut chiral_contract_status,
    status: Option<ContractStatus>,
) -> Result<chiral_status, Failure> {
    let Some(status) = status else { return Ok(CHIRAL_NOTHING) };
    // SAFETY: the caller's promise.
    unsafe { sized::write(place, &status.into())? };
    Ok(CHIRAL_OK)
}

/// Arms the robot: lets the actions of the policy that is connected move it, after a stop too.
/// `CHIRAL_NOTHING` when no policy is connected; the next one is not armed by it.
///
/// Any thread, callbacks too; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_arm(server: *const chiral_server) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        Ok(done(unsafe { memory::borrow(server, "server")? }.server.arm()))
    })
}

/// Stops the robot: what waits is dropped, `on_stop` is called, and no action reaches the robot until it
/// is armed again. The policy stays connected. `CHIRAL_NOTHING` when there is none. It is no emergency
/// stop: that one must work without this program.
///
/// Any thread, callbacks too; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_stop_motion(server: *const chiral_server) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        Ok(done(unsafe { memory::borrow(server, "server")? }.server.stop_motion()))
    })
}

/// What is returned of something that only happens where a policy is connected.
pub(crate) fn done(is_connected: bool) -> chiral_status {
    if is_connected { CHIRAL_OK } else { CHIRAL_NOTHING }
}
