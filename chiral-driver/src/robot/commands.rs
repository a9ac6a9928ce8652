use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{
    Answer, Event, ObserveReply, ReplyError, ResetReply, Server, Stats, StepReply,
};
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult, StopReason};

use super::callbacks::{log_camera, log_stop};
use crate::server::{Lease, ServerConfig, ServerState};

/// What a policy wants of a robot that [pulls its commands](Commands).
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum Command {
    /// Apply this action now.
    Action(Action),
    /// Reset, and answer with [`Commands::reply_reset`]. What the policy sent behind it is held
    /// back until then.
    Reset(ResetReply),
    /// The legacy, coupled step: apply the action, `[N, D]`, and answer with
    /// [`Commands::reply_step`].
    Step(Action, StepReply),
    /// Make an observation, and answer with [`Commands::reply_observation`]. Only where
    /// [`ServerConfig::pull_observations`] asks for it.
    Observe(ObserveReply),
    /// Hold still.
    Hold(Hold),
}

/// Why a robot is to hold still.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hold {
    /// No action has come for longer than the server's watchdog allows.
    Watchdog {
        /// The time since the last action, or since the policy connected.
        silent_for: Duration,
    },
    /// The robot is stopped: no action comes until it is armed again, by what its
    /// [`ActionSpec`](chiral_proto::ActionSpec) declares or by [`Commands::arm`].
    Stopped(StopReason),
    /// The policy has gone.
    Disconnected(ConnectionError),
}

/// The commands of a robot's policies, for a robot that pulls them in a loop of its own instead of
/// being called: made by [`PolicyServer::pull`](crate::PolicyServer::pull).
///
/// No call here waits: each takes well under a microsecond, or a few where it answers. Observations
/// and metadata are answered without the loop, from the sensors, with their
/// [extra](Sensors::set_extra), and from what was given to `pull` or
/// [`set_metadata`](Self::set_metadata). A robot that makes its observations itself sets
/// [`ServerConfig::pull_observations`].
///
/// A loop that only moves needs [`try_next_action`](Self::try_next_action) and
/// [`must_hold`](Self::must_hold); one that has something to do on a reset takes every
/// [`Command`] from [`try_next`](Self::try_next).
///
/// When it is dropped, the policy is told that the control loop has ended, and the server takes no
/// other in.
pub struct Commands {
    slot: Arc<CommandSlot>,
    lease: Option<Lease>,
    /// The step whose action was handed out last by `try_next_action`.
    step_reply: Option<StepReply>,
    must_hold: bool,
    /// What must not go before the commands do: a handle to the server.
    kept: Box<dyn Any + Send>,
    /// Has the transport say the metadata, where it does so without being connected.
    announce: Box<dyn Fn(&Map) + Send>,
}

/// Where the lease of an admitted policy waits for the control loop to look at it.
pub struct CommandSlot {
    sensors: Sensors,
    metadata: Mutex<Map>,
    state: Mutex<SlotState>,
    /// Notified once the control loop has ended.
    closed: event_listener::Event,
}

#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Waiting(Lease),
    /// The control loop has ended.
    Closed,
}

impl CommandSlot {
    /// A slot that is empty; of a robot with these sensors and metadata.
    pub fn new(sensors: Sensors, metadata: Map) -> Arc<Self> {
        let (state, closed) = (Mutex::default(), event_listener::Event::new());
        Arc::new(Self { sensors, metadata: Mutex::new(metadata), state, closed })
    }

    /// The machine of a new policy's connection: it answers in the robot's place what needs no
    /// robot.
    pub fn machine(&self, config: &ServerConfig) -> Server {
        let mut server = Server::new(Instant::now(), config.machine(true));
        if config.pull_observations {
            server.set_sensors(self.sensors.clone());
        } else {
            server.set_default_observation(self.sensors.clone());
        }
        server.set_default_metadata(self.lock_metadata().clone());
        server
    }

    fn lock_metadata(&self) -> MutexGuard<'_, Map> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a policy wait until the control loop looks at it.
    pub fn put(&self, lease: Lease) {
        let mut state = self.lock();
        if let SlotState::Closed = *state {
            drop(state);
            return fail_for_ended_loop(&lease);
        }
        // It may have changed since the machine was made.
        let metadata = self.lock_metadata().clone();
        let connection = Arc::clone(lease.connection());
        let set = |state: &mut ServerState, _| state.machine.set_default_metadata(metadata);
        let ((), wake) = connection.change(set);
        *state = SlotState::Waiting(lease);
        // The control loop may be waiting for the lock: no system call under it.
        drop(state);
        if wake {
            connection.wake_driver();
        }
    }

