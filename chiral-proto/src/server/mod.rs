//! The robot's side of a connection, as a state machine.
//!
//! A [`Server`] is driven as a [`Client`](crate::client::Client) is: messages and time go in,
//! frames, [`Event`]s and the instant of the next call come out.
//!
//! Requests are events with a handle to answer them. Answers may be given in any order and at any
//! time; they leave in the order of the requests, as the client needs it, for it has nothing else
//! to tell them apart by. Actions are told the moment they arrive, ahead of requests that wait to
//! be told and of answers that wait to leave; only a reset holds back what comes behind it.
//!
//! # What the robot is not told
//! The robot hears of an action only while it is worth obeying. It is not told, and
//! [told so](Event::ActionsDropped), of an action that a newer one superseded ([`ActionQueue`]),
//! that was decided on an observation of long ago ([`Config::max_obs_age`]), that is not what an
//! action must look like ([`Config::action_spec`]), that came while the robot was not
//! [armed](crate::Arming), or that was decided before it was last stopped. When the connection ends
//! everything that waits is dropped, and [`Event::Disconnected`] is the very next event.
//!
//! ```
//! use std::time::Instant;
//! use chiral_proto::server::{Config, Event, Server};
//! use chiral_proto::wire::ClientMessage;
//! use chiral_proto::{Action, Observation};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
//! let now = Instant::now();
//! let mut server = Server::new(now, Config::default());
//!
//! server.handle_message(now, ClientMessage::Observe.encode().to_bytes());
//! server.handle_message(now, ClientMessage::ApplyAction([0.5].into()).encode().to_bytes());
//!
//! // The action does not wait behind the observation.
//! assert!(matches!(server.poll_event(now), Some(Event::Action(action)) if *action.to_f32() == [0.5]));
//! let Some(Event::Observe(reply)) = server.poll_event(now) else { panic!("the request is next") };
//! server.reply_observation(reply, Observation { timestamp: 1.5, ..Default::default() })?;
//! assert!(server.poll_transmit(now).is_some());
//! # Ok::<(), chiral_proto::server::ReplyError>(())
//! ```

mod answers;
mod arming;
mod changes;
mod clamps;
mod config;
mod drops;
mod event;
mod guard;
mod inbox;
mod lifecycle;
mod periods;
mod reply;
mod stalls;
mod stats;
mod timing;
mod watchdog;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use config::{ActionQueue, Config};
pub use drops::{DropCounts, DropReason};
pub use event::Event;
pub use reply::{Answer, MetadataReply, ObserveReply, ReplyError, ResetReply, StepReply};
pub use stats::Stats;
pub use timing::LatencyStats;

use crate::machine::ToldTimeout;
use crate::sensors::Sensors;
use crate::wire::{self, ClientMessage, Frame, ServerMessage};
use crate::{
    Action, ActionError, ArmingState, ConnectionError, ContractStatus, Map, ResetResult, StepResult,
};
use answers::{Answers, Leaving, Reply, State};
use changes::Changes;
use clamps::Clamps;
use guard::Guard;
use inbox::{Inbox, Request};
use lifecycle::Lifecycle;
use reply::Place;
use stalls::Stalls;
use timing::ActionClock;
use watchdog::Watchdog;

/// The robot's side of one connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Server {
    config: Config,
    lifecycle: Lifecycle,
    inbox: Inbox,
    answers: Answers,
    watchdog: Watchdog,
    guard: Guard,
    changes: Changes,
    clamps: Clamps,
    clock: ActionClock,
    stalls: Stalls,
    sensors: Option<Sensors>,
    /// Requests for an observation are answered with a snapshot of the sensors.
    answers_observe: bool,
    /// What requests for metadata are answered with.
    metadata: Option<Map>,
    /// How many requests have come.
    requests: u64,
    timeout_told: ToldTimeout,
    /// The driver was told to hand no message over.
    is_held_up: bool,
    stats: Stats,
}

