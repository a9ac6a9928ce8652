use std::time::Duration;

use crate::wire::Limits;
use crate::{ActionSpec, Map};

/// How a [`Server`](super::Server) behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Bounds on what the client may send. Default: those of [`Limits`], but frames of at most
    /// 1 MiB with a header of at most 64 KiB: a client sends actions, not images.
    pub limits: Limits,
    /// How many requests of the client may wait for their answer; one more ends the connection.
    /// Default: 64.
    pub pending_replies: usize,
    /// What becomes of actions that come faster than the robot takes them. Default:
    /// [`ActionQueue::Latest`].
    pub action_queue: ActionQueue,
    /// How many bytes the actions and steps that were not told yet may take together, also while a
    /// reset holds them back. When there are more the oldest actions are dropped, and told as
    /// [`DropReason::OverBudget`](super::DropReason::OverBudget); an action that is larger than
    /// the whole budget is never told, and a step that finds no room ends the connection.
    /// Default: 4 MiB.
    pub queue_bytes: usize,
    /// What an action must look like for the robot to see it. An action that does not fit is
    /// dropped, and told as [`DropReason::Refused`](super::DropReason::Refused); it counts as no
    /// sign of life for the [watchdog](Self::watchdog). A step that does not fit ends the
    /// connection, as it cannot be answered. Default: [`ActionSpec::any`], which refuses NaN,
    /// infinities and empty actions.
    pub action_spec: ActionSpec,
    /// After this long without an action [`Event::Watchdog`] tells the robot to hold still. It is
    /// armed from the connection's beginning on, by every action that reaches the queue, and,
    /// after a reset or a step, when the answer leaves; while one of these is being worked on it
    /// is silent. Default: `None`, which is no watchdog unless the
    /// [specification](ActionSpec::hold_after) declares a rate.
    ///
    /// [`Event::Watchdog`]: super::Event::Watchdog
    pub watchdog: Option<Duration>,
    /// An action that was decided on an older observation than this is dropped, when it comes or
    /// when it would be told, and told as
    /// [`DropReason::StaleObservation`](super::DropReason::StaleObservation).
    ///
    /// The age is that of the newest camera frame among the action's `obs_timestamps`, by the
    /// clock of the [sensors](super::Server::set_sensors); see
    /// [`Sensors::observation_age`](crate::sensors::Sensors::observation_age). Without sensors, a
    /// clock, or the timestamp of a camera of theirs, nothing is refused for its age. Legacy steps
    /// are not judged: their policy waits for each answer.
    ///
    /// Default: 5 s. All rows of a chunk carry the timestamps of the one observation on which they
    /// were decided, and legitimately so for as long as the chunk lasts; 5 s admits chunks of 4 s
    /// and a second for inference and the way. A policy that decides each action anew is better
    /// watched with 1 s or less.
    pub max_obs_age: Option<Duration>,
}

impl Config {
    /// A robot's metadata as a server with these settings tells it to its policy: with what is declared
    /// of the actions under the key `chiral`. It is for a network that is told what a robot is before a
    /// policy asks.
    pub fn metadata(&self, mut metadata: Map) -> Map {
        self.contract().add_to(&mut metadata);
        metadata
    }

    /// The action's specification, with what the other settings say of actions.
    pub(super) fn contract(&self) -> ActionSpec {
        let mut contract = self.action_spec.clone();
        let declared = contract.declaration_mut();
        (declared.watchdog, declared.max_obs_age) = (self.watchdog, self.max_obs_age);
        contract
    }
}

/// What becomes of actions that come faster than the robot takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ActionQueue {
    /// The latest counts: an action that was not told yet is superseded by the next one, unless a
    /// reset or a step lies between them. A robot that cannot keep up acts on the newest command
    /// and never lags.
    #[default]
    Latest,
    /// In order; an action that has waited this long, also behind a reset, is dropped. A robot
    /// that cannot keep up lags by this much at the most. Waiting is measured at the times given
    /// to the machine.
    MaxAge(Duration),
    /// Every action, in order. When `capacity` actions wait, and they take a quarter of
    /// [`queue_bytes`](Config::queue_bytes),
    /// [`Server::wants_message`](super::Server::wants_message) asks the driver to leave further
    /// messages in the transport, so that a policy that sends too fast is held up.
    ///
    /// What waits here is dropped when the policy goes. What a held-up policy has left in the
    /// transport is not, because its end lies behind it and is not seen before: the robot goes on
    /// with it for as long as it lasts. By default that takes some 4,000 actions of 7 values that
    /// the robot was not told yet.
    ///
    /// What is left there has not come yet: for the [watchdog](Config::watchdog) and the declared
    /// [`rate`](crate::ActionSpec::rate) that is silence. Choose them longer than the robot takes for a
    /// full queue.
    ///
    /// Messages that are handed over nevertheless are taken, within `queue_bytes`.
    InOrder {
        /// How many actions may wait, however large; 0 counts as 1.
        capacity: usize,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits { frame_len: 1 << 20, header_len: 64 << 10, ..Limits::default() },
            pending_replies: 64,
            action_queue: ActionQueue::default(),
            queue_bytes: 4 << 20,
            action_spec: ActionSpec::any(),
            watchdog: None,
            max_obs_age: Some(Duration::from_secs(5)),
        }
    }
}
