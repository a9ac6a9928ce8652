use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Answer, Event, ReplyError, ResetReply, Server, Stats, StepReply};
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult};

use crate::turn::Turn;

/// What a policy wants of a robot that [pulls its commands](Commands).
#[derive(Debug)]
#[must_use]
pub enum Command {
    /// Apply this action now.
    Action(Action),
    /// Reset, and answer with [`Commands::reply_reset`]. What the policy sent behind it is held
    /// back until then.
    Reset(ResetReply),
    /// The legacy, coupled step: apply the action, `[N, D]`, and answer with
    /// [`Commands::reply_step`].
    Step(Action, StepReply),
    /// Hold still.
    Hold(Hold),
}

/// Why a robot is to hold still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// No action has come for longer than the server's watchdog allows.
    Watchdog {
        /// The time since the last action.
        silent_for: Duration,
    },
    /// The policy has gone.
    Disconnected(ConnectionError),
}

/// The commands of a robot's policies, for a robot that pulls them in a loop of its own instead of
/// being called: made by [`PolicyServer::pull`](crate::PolicyServer::pull).
///
/// No call here waits: each takes well under a microsecond, or a few where it answers. Observations
/// and metadata are answered without the loop, from the sensors and what was given to `pull`, as
/// long as no reset or step is being worked on.
///
/// A loop that only moves needs [`try_next_action`](Self::try_next_action) and
/// [`must_hold`](Self::must_hold); one that has something to do on a reset takes every
/// [`Command`] from [`try_next`](Self::try_next).
///
/// When it is dropped, the policy is told that the control loop has ended, and the server takes no
/// other in.
pub struct Commands {
    seat: Arc<Seat>,
    sensors: Sensors,
    turn: Option<Turn>,
    /// The step whose action was handed out last by `try_next_action`.
    stepping: Option<StepReply>,
    must_hold: bool,
    /// What must not go before the commands do: a handle to the server.
    kept: Box<dyn Any + Send>,
}

/// Where policies take their place in front of a robot that pulls.
pub(crate) struct Seat {
    sensors: Sensors,
    metadata: Map,
    /// Those that were let in and not looked at yet; `None` once the control loop has ended.
    waiting: Mutex<Option<Vec<Turn>>>,
    /// Notified once it has.
    left: event_listener::Event,
}