impl Server {
    /// A server of a connection that has been made now.
    pub fn new(now: Instant, mut config: Config) -> Self {
        config.action_spec = config.contract();
        let guard = Guard::new(&config.action_spec);
        let mut watchdog = Watchdog::new(now, config.action_spec.hold_timeout());
        if !guard.is_armed() {
            watchdog.pause();
        }
        Self {
            lifecycle: Lifecycle::Open,
            inbox: Inbox::new(config.action_queue, config.queue_bytes),
            answers: Answers::default(),
            watchdog,
            guard,
            changes: Changes::default(),
            clamps: Clamps::default(),
            clock: ActionClock::new(now),
            stalls: Stalls::default(),
            sensors: None,
            answers_observe: false,
            metadata: None,
            requests: 0,
            timeout_told: ToldTimeout::default(),
            is_held_up: false,
            stats: Stats::default(),
            config,
        }
    }

    // ---- what the robot gives up front --------------------------------------------------------

    /// Tells the server of the robot's sensors: their clock says how old the observation is that
    /// an action was decided on ([`Config::max_obs_age`]), and [`stats`](Self::stats) show the age
    /// of every camera.
    ///
    /// The [clock](Sensors::with_clock) is then called within `handle_message` and `poll_motion`,
    /// once an action; it must take no time.
    pub fn set_sensors(&mut self, sensors: Sensors) {
        self.sensors = Some(sensors);
    }

    /// Answers requests for an observation with a [snapshot](Answer::Snapshot) of the sensors, as
    /// they come: they are no events any more. Includes [`set_sensors`](Self::set_sensors).
    pub fn set_default_observation(&mut self, sensors: Sensors) {
        self.set_sensors(sensors);
        self.answers_observe = true;
    }

    /// Answers requests for metadata with this map, as they come: they are no events any more. What
    /// the [action's specification](Config::action_spec) declares is added under the key `chiral`.
    pub fn set_default_metadata(&mut self, mut metadata: Map) {
        self.config.action_spec.add_to(&mut metadata);
        self.metadata = Some(metadata);
    }

    // ---- what came in -------------------------------------------------------------------------

    /// Takes one message of the transport: one whole frame. A frame that cannot be read ends the
    /// connection; see [`error`](Self::error).
    ///
    /// Time passes too, as in [`handle_timeout`](Self::handle_timeout).
    pub fn handle_message(&mut self, now: Instant, message: Bytes) {
        match Frame::parse(message, &self.config.limits) {
            Ok(frame) => self.handle_frame(now, &frame),
            Err(error) => self.end(error.into()),
        }
    }

    /// As [`handle_message`](Self::handle_message), for a message in the segments in which the
    /// transport has it.
    pub fn handle_segments(&mut self, now: Instant, message: Vec<Bytes>) {
        match Frame::parse_segments(message, &self.config.limits) {
            Ok(frame) => self.handle_frame(now, &frame),
            Err(error) => self.end(error.into()),
        }
    }