    /// Whether the control loop has ended.
    pub fn is_closed(&self) -> bool {
        matches!(*self.lock(), SlotState::Closed)
    }

    /// Waits until the control loop has ended.
    pub async fn wait_until_closed(&self) {
        let closed = self.closed.listen();
        if !self.is_closed() {
            closed.await;
        }
    }

    fn take(&self) -> Option<Lease> {
        let mut state = self.lock();
        match std::mem::take(&mut *state) {
            SlotState::Waiting(lease) => Some(lease),
            other => {
                *state = other;
                None
            }
        }
    }
}

fn fail_for_ended_loop(lease: &Lease) {
    lease.connection().call(|state, _| state.machine.fail("its control loop has ended"));
}

impl Commands {
    /// The commands of the policies that are put in a slot.
    pub fn new(slot: Arc<CommandSlot>) -> Self {
        Self {
            slot,
            lease: None,
            step_reply: None,
            must_hold: true,
            kept: Box::new(()),
            announce: Box::new(|_| ()),
        }
    }

    /// Has [`set_metadata`](Self::set_metadata) tell the transport, too.
    #[must_use]
    pub fn announcing(mut self, announce: impl Fn(&Map) + Send + 'static) -> Self {
        self.announce = Box::new(announce);
        self
    }

    /// Has the commands keep a handle to what they come from, until they are dropped.
    #[must_use]
    pub fn keeping(mut self, handle: impl Send + 'static) -> Self {
        let kept = std::mem::replace(&mut self.kept, Box::new(()));
        self.kept = Box::new((kept, handle));
        self
    }

    /// The next command, in the order in which the policy means them; `None` when there is none at
    /// the moment.
    pub fn try_next(&mut self) -> Option<Command> {
        self.answer_last_step();
        let command = self.poll()?;
        match command {
            Command::Hold(_) => self.must_hold = true,
            Command::Action(_) | Command::Step(..) => self.must_hold = false,
            // They move nothing towards where the policy before wanted to go.
            Command::Reset(_) | Command::Observe(_) => {}
        }
        Some(command)
    }

    /// The next action to apply; `None` when there is none at the moment. What else a policy may
    /// want is done as for a robot that does not override it: a reset does nothing and is answered
    /// with a snapshot of the sensors, so is a request for an observation, and so is a step, with
    /// the call after the one that returned its action.
    pub fn try_next_action(&mut self) -> Option<Action> {
        loop {
            match self.try_next()? {
                Command::Action(action) => return Some(action),
                Command::Step(action, reply) => {
                    self.step_reply = Some(reply);
                    return Some(action);
                }
                Command::Reset(reply) => {
                    let observation = self.slot.sensors.snapshot_now();
                    // Its policy may have gone.
                    let _ = self
                        .reply_reset(reply, ResetResult { observation, ..ResetResult::default() });
                }
                Command::Observe(reply) => {
                    // Its policy may have gone.
                    let _ = self.reply_observation(reply, &self.slot.sensors);
                }
                Command::Hold(_) => {}
            }
        }
    }

    /// Whether the robot is to hold still: it has never had an action, or was told to since. Only
    /// an action ends that.
    pub fn must_hold(&self) -> bool {
        self.must_hold
    }

    /// Whether a policy is connected, as far as the commands that were pulled tell.
    pub fn is_connected(&self) -> bool {
        self.lease.is_some()
    }

    /// Answers a reset.
    ///
    /// # Errors
    /// When the policy that asked for it has gone.
    pub fn reply_reset(&self, reply: ResetReply, result: ResetResult) -> Result<(), ReplyError> {
        self.reply(|server| server.reply_reset(reply, result))
    }

    /// Answers a request for an observation: with an [`Observation`](chiral_proto::Observation), or
    /// with `&sensors` for a snapshot when the answer leaves.
    ///
    /// # Errors
    /// When the policy that asked for it has gone.
    pub fn reply_observation(
        &self,
        reply: ObserveReply,
        answer: impl Into<Answer>,
    ) -> Result<(), ReplyError> {
        self.reply(|server| server.reply_observation(reply, answer))
    }

