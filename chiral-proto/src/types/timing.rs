//! What the timing extension says: see PROTOCOL.md.

use std::fmt;
use std::time::{Duration, Instant};

use super::contract::ContractStatus;

/// What the policy says of an action that leaves, beside what it is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The action's number among all that the policy has sent on the connection, from 1.
    pub seq: u64,
    /// For how long the policy held the observation on which the action was decided: from its
    /// complete arrival to the moment at which the action left. `None` without such an observation.
    pub hold: Option<Duration>,
}

/// When an observation came to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When the request was sent that it answers; `None` where another sending of it may have been
    /// answered, on a lossy transport.
    pub requested: Option<Instant>,
    /// When the whole observation had arrived.
    pub received: Instant,
}

/// What the robot says of time in an observation, if it knows the timing extension and the policy
/// has shown that it does. [`Observation::timing`](crate::Observation::timing) reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Timing {
    /// The number of the last action that the robot was done with when it took the observation: all
    /// up to this were given to it, or dropped, and none behind it. 0 before the first.
    pub applied: u64,
    /// When the robot took the observation, since the connection began, by its monotonic clock.
    pub snap: Duration,
    /// How old the image of each camera was at that moment, in the order of the observation's
    /// cameras; `None` where the robot does not know.
    pub ages: Vec<Option<Duration>>,
    /// The last action that the robot was given.
    pub last: Option<ActionTiming>,
    /// How the policy keeps to the robot's contract, if it [declares one](crate::ActionSpec).
    pub contract: Option<ContractStatus>,
}

/// Where the time went that lies between what an action was decided on and the action itself, as
/// the robot knows it. Each part is a difference of one clock: no clocks are compared.
///
/// `age` = `sensor_wait` + `network` + the policy's hold + `queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActionTiming {
    /// The action's number.
    pub seq: u64,
    /// From the capture of what it was decided on to when it was given to the robot: of the newest
    /// camera image, as in [`Sensors::observation_age`](crate::sensors::Sensors::observation_age).
    pub age: Option<Duration>,
    /// From that capture to when the observation left.
    pub sensor_wait: Option<Duration>,
    /// The ways of the observation and of the action together, the transports' queues included.
    pub network: Option<Duration>,
    /// From the action's arrival to when it was given to the robot.
    pub queue: Duration,
}

/// How old something is that was captured by another clock: between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// It is this old, or older: the way from the robot took no time at the least.
    pub at_least: Duration,
    /// It is this old, or younger: the way took no longer than the answer did. `None` where that is
    /// not known.
    pub at_most: Option<Duration>,
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_most {
            Some(at_most) => write!(f, "{:.1?} to {at_most:.1?}", self.at_least),
            None => write!(f, "at least {:.1?}", self.at_least),
        }
    }
}