impl Seat {
    pub(crate) fn new(sensors: Sensors, metadata: Map) -> Arc<Self> {
        let waiting = Mutex::new(Some(Vec::new()));
        Arc::new(Self { sensors, metadata, waiting, left: event_listener::Event::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Turn>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a policy's turn wait until the control loop looks at it.
    pub(crate) fn take(&self, turn: Turn) {
        let mut waiting = self.lock();
        if let Some(waiting) = &mut *waiting {
            let (sensors, metadata) = (self.sensors.clone(), self.metadata.clone());
            let clerk = Clerk { sensors, metadata, barrier: None };
            turn.shared.call(|side, _| side.clerk = Some(clerk));
            waiting.push(turn);
        } else {
            drop(waiting);
            send_away(&turn);
        }
    }

    /// Waits until the control loop has ended.
    pub(crate) async fn until_left(&self) {
        let left = self.left.listen();
        if self.lock().is_some() {
            left.await;
        }
    }

    /// The turn that is next, once the robot is done with those before.
    fn next(&self) -> Option<Turn> {
        let mut waiting = self.lock();
        let waiting = waiting.as_mut()?;
        let next = waiting.iter().position(Turn::is_now)?;
        Some(waiting.swap_remove(next))
    }
}

fn send_away(turn: &Turn) {
    turn.shared.call(|side, _| side.machine.fail("its control loop has ended"));
}

/// Answers, for a robot that pulls its commands, what needs no robot.
pub(super) struct Clerk {
    sensors: Sensors,
    metadata: Map,
    /// A request that does need it.
    barrier: Option<Event>,
}

impl Clerk {
    // That nobody waits for the answer any more is no fault: such an error of a reply is dropped.
    pub(super) fn answer(&mut self, server: &mut Server) {
        while let Some(request) = server.poll_request() {
            match request {
                Event::Metadata(reply) => {
                    let _ = server.reply_metadata(reply, self.metadata.clone());
                }
                Event::Observe(reply) => {
                    let _ = server.reply_observation(reply, Answer::from(&self.sensors));
                }
                barrier => self.barrier = Some(barrier),
            }
        }
    }
}

impl Commands {
    pub(crate) fn new(seat: Arc<Seat>, server: impl Send + 'static) -> Self {
        let sensors = seat.sensors.clone();
        Self { seat, sensors, turn: None, stepping: None, must_hold: true, kept: Box::new(server) }
    }

    /// The same commands, which also keep something alive for as long as they are: an adapter's own
    /// handle to the server.
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
        self.must_hold = matches!(command, Command::Hold(_));
        Some(command)
    }

    /// The next action to apply; `None` when there is none at the moment. What else a policy may
    /// want is done as for a robot that does not override it: a reset does nothing and is answered
    /// with a snapshot of the sensors, and so is a step, with the call after the one that returned
    /// its action.
    pub fn try_next_action(&mut self) -> Option<Action> {
        loop {
            match self.try_next()? {
                Command::Action(action) => return Some(action),
                Command::Step(action, reply) => {
                    self.stepping = Some(reply);
                    return Some(action);
                }
                Command::Reset(reply) => {
                    let observation = self.sensors.snapshot_now();
                    // Its policy may have gone.
                    let _ = self
                        .reply_reset(reply, ResetResult { observation, ..ResetResult::default() });
                }
                Command::Hold(_) => {}
            }
        }
    }

    /// Whether the robot is to hold still: it has never had a command, or the last one was
    /// [`Command::Hold`].
    pub fn must_hold(&self) -> bool {
        self.must_hold
    }

    /// Whether a policy is connected, as far as the commands that were pulled tell.
    pub fn is_connected(&self) -> bool {
        self.turn.is_some()
    }

    /// Answers a reset.
    ///
    /// # Errors
    /// When the policy that asked for it has gone.
    pub fn reply_reset(&self, reply: ResetReply, result: ResetResult) -> Result<(), ReplyError> {
        self.reply(|server| server.reply_reset(reply, result))
    }

    /// Answers a step.
    ///
    /// # Errors
    /// When the policy that asked for it has gone.
    pub fn reply_step(&self, reply: StepReply, result: StepResult) -> Result<(), ReplyError> {
        self.reply(|server| server.reply_step(reply, result))
    }

    /// What was counted of the policy's connection; `None` when there is no policy.
    pub fn stats(&self) -> Option<Stats> {
        Some(self.turn.as_ref()?.shared.lock().machine.stats())
    }

    fn reply(
        &self,
        reply: impl FnOnce(&mut Server) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        let turn = self.turn.as_ref().ok_or(ReplyError::ForeignHandle)?;
        turn.shared.call(|side, _| reply(&mut side.machine))
    }

    fn answer_last_step(&mut self) {
        if let Some(reply) = self.stepping.take() {
            let observation = self.sensors.snapshot_now();
            // Its policy may have gone.
            let _ = self.reply_step(reply, StepResult { observation, ..StepResult::default() });
        }
    }

    fn poll(&mut self) -> Option<Command> {
        if self.turn.is_none() {
            self.turn = self.seat.next();
        }
        let shared = &self.turn.as_ref()?.shared;
        let (event, wants_more) = {
            let mut side = shared.lock();
            let side = &mut *side;
            let barrier = side.clerk.as_mut().and_then(|clerk| clerk.barrier.take());
            // A robot whose policy has gone is not moved any more.
            let barrier = barrier.filter(|_| side.machine.error().is_none());
            let event = barrier.or_else(|| side.machine.poll_motion())?;
            (event, side.machine.has_request() || side.machine.error().is_some())
        };
        if wants_more {
            // What waited for this event may go on.
            shared.call(|_, _| ());
        }
        match event {
            Event::Action(action) => Some(Command::Action(action)),
            Event::Watchdog { silent_for } => Some(Command::Hold(Hold::Watchdog { silent_for })),
            Event::Disconnected(reason) => {
                self.turn = None;
                Some(Command::Hold(Hold::Disconnected(reason)))
            }
            Event::Reset(reply) => Some(Command::Reset(reply)),
            Event::Step(action, reply) => Some(Command::Step(action, reply)),
            Event::Metadata(_) | Event::Observe(_) => unreachable!("the clerk answers these"),
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let waiting = self.seat.lock().take().unwrap_or_default();
        self.seat.left.notify(usize::MAX);
        self.turn.iter().chain(&waiting).for_each(send_away);
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