    /// Has the robot describe itself so from now on, in the place of what was given to `pull`.
    pub fn set_metadata(&self, metadata: Map) {
        (self.announce)(&metadata);
        (*self.slot.lock_metadata()).clone_from(&metadata);
        let describe = move |lease: &Lease| {
            lease
                .connection()
                .call(|state, _| state.machine.set_default_metadata(metadata.clone()));
        };
        self.lease.iter().for_each(&describe);
        if let SlotState::Waiting(lease) = &*self.slot.lock() {
            describe(lease);
        }
    }

    /// Answers a step.
    ///
    /// # Errors
    /// When the policy that asked for it has gone.
    pub fn reply_step(&self, reply: StepReply, result: StepResult) -> Result<(), ReplyError> {
        self.reply(|server| server.reply_step(reply, result))
    }

    /// Arms the robot: lets the actions of the policy that is connected move it, after a stop too. Which
    /// other things do, the robot's [`ActionSpec`](chiral_proto::ActionSpec) declares. False when no
    /// policy is connected, as far as the commands that were pulled tell; the next one is not armed by it.
    pub fn arm(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| {
            lease.connection().call(|state, now| state.machine.arm(now));
            true
        })
    }

    /// Stops the robot: what waits is dropped, and no action comes until it is armed again. The next
    /// command is [`Hold::Stopped`]. False when no policy is connected. It is no emergency stop.
    pub fn stop_motion(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| {
            lease.connection().call(|state, now| state.machine.stop_motion(now));
            true
        })
    }

    /// What was counted of the policy's connection; `None` when there is no policy.
    pub fn stats(&self) -> Option<Stats> {
        Some(self.lease.as_ref()?.connection().lock().machine.stats())
    }

    fn reply(
        &self,
        reply: impl FnOnce(&mut Server) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        let lease = self.lease.as_ref().ok_or(ReplyError::ForeignHandle)?;
        lease.connection().call(|state, _| reply(&mut state.machine))
    }

    fn answer_last_step(&mut self) {
        if let Some(reply) = self.step_reply.take() {
            let observation = self.slot.sensors.snapshot_now();
            // Its policy may have gone.
            let _ = self.reply_step(reply, StepResult { observation, ..StepResult::default() });
        }
    }

    fn poll(&mut self) -> Option<Command> {
        if self.lease.is_none() {
            self.lease = self.slot.take();
        }
        let connection = self.lease.as_ref()?.connection();
        if !connection.lock().has_event() {
            return None;
        }
        match connection.call(|state, now| state.machine.poll_event(now))? {
            Event::Action(action) => Some(Command::Action(action)),
            Event::Watchdog { silent_for } => Some(Command::Hold(Hold::Watchdog { silent_for })),
            Event::Stopped(reason) => {
                log_stop(&reason);
                Some(Command::Hold(Hold::Stopped(reason)))
            }
            Event::Disconnected(reason) => {
                self.lease = None;
                Some(Command::Hold(Hold::Disconnected(reason)))
            }
            Event::Reset(reply) => Some(Command::Reset(reply)),
            Event::Step(action, reply) => Some(Command::Step(action, reply)),
            Event::Observe(reply) => Some(Command::Observe(reply)),
            Event::ActionsDropped { count, reason } => {
                if let Some(lease) = &self.lease {
                    lease.connection().warn_of_drops(count, &reason);
                }
                self.poll()
            }
            Event::ActionsClamped { count, error } => {
                if let Some(lease) = &self.lease {
                    lease.connection().warn_of_clamps(count, &error);
                }
                self.poll()
            }
            // The machine answers requests itself.
            other => {
                log_camera(&other);
                self.poll()
            }
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let waiting = std::mem::replace(&mut *self.slot.lock(), SlotState::Closed);
        self.slot.closed.notify(usize::MAX);
        self.lease.iter().for_each(fail_for_ended_loop);
        if let SlotState::Waiting(lease) = waiting {
            fail_for_ended_loop(&lease);
        }
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands")
            .field("is_connected", &self.is_connected())
            .field("must_hold", &self.must_hold)
            .finish_non_exhaustive()
    }
}