    /// As [`handle_message`](Self::handle_message), for a frame that is taken apart already.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        self.handle_timeout(now);
        if self.lifecycle.is_ended() {
            return;
        }
        self.stats.frames_received += 1;
        self.stats.bytes_received += frame.len() as u64;
        let handled = ClientMessage::decode(frame, &self.config.limits)
            .map_err(ConnectionError::from)
            .and_then(|message| {
                if matches!(message, ClientMessage::Observe) && wire::timing::is_numbered(frame) {
                    self.clock.understand();
                }
                self.handle_client(now, message)
            });
        if let Err(error) = handled {
            self.end(error);
        }
    }

    /// Whether the next message is to be handed over. `false` asks the driver to leave it in the
    /// transport, which holds the client up, until this is `true` again; so only with
    /// [`ActionQueue::InOrder`], when as much waits as may. What makes it `true` is that the robot
    /// takes an action or answers a reset, is stopped, or the connection ends.
    ///
    /// The driver's keepalive does not count the client's silence meanwhile; the watchdog does.
    pub fn wants_message(&self) -> bool {
        self.lifecycle.is_ended() || self.inbox.has_room_for(self.config.limits.frame_len)
    }

    /// Lets time pass: to be called when [`poll_timeout`](Self::poll_timeout)'s instant has come.
    /// Calling it early, late or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.lifecycle.shut_down_deadline().is_some_and(|deadline| deadline <= now) {
            self.end(ConnectionError::ShutDown);
        }
        if self.lifecycle.is_ended() {
            return;
        }
        self.inbox.expire(now);
        // A robot at a reset moves by itself.
        if !self.inbox.is_resetting() {
            self.watchdog.check(now);
        }
        if !self.inbox.has_barrier() && self.guard.check(now) {
            self.note_stopped(now);
        }
    }

    /// Tells that bytes of the peer have arrived that are no whole message yet. Time passes too,
    /// as in [`handle_timeout`](Self::handle_timeout); a robot is commanded by whole actions only.
    pub fn note_activity(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    /// Tells that the transport's connection has ended.
    pub fn handle_disconnect(&mut self, _now: Instant, reason: ConnectionError) {
        self.end(reason);
    }

    /// Ends the connection from this side. The transport is then to be closed.
    pub fn close(&mut self) {
        self.end(ConnectionError::ClosedLocally);
    }

    /// Ends the connection as soon as the requests that are waiting have been answered and the
    /// answers taken by the transport, at `deadline` at the latest. Requests that still come are
    /// passed over; actions are not.
    pub fn shut_down(&mut self, deadline: Instant) {
        self.lifecycle.shut_down(deadline);
    }

    /// Ends the connection because another policy gets the robot; the client is told so.
    pub fn hand_over(&mut self) {
        self.end(ConnectionError::TakenOver);
    }

    /// Ends the connection because the robot cannot do what was asked; the client is told why.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.end(ConnectionError::RobotFailed(why.into()));
    }

    // ---- what goes out ------------------------------------------------------------------------

    /// The next frame to send. To be called only when the transport can take one: an observation
    /// that is [taken late](Answer) is taken here, and a request that was
    /// [deferred](Self::defer_observation) is told again.
    ///
    /// Time passes too, as in [`handle_timeout`](Self::handle_timeout).
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        self.handle_timeout(now);
        self.check_abandoned();
        if self.lifecycle.is_shutting_down() && self.answers.is_empty() {
            self.end(ConnectionError::ShutDown);
        }
        if self.lifecycle.is_ended() {
            return None;
        }
        if let Some(place) = self.answers.recall_first() {
            self.inbox.push_due(place);
        }
        let Leaving { arrived, reply, mut applied, stopped_at } = self.answers.take_first()?;
        let mut taken = stopped_at.unwrap_or(now);
        let mut message = match reply {
            Reply::Message(message) => message,
            Reply::Observation(answer) => {
                if answer.is_taken_late() {
                    (applied, taken) = (self.applied(), now);
                }
                match answer.take(now) {
                    Ok(observation) => ServerMessage::Observation(observation),
                    Err(stale) => {
                        self.fail(stale.to_string());
                        return None;
                    }
                }
            }
        };
        self.tell_timing(taken, applied, &mut message);
        let frame = message.encode();
        self.stats.frames_sent += 1;
        self.stats.bytes_sent += frame.len() as u64;
        self.stats.response_time.record(now.duration_since(arrived));
        if !matches!(message, ServerMessage::Metadata(_)) {
            self.stats.observations.record(now);
        }
        let was_barrier = matches!(message, ServerMessage::Reset(_) | ServerMessage::Step(_));
        if was_barrier && !self.inbox.has_barrier() {
            if self.guard.is_armed() {
                self.watchdog.resume(now);
            }
            self.guard.resume(now);
        }
        Some(frame)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have a frame, or bring anything about;
    /// `false` when it surely does not, as far as no reply handle was dropped.
    pub fn has_transmit(&self) -> bool {
        !self.lifecycle.is_ended()
            && (self.answers.is_first_movable() || self.lifecycle.is_shutting_down())
    }

    /// The next event: what concerns the robot's motion first, then requests.
    ///
    /// The time is that at which the robot is given what comes out.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        self.poll_motion(now).or_else(|| self.poll_request())
    }

    /// The next event that concerns the robot's motion: a stop, an action, the watchdog's alarm,
    /// actions that were dropped or clamped, or the end of the connection, which comes before all
    /// that waits.
    ///
    /// This and [`poll_request`](Self::poll_request), in the place of
    /// [`poll_event`](Self::poll_event), are for a robot that moves and answers requests in
    /// threads or tasks of their own, so that a slow observation delays no action. It takes a
    /// [reset or a step](Self::has_motion_request) only when it is done with the actions and stops
    /// that it took before.
    pub fn poll_motion(&mut self, now: Instant) -> Option<Event> {
        self.check_abandoned();
        if self.lifecycle.is_ended() {
            return self.lifecycle.tell_end().map(Event::Disconnected);
        }
        if let Some(reason) = self.guard.take_untold() {
            return Some(Event::Stopped(reason));
        }
        while let Some((mut action, came)) = self.inbox.poll_action() {
            // It may have waited for long.
            let age = self.age_of(&action);
            match self.check_age(age).and_then(|()| self.check_given(&mut action)) {
                Ok(()) => {
                    self.clock.give(now, &action, now.saturating_duration_since(came), age);
                    self.note_given(came, &action);
                    return Some(Event::Action(action));
                }
                Err(reason) => self.drop_given(now, reason),
            }
        }
        if let Some(silent_for) = self.watchdog.take_alarm() {
            self.stats.watchdog_alarms += 1;
            self.guard.note_hold();
            self.changes.note_hold();
            return Some(Event::Watchdog { silent_for });
        }
        self.inbox.drops.poll().or_else(|| self.clamps.poll())
    }

    /// Whether [`poll_motion`](Self::poll_motion) has something to tell.
    pub fn has_motion(&self) -> bool {
        if self.lifecycle.is_ended() {
            return self.lifecycle.is_end_untold();
        }
        let has_news = self.inbox.drops.is_untold() || self.clamps.is_untold();
        let has_command = self.inbox.may_tell_action() || self.watchdog.has_alarm();
        has_command || has_news || self.guard.has_untold() || self.answers.abandoned().is_some()
    }

    /// Whether [`poll_request`](Self::poll_request) has something to tell.
    pub fn has_request(&self) -> bool {
        self.inbox.may_tell_request(self.guard.has_untold()) || self.stalls.is_untold()
    }

    /// Whether what [`poll_request`](Self::poll_request) tells next moves the robot: a reset or a
    /// step. Who moves the robot elsewhere too leaves it there until that is done: a stop that comes
    /// meanwhile is told before it.
    pub fn has_motion_request(&self) -> bool {
        self.inbox.is_barrier_next(self.guard.has_untold())
    }

    /// The next request to answer, or news of a camera. A reset or a step comes only when
    /// [`poll_motion`](Self::poll_motion) has told the actions before it, and that the robot was
    /// stopped.
    pub fn poll_request(&mut self) -> Option<Event> {
        self.check_abandoned();
        let is_revoked = self.inbox.is_next_revoked();
        match self.inbox.poll_request(self.guard.has_untold()) {
            Some(Event::Step(action, reply)) => self.give_step(action, reply, is_revoked),
            Some(Event::Reset(reply)) => {
                self.guard.begin_reset();
                Some(Event::Reset(reply))
            }
            Some(other) => Some(other),
            None => self.stalls.poll(),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None` if only a frame
    /// or a call can bring anything about.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let timeout = self.next_timeout();
        self.is_held_up = !self.wants_message();
        self.timeout_told.tell(timeout)
    }

    /// Whether the driver must be woken; see [`Machine::needs_wake`](crate::Machine::needs_wake).
    /// Also when messages [are wanted](Self::wants_message) again.
    pub fn needs_wake(&self) -> bool {
        self.has_transmit()
            || self.lifecycle.is_ended()
            || (self.is_held_up && self.wants_message())
            || self.timeout_told.is_later_than(self.next_timeout())
    }

    fn next_timeout(&self) -> Option<Instant> {
        if self.lifecycle.is_ended() {
            return None;
        }
        let watchdog = self.watchdog.next_timeout().filter(|_| !self.inbox.is_resetting());
        let stop = self.guard.next_timeout().filter(|_| !self.inbox.has_barrier());
        let shut_down = self.lifecycle.shut_down_deadline();
        let deadlines = [watchdog, stop, self.inbox.next_timeout(), shut_down];
        deadlines.into_iter().flatten().min()
    }

    /// Why the connection has ended, if it has. When [it is ours](ConnectionError::is_ours) the
    /// transport is to be closed with its [code](ConnectionError::close_code) and its
    /// [words](ConnectionError::close_reason).
    pub fn error(&self) -> Option<&ConnectionError> {
        self.lifecycle.error()
    }

    // ---- answers ------------------------------------------------------------------------------
    // The handles are taken by value: a request is answered once.

    /// Answers a metadata request. What the [action's specification](Config::action_spec) declares is
    /// added under the key `chiral`.
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_metadata(
        &mut self,
        reply: MetadataReply,
        mut data: Map,
    ) -> Result<(), ReplyError> {
        self.config.action_spec.add_to(&mut data);
        self.reply(&reply.0, State::Ready(Reply::Message(ServerMessage::Metadata(data))))
    }

    /// Answers a reset. What came behind it goes on now.
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_reset(
        &mut self,
        reply: ResetReply,
        result: ResetResult,
    ) -> Result<(), ReplyError> {
        self.reply(&reply.0, State::Ready(Reply::Message(ServerMessage::Reset(result))))?;
        self.guard.finish_reset();
        self.changes.forget();
        Ok(())
    }

    /// Answers a request for an observation, with one at hand or one to be
    /// [taken when the answer leaves](Answer).
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_observation(
        &mut self,
        reply: ObserveReply,
        answer: impl Into<Answer>,
    ) -> Result<(), ReplyError> {
        self.reply(&reply.place, State::Ready(Reply::Observation(answer.into())))
    }

    /// Asks to be told of a request for an observation again when its answer can leave: when every
    /// earlier answer has left and [`poll_transmit`](Self::poll_transmit) is called, as it is when
    /// the transport can take a frame. It returns `None` then, and
    /// [`poll_request`](Self::poll_request) gives the request once more, marked as
    /// [due](ObserveReply::is_due).
    ///
    /// It is for an observation that is to be as fresh as can be and takes time to make. Made by
    /// [`Answer::WhenSent`] it holds the machine up, and with it the actions; made after this, it
    /// does not.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use chiral_proto::server::{Config, Event, Server};
    /// # use chiral_proto::{Observation, wire::ClientMessage};
    /// # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
    /// # let now = Instant::now();
    /// # let mut server = Server::new(now, Config::default());
    /// # server.handle_message(now, ClientMessage::Observe.encode().to_bytes());
    /// let Some(Event::Observe(reply)) = server.poll_request() else { panic!("it is next") };
    /// server.defer_observation(reply)?;
    /// // Later, when the transport can take a frame:
    /// assert!(server.poll_transmit(now).is_none());
    /// let Some(Event::Observe(reply)) = server.poll_request() else { panic!("it is due") };
    /// assert!(reply.is_due());
    /// let observation = Observation::default(); // made here, without the machine
    /// server.reply_observation(reply, observation)?;
    /// assert!(server.poll_transmit(now).is_some());
    /// # Ok::<(), chiral_proto::server::ReplyError>(())
    /// ```
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn defer_observation(&mut self, reply: ObserveReply) -> Result<(), ReplyError> {
        self.reply(&reply.place, State::Deferred)
    }

    /// Answers a legacy step.
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_step(&mut self, reply: StepReply, result: StepResult) -> Result<(), ReplyError> {
        self.reply(&reply.0, State::Ready(Reply::Message(ServerMessage::Step(result))))
    }

    fn reply(&mut self, place: &Place, state: State) -> Result<(), ReplyError> {
        if let Some(error) = self.lifecycle.error() {
            return Err(ReplyError::Disconnected(error.clone()));
        }
        let applied = self.applied();
        let pending = self.answers.find(place).ok_or(ReplyError::ForeignHandle)?;
        (pending.state, pending.applied) = (state, applied);
        self.inbox.answered(place);
        Ok(())
    }

    // ---- statistics ---------------------------------------------------------------------------

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        Stats {
            actions_dropped: self.inbox.drops.counts,
            latency: self.clock.stats.clone(),
            contract: self.contract_status(),
            cameras: self.sensors.as_ref().map(Sensors::camera_stats).unwrap_or_default(),
            ..self.stats.clone()
        }
    }

    // ---- inside -------------------------------------------------------------------------------

    fn handle_client(
        &mut self,
        now: Instant,
        message: ClientMessage,
    ) -> Result<(), ConnectionError> {
        let mut request = match message {
            ClientMessage::ApplyAction(action) => {
                self.handle_action(now, action);
                return Ok(());
            }
            ClientMessage::Metadata => Request::Metadata,
            ClientMessage::Observe => Request::Observe,
            ClientMessage::Reset => Request::Reset,
            ClientMessage::Step(action) => Request::Step(action.compact()),
        };
        if self.lifecycle.is_shutting_down() {
            return Ok(());
        }
        let limit = self.config.pending_replies;
        if self.answers.len() >= limit {
            return Err(ConnectionError::TooManyRequests { limit });
        }
        if request.is_barrier() {
            self.watchdog.pause();
            self.guard.pause();
        }
        self.requests += 1;
        let (place, kind) = (Place::new(self.requests), request.kind());
        if let Request::Step(action) = &mut request {
            self.stats.actions.record(now);
            self.check_arrived_step(action)?;
        }
        let own_answer = match &request {
            Request::Metadata => {
                self.metadata.clone().map(|data| Reply::Message(ServerMessage::Metadata(data)))
            }
            Request::Observe if self.answers_observe => {
                self.sensors.as_ref().map(|sensors| Reply::Observation(sensors.into()))
            }
            Request::Observe | Request::Reset | Request::Step(_) => None,
        };
        if let Some(reply) = own_answer {
            self.answers.push(place, kind, now, State::Ready(reply));
            return Ok(());
        }
        self.answers.push(place.clone(), kind, now, State::Awaited);
        if self.inbox.push_request(request, place) {
            Ok(())
        } else {
            Err(ConnectionError::TooManyBytes { limit: self.config.queue_bytes })
        }
    }

    fn handle_action(&mut self, now: Instant, mut action: Action) {
        self.stats.actions.record(now);
        self.clock.arrive(&mut action.sent);
        if let Err(reason) = self.check_arrived(&mut action) {
            self.inbox.drops.record(reason);
            return;
        }
        if self.guard.is_armed() {
            self.watchdog.restart(now);
        }
        self.guard.note_arrival(now);
        self.inbox.push_action(now, action.compact());
    }

    /// Checks an action that has come, as far as that can be done before those that came before it
    /// were given to the robot.
    fn check_arrived(&mut self, action: &mut Action) -> Result<(), DropReason> {
        if !self.guard.may_admit(self.inbox.is_resetting()) {
            return Err(DropReason::NotArmed { state: self.guard.state() });
        }
        if self.clock.taken_at(action).is_some_and(|taken| self.guard.is_of_before_stop(taken)) {
            return Err(DropReason::BeforeStop);
        }
        let judged = self.config.action_spec.judge(action, false);
        if let Some(error) = judged.map_err(DropReason::Refused)? {
            self.clamps.record(error, true);
        }
        self.check_age(self.age_of(action))
    }

    /// Checks an action that the robot is to be given now.
    fn check_given(&mut self, action: &mut Action) -> Result<(), DropReason> {
        if !self.guard.is_armed() {
            return Err(DropReason::NotArmed { state: self.guard.state() });
        }
        self.check_change(action).map_err(DropReason::Refused)
    }

    fn check_change(&mut self, action: &mut Action) -> Result<(), ActionError> {
        let is_first = !action.clamped;
        let Self { config, changes, sensors, clamps, .. } = self;
        if let Some(error) = changes.judge(&config.action_spec, sensors.as_ref(), action)? {
            clamps.record(error, is_first);
        }
        Ok(())
    }

    fn note_given(&mut self, came: Instant, action: &Action) {
        self.watchdog.note_given(came);
        self.guard.note_given(came, self.answers.has_barrier());
        self.changes.note_given(&self.config.action_spec, action);
    }

    /// Drops an action that had been let through: it was no sign of life after all.
    fn drop_given(&mut self, now: Instant, reason: DropReason) {
        self.inbox.drops.record(reason);
        if !self.inbox.has_actions() && !self.inbox.has_barrier() && self.guard.is_armed() {
            if self.answers.has_barrier() {
                self.watchdog.pause();
            } else {
                self.watchdog.take_back();
            }
            self.guard.take_back();
            // It may have ended an alarm of which the robot is to be told after all.
            self.watchdog.check(now);
        }
    }

    /// Checks a step that has come, as [`check_arrived`](Self::check_arrived) does an action; it
    /// ends the connection, as a refusal cannot be told in an answer.
    fn check_arrived_step(&mut self, action: &mut Action) -> Result<(), ConnectionError> {
        if !self.guard.may_admit(self.inbox.is_resetting()) {
            return Err(self.not_armed(self.guard.state()));
        }
        match self.config.action_spec.judge(action, true) {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                self.clamps.record(error, true);
                Ok(())
            }
            Err(error) => Err(self.refused_step(error)),
        }
    }

    /// Gives the robot a step, unless it was stopped since the step came.
    fn give_step(
        &mut self,
        mut action: Action,
        reply: StepReply,
        is_revoked: bool,
    ) -> Option<Event> {
        let checked = if is_revoked {
            Err(self.not_armed(ArmingState::Stopped))
        } else if self.guard.is_armed() {
            self.check_change(&mut action).map_err(|error| self.refused_step(error))
        } else {
            Err(self.not_armed(self.guard.state()))
        };
        match checked {
            Ok(()) => {
                self.guard.begin_step();
                self.changes.note_given(&self.config.action_spec, &action);
                Some(Event::Step(action, reply))
            }
            Err(error) => {
                self.end(error);
                None
            }
        }
    }

    fn refused_step(&mut self, error: ActionError) -> ConnectionError {
        self.inbox.drops.record(DropReason::Refused(error.clone()));
        ConnectionError::RefusedStep(error)
    }

    fn not_armed(&mut self, state: ArmingState) -> ConnectionError {
        self.inbox.drops.record(DropReason::NotArmed { state });
        ConnectionError::NotArmed { state }
    }

    fn contract_status(&self) -> ContractStatus {
        let (on_time, periods) = self.guard.periods.on_time();
        let drops = &self.inbox.drops.counts;
        ContractStatus {
            state: self.guard.state(),
            on_time,
            periods,
            missed: self.guard.periods.missed,
            refused: drops.refused,
            clamped: self.clamps.count,
            not_armed: drops.not_armed,
            stops: self.guard.stops,
        }
    }

    /// How old the observation is that an action was decided on, if it can be told.
    fn age_of(&self, action: &Action) -> Option<Duration> {
        self.sensors.as_ref()?.observation_age(action.obs_timestamps.as_ref()?)
    }

    fn check_age(&self, age: Option<Duration>) -> Result<(), DropReason> {
        match age.zip(self.config.max_obs_age) {
            Some((age, limit)) if age > limit => Err(DropReason::StaleObservation { age, limit }),
            _ => Ok(()),
        }
    }

    /// The number of the last action that the robot is done with.
    fn applied(&self) -> u64 {
        self.clock.applied(self.inbox.first_waiting())
    }

    /// Tells the policy of time in an observation that leaves now, if it understands it. One that was
    /// `taken` before the robot was stopped is of that instant at the latest.
    fn tell_timing(&mut self, taken: Instant, applied: u64, message: &mut ServerMessage) {
        let is_judged = self.config.action_spec.declaration().is_enforced();
        let contract = (is_judged || self.guard.stops > 0).then(|| self.contract_status());
        let Self { sensors, stalls, clock, .. } = self;
        let Some(observation) = message.observation_mut() else { return };
        let sensors = sensors.as_ref();
        sensors.into_iter().for_each(|sensors| stalls.look(sensors));
        let ages = || sensors.map_or_else(Vec::new, |all| all.ages_of(&observation.cameras));
        if let Some(timing) = clock.tell(taken, applied, contract, ages) {
            wire::timing::attach(&timing, &mut observation.extra);
        }
    }

    /// Ends the connection when a handle was dropped: its answer, and all behind it, would never
    /// leave.
    fn check_abandoned(&mut self) {
        if let Some(request) = self.answers.abandoned() {
            self.end(ConnectionError::Unanswered { request });
        }
    }

    /// Ends the connection, once.
    fn end(&mut self, error: ConnectionError) {
        if self.lifecycle.end(error) {
            self.inbox.end();
            self.guard.end();
            self.clamps.end();
            self.stalls.end();
            self.answers.clear();
        }
    }
}
