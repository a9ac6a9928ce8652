//! What becomes of a robot and its actions by the contract that it declares with
//! [`ActionSpec`](crate::ActionSpec).

use std::fmt;
use std::time::Duration;

/// What becomes of an action that is out of bounds or too large a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnViolation {
    /// It is not executed.
    #[default]
    Refuse,
    /// It is brought within the bounds, and within the largest step, and
    /// [marked](crate::Action::clamped). Only `float32` and `float64` are; actions of another dtype
    /// are refused. NaN and infinities are refused in any case, and so is a step for which there is
    /// nothing within the bounds.
    Clamp,
}

impl OnViolation {
    pub(super) const ALL: [Self; 2] = [Self::Refuse, Self::Clamp];

    /// The name in the metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Clamp => "clamp",
        }
    }
}

/// What arms the robot: lets a policy's actions move it.
///
/// Whatever is chosen, the robot's own program [can arm it](crate::server::Server::arm), and the end
/// of a connection disarms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Arming {
    /// A new connection. After a stop the policy has to connect again.
    #[default]
    OnConnect,
    /// A reset, once the robot has done it; also after a stop.
    OnReset,
    /// Nothing that the policy does; only the robot's own program, or its operator.
    Manual,
}

impl Arming {
    pub(super) const ALL: [Self; 3] = [Self::OnConnect, Self::OnReset, Self::Manual];

    /// The name in the metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnConnect => "connect",
            Self::OnReset => "reset",
            Self::Manual => "manual",
        }
    }
}

/// Whether a policy's actions move the robot.
///
/// ```text
///               arm              an action is given           periods are missed
///  Disarmed ──────────► Armed ──────────────────────► Moving ────────────────────► Holding
///                       ▲ ▲ ▲                          │  ▲                         │ │
///                       │ │ └── a reset is answered ───┤  └── an action is given ───┘ │
///                       │ └─────────────────────────── │ ──────── the same ───────────┤
///                      arm                             │   more periods are missed    │
///                       │                              ▼   or the robot's own program ▼
///                       └─────────────────────────── Stopped ◄────────────────────────┘
/// ```
///
/// What arms is the robot's choice: see [`Arming`]. The robot's own program can stop it in any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ArmingState {
    /// Actions are refused: the robot has not been armed since the policy connected.
    #[default]
    Disarmed,
    /// The next action moves the robot. None has since it was armed or reset.
    Armed,
    /// Actions move the robot.
    Moving,
    /// No action has come in time, and the robot holds. The next one moves it again.
    Holding,
    /// Actions are refused: too many periods were missed, or the robot's own program has stopped it.
    /// It stays so until the robot is armed again.
    Stopped,
}

impl ArmingState {
    const ALL: [Self; 5] =
        [Self::Disarmed, Self::Armed, Self::Moving, Self::Holding, Self::Stopped];

    /// The name in the extra of an observation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disarmed => "disarmed",
            Self::Armed => "armed",
            Self::Moving => "moving",
            Self::Holding => "holding",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the next action moves the robot, if the contract allows it.
    pub const fn takes_actions(self) -> bool {
        matches!(self, Self::Armed | Self::Moving | Self::Holding)
    }

    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().as_bytes() == name)
    }
}

impl fmt::Display for ArmingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a robot was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// As many periods as [`ActionSpec::stop_after`](crate::ActionSpec::stop_after) says passed
    /// without an action.
    MissedPeriods {
        /// The time since the last action.
        silent_for: Duration,
    },
    /// The robot's own program wanted it.
    Requested,
}

impl StopReason {
    /// The time since the last action, where that is the reason; else 0.
    pub fn silent_for(&self) -> Duration {
        match self {
            Self::MissedPeriods { silent_for } => *silent_for,
            Self::Requested => Duration::ZERO,
        }
    }
}

/// Completes the sentence "the robot was stopped: …".
impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissedPeriods { silent_for } => {
                write!(f, "no action has come for {silent_for:.1?}")
            }
            Self::Requested => f.write_str("its own program stopped it"),
        }
    }
}

/// How a connection keeps to the robot's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ContractStatus {
    /// Whether actions move the robot.
    pub state: ArmingState,
    /// Of the last [`periods`](Self::periods), those in which an action came on time.
    pub on_time: u32,
    /// The last periods while actions moved the robot, 100 at most; 0 if the robot declares no rate.
    pub periods: u32,
    /// All periods that were missed.
    pub missed: u64,
    /// Actions that were refused: not what an action must look like, out of bounds, or too large a
    /// step.
    pub refused: u64,
    /// Actions that were clamped.
    pub clamped: u64,
    /// Actions that came while the robot was disarmed or stopped.
    pub not_armed: u64,
    /// How often the robot was stopped.
    pub stops: u64,
}

impl ContractStatus {
    /// The share of the last periods in which an action came on time, from 0 to 1; `None` before the
    /// first, or if the robot declares no rate.
    pub fn success_rate(&self) -> Option<f64> {
        (self.periods > 0).then(|| f64::from(self.on_time) / f64::from(self.periods))
    }
}

/// One line.
impl fmt::Display for ContractStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, missed, refused, clamped, not_armed, stops, .. } = self;
        write!(f, "{state}")?;
        if let Some(rate) = self.success_rate() {
            write!(f, "; {:.0}% of the last {} periods on time", 100.0 * rate, self.periods)?;
        }
        write!(
            f,
            "; {missed} missed, {refused} refused, {clamped} clamped, {not_armed} not armed, \
             {stops} stops"
        )
    }
}
