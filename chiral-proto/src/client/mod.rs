//! The policy's side of a connection, as a state machine.
//!
//! A [`Client`] is driven by five calls. Messages of the transport go in with
//! [`handle_message`](Client::handle_message), the passing of time with
//! [`handle_timeout`](Client::handle_timeout); out come frames to send
//! ([`poll_transmit`](Client::poll_transmit)), [`Event`]s ([`poll_event`](Client::poll_event)) and
//! the instant at which to call again ([`poll_timeout`](Client::poll_timeout)).
//!
//! `poll_transmit` is to be called only when the transport can take a frame. That *is* the
//! back-pressure, and it binds late: an action gets the timestamps of the observation that is the
//! latest when it leaves. Actions go before requests, requests before ticks of the stream.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use chiral_proto::client::{Client, Config, Event};
//! use chiral_proto::wire::{Frame, Limits, ServerMessage};
//! use chiral_proto::{Action, Map, Rate};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
//! let now = Instant::now();
//! let mut client = Client::new(Config::default());
//!
//! // A request, and its answer.
//! let id = client.request_metadata(now, None)?;
//! let request = client.poll_transmit(now).expect("a request is waiting");
//! // … send it, and receive:
//! let response = ServerMessage::Metadata(Map::new().with("robot", "arm-3")).encode();
//! client.handle_message(now, response.to_bytes());
//! match client.poll_event() {
//!     Some(Event::Metadata { id: answered, metadata }) if answered == id => {
//!         assert_eq!(metadata.get("robot"), Some("arm-3".into()));
//!     }
//!     other => panic!("{other:?}"),
//! }
//!
//! // Actions leave on a grid, one a tick.
//! client.start_action_dispatch(now, Rate::hz(50.0)?)?;
//! client.put_chunk(now, &Default::default(), [Action::from([0.1]), Action::from([0.2])])?;
//! assert!(client.poll_transmit(now).is_some());
//! assert!(client.poll_transmit(now).is_none());
//! assert_eq!(client.poll_timeout(), Some(now + Duration::from_millis(20)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actions;
mod cameras;
mod config;
mod dispatch;
mod event;
mod latest;
mod lifecycle;
mod outgoing;
mod reconnect;
mod request;
mod silence;
mod stats;
mod stream;
mod timing;
mod undispatched;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use cameras::CameraStats;
pub use config::{Config, Lossy};
pub use event::{
    Event, Misuse, NotFresh, NotQueued, NotQueuedReason, RequestError, TimeoutCause, Unfit,
};
pub use latest::Latest;
pub use lifecycle::ConnectionState;
pub use reconnect::{Backoff, Reconnect, WhenLost};
pub use request::{RequestId, RequestKey};
pub use stats::Stats;
pub use timing::{ActionLatency, LatencyStats};

use crate::machine::ToldTimeout;
use crate::timeline::Asked;
use crate::wire::{self, ClientMessage, Frame, RequestKind, ServerMessage};
use crate::{
    Action, ActionSpec, Arrival, ConnectionError, ContractStatus, Dtype, Map, Observation, Rate,
    ResetResult, StepResult,
};
use cameras::Cameras;
use dispatch::{Departing, Dispatch};
use lifecycle::Lifecycle;
use request::{Answered, Deadline, Expired, Outgoing, Owner, Requests};
use silence::Silence;
use stream::ObservationStream;
use timing::ActionClock;
use undispatched::Undispatched;

/// The policy's side of one connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Client {
    config: Config,
    requests: Requests,
    next_serial: u64,
    stream: ObservationStream,
    dispatch: Dispatch,
    latest: Option<Latest>,
    /// How many observations there were.
    observed: u64,
    cameras: Cameras,
    clock: ActionClock,
    silence: Silence,
    undispatched: Undispatched,
    queue_long_told: bool,
    /// The contract that the robot's metadata declared; `None` before it was read.
    told_contract: Option<ActionSpec>,
    /// How many requests of each kind were answered over this connection.
    answered: [u64; RequestKind::ALL.len()],
    /// A request of the stream is overdue, which was told.
    stream_overdue: bool,
    events: VecDeque<Event>,
    lifecycle: Lifecycle,
    timeout_told: ToldTimeout,
    /// What the robot last said of its contract.
    contract_status: Option<ContractStatus>,
    stats: Stats,
}

impl Client {
    /// A client of a connection that has just been made.
    pub fn new(config: Config) -> Self {
        Self {
            requests: Requests::new(config.lossy.clone()),
            next_serial: 0,
            stream: ObservationStream::default(),
            dispatch: Dispatch::new(config.queue_capacity, config.max_age),
            latest: None,
            observed: 0,
            cameras: Cameras::new(config.camera_stall),
            clock: ActionClock::default(),
            silence: Silence::new(config.silence),
            undispatched: Undispatched::new(config.undispatched),
            told_contract: None,
            queue_long_told: false,
            answered: [0; RequestKind::ALL.len()],
            stream_overdue: false,
            events: VecDeque::new(),
            lifecycle: Lifecycle::Open,
            timeout_told: ToldTimeout::default(),
            contract_status: None,
            stats: Stats::default(),
            config,
        }
    }

    // ---- what came in -------------------------------------------------------------------------

    /// Takes one message of the transport: one whole frame. A frame that cannot be read, or is not
    /// the answer that is due, ends the connection; see [`error`](Self::error).
    pub fn handle_message(&mut self, now: Instant, message: Bytes) {
        match Frame::parse(message, &self.config.limits) {
            Ok(frame) => self.handle_frame(now, &frame),
            Err(error) => self.end(now, error.into()),
        }
    }

    /// As [`handle_message`](Self::handle_message), for a message in the segments in which the
    /// transport has it: in memory that it shares with the robot, each buffer lies where it was
    /// written, and it is viewed there.
    pub fn handle_segments(&mut self, now: Instant, message: Vec<Bytes>) {
        match Frame::parse_segments(message, &self.config.limits) {
            Ok(frame) => {
                self.handle_frame(now, &frame);
                self.stats.frames_in_place += 1;
            }
            Err(error) => self.end(now, error.into()),
        }
    }

    /// As [`handle_message`](Self::handle_message), for a frame that is taken apart already.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        self.note_activity(now);
        if self.error().is_some() {
            return;
        }
        self.stats.frames_received += 1;
        self.stats.bytes_received += frame.len() as u64;
        let handled = ServerMessage::decode(frame, &self.config.limits)
            .map_err(ConnectionError::from)
            .and_then(|message| self.handle_reply(now, message));
        if let Err(error) = handled {
            self.end(now, error);
        }
    }

    /// Lets time pass: to be called when [`poll_timeout`](Self::poll_timeout)'s instant has come.
    /// Calling it early, late or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Tells that bytes of the server have arrived that are no whole message yet: a part of one,
    /// or something of the transport's own, such as a pong. It counts against the server's
    /// [silence](Event::Silent).
    pub fn note_activity(&mut self, now: Instant) {
        if self.error().is_some() {
            return;
        }
        // Before time passes: what waited to be read was no silence.
        if let Some(silent_for) = self.silence.hear(now) {
            let told = self.events.len();
            self.events.retain(|event| !matches!(event, Event::Silent { .. }));
            // Who does not know yet of the silence need not hear of its end.
            if self.events.len() == told {
                self.events.push_back(Event::Resumed { silent_for });
            }
        }
        self.advance(now);
    }

    /// Tells that the transport's connection has ended. By default that is the client's end; with
    /// another [`Config::when_lost`] it is an interruption, if another connection
    /// [may last](ConnectionError::may_pass).
    pub fn handle_disconnect(&mut self, now: Instant, reason: ConnectionError) {
        self.end(now, reason);
    }

    /// Ends the connection from this side. The transport is then to be closed.
    pub fn close(&mut self, now: Instant) {
        self.give_up(now, ConnectionError::ClosedLocally);
    }

    /// As [`close`](Self::close), behind the actions that wait for no tick: a policy's last word,
    /// to hold still for example, is not lost. The end comes when the transport has taken them, at
    /// `deadline` at the latest; until then nothing else is sent, and calls fail as after it.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use chiral_proto::{ConnectionError, client::Client};
    /// # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
    /// # let now = Instant::now();
    /// # let mut client = Client::new(Default::default());
    /// client.send_action(now, [0.0; 7].into())?;
    /// client.shut_down(now, now + Duration::from_secs(1));
    /// assert!(client.request_reset(now, None).is_err());
    ///
    /// assert!(client.poll_transmit(now).is_some() && client.error().is_none());
    /// assert!(client.poll_transmit(now).is_none());
    /// assert_eq!(client.error(), Some(&ConnectionError::ClosedLocally));
    /// # Ok::<(), chiral_proto::client::NotQueued>(())
    /// ```
    pub fn shut_down(&mut self, now: Instant, deadline: Instant) {
        self.advance(now);
        if self.lifecycle.is_open() {
            self.stream.stop();
            self.dispatch.stop();
            self.lifecycle = Lifecycle::ShuttingDown { by: deadline };
        } else if self.lifecycle.is_interrupted() {
            self.close(now);
        }
    }

    // ---- what goes out ------------------------------------------------------------------------

    /// The next frame to send. To be called only when the transport can take one.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        self.advance(now);
        if self.error().is_some() {
            return None;
        }
        let next = self.next_message(now);
        if next.is_none() && self.lifecycle.is_shutting_down() {
            self.close(now);
        }
        let frame = match next? {
            ClientMessage::Observe if self.config.timing => {
                wire::timing::observe(self.clock.sent())
            }
            message => message.encode(),
        };
        self.stats.frames_sent += 1;
        self.stats.bytes_sent += frame.len() as u64;
        Some(frame)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have a frame, or bring about the end;
    /// `false` when it surely does not, unless time passes.
    pub fn has_transmit(&self) -> bool {
        let may_send = self.dispatch.has_due() || self.requests.has_due() || self.stream.due;
        self.error().is_none() && (may_send || self.lifecycle.is_shutting_down())
    }

    /// Whether the driver must be woken; see [`Machine::needs_wake`](crate::Machine::needs_wake).
    pub fn needs_wake(&self) -> bool {
        self.has_transmit()
            || self.error().is_some()
            || self.timeout_told.is_later_than(self.next_timeout())
    }

    /// The next event. An event of a request comes once; unpolled observations of the stream are
    /// replaced by newer ones, so that the events take no more room than the requests do.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None` if only a frame
    /// or a call can bring anything about.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let timeout = self.next_timeout();
        self.timeout_told.tell(timeout)
    }

    fn next_timeout(&self) -> Option<Instant> {
        if self.lifecycle.is_interrupted() {
            return self.requests.next_timeout(false);
        }
        if self.error().is_some() {
            return None;
        }
        [
            self.dispatch.next_timeout(),
            self.undispatched.next_timeout(&self.dispatch),
            self.stream.next_timeout(),
            self.requests.next_timeout(self.stream.due),
            self.silence.next_timeout(self.requests.waiting_since()),
            self.lifecycle.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Why the present connection has ended, if it has; [`connection_state`](Self::connection_state)
    /// tells whether another one may follow. When [it is ours](ConnectionError::is_ours) the
    /// transport is to be closed with its [code](ConnectionError::close_code) and its
    /// [words](ConnectionError::close_reason).
    pub fn error(&self) -> Option<&ConnectionError> {
        self.lifecycle.error()
    }

    // ---- requests -----------------------------------------------------------------------------

    /// Asks for the robot's metadata.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_metadata(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<RequestId<Map>, Misuse> {
        self.request(now, RequestKind::Metadata, deadline, None)
    }

    /// Asks the robot to reset itself. Begins a new epoch of the [timeline](crate::timeline): what
    /// is planned is dropped, and a chunk that was decided on an observation of before the reset is
    /// refused from now on.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting; the plan goes on then.
    pub fn request_reset(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<RequestId<ResetResult>, Misuse> {
        let id = self.request(now, RequestKind::Reset, deadline, None)?;
        self.dispatch.begin_epoch();
        self.tell_low();
        Ok(id)
    }

    /// Asks for an observation, beside those of the stream.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_observation(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<RequestId<Observation>, Misuse> {
        self.request(now, RequestKind::Observe, deadline, None)
    }

    /// Sends an action, `[N, D]`, and asks for the result: the legacy, coupled step. A vector
    /// `[D]` is sent as one row, `[1, D]`: the existing C++ server reads two dimensions unchecked.
    ///
    /// # Errors
    /// When the connection has ended, too many requests are waiting, or the robot's
    /// [contract](Self::contract) does not allow the action.
    pub fn request_step(
        &mut self,
        now: Instant,
        mut action: Action,
        deadline: Option<Instant>,
    ) -> Result<RequestId<StepResult>, Misuse> {
        self.dispatch.judge_step(&mut action).map_err(Misuse::Contract)?;
        self.request(now, RequestKind::Step, deadline, Some(action))
    }

    /// Gives a request up: it fails with [`RequestError::Cancelled`]. False if it was over already.
    pub fn cancel(&mut self, now: Instant, id: impl Into<RequestKey>) -> bool {
        self.handle_timeout(now);
        let id = id.into();
        let cancelled = self.requests.cancel(id.serial(), now);
        if cancelled {
            self.events.push_back(Event::Failed { id, error: RequestError::Cancelled });
        }
        cancelled
    }

    fn request<Answer>(
        &mut self,
        now: Instant,
        kind: RequestKind,
        deadline: Option<Instant>,
        action: Option<Action>,
    ) -> Result<RequestId<Answer>, Misuse> {
        let waits = self.lifecycle.is_interrupted() && self.config.when_lost.holds(kind);
        if !waits {
            self.lifecycle.check_open()?;
        }
        if self.requests.len() >= self.config.pending_requests {
            return Err(Misuse::TooManyRequests { limit: self.config.pending_requests });
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let deadline = deadline.map_or_else(|| self.default_deadline(kind, now), Deadline::At);
        self.requests.submit(kind, serial, now, deadline, action);
        Ok(RequestId::new(serial))
    }

    fn default_deadline(&self, kind: RequestKind, now: Instant) -> Deadline {
        let timeout = if kind.moves_robot() {
            self.config.motion_timeout
        } else {
            self.config.request_timeout
        };
        timeout.map_or(Deadline::Never, |timeout| Deadline::after(timeout, now))
    }

    // ---- observations -------------------------------------------------------------------------

    /// The newest observation that any answer brought, and its number. `None` before the first one
    /// of this connection.
    pub fn latest_observation(&self) -> Option<&Latest> {
        self.latest.as_ref()
    }

    /// The newest observation, unless it is known to be [older](Observation::age) than this: its
    /// oldest camera image, where the robot tells the ages of the images.
    ///
    /// # Errors
    /// When it is older, or there is none.
    pub fn fresh_observation(&self, now: Instant, max_age: Duration) -> Result<&Latest, NotFresh> {
        let latest = self.latest.as_ref().ok_or(NotFresh::Nothing)?;
        match latest.observation.age(now) {
            Some(age) if age.at_least > max_age => Err(NotFresh::Old { age, max_age }),
            _ => Ok(latest),
        }
    }

    /// Starts asking for observations on a grid that begins now. A running stream goes over to the
    /// new rate; while the connection is being made again it begins with the next one.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_obs_stream(&mut self, now: Instant, rate: Rate) -> Result<(), Misuse> {
        if self.lifecycle.is_interrupted() {
            self.stream.set_rate(rate);
            return Ok(());
        }
        self.lifecycle.check_open()?;
        self.stream.start(now, rate);
        Ok(())
    }

    /// Stops asking. An answer that is under way still arrives; where it may be lost, it is asked
    /// for again until it does.
    pub fn stop_obs_stream(&mut self) {
        self.stream.stop();
    }

    /// Whether the stream is running.
    pub fn is_streaming(&self) -> bool {
        self.stream.is_running()
    }

    // ---- statistics ---------------------------------------------------------------------------

    /// What was counted so far, and how old the latest observation is at `now`.
    pub fn stats(&self, now: Instant) -> Stats {
        let (counts, rows) = (self.dispatch.counts, self.dispatch.timeline.counts);
        let age = |latest: &Latest| now.saturating_duration_since(latest.arrived);
        Stats {
            observation_age: self.latest.as_ref().map(age),
            cameras: self.cameras.stats(now),
            latency: self.clock.stats.clone(),
            stream_ticks_missed: self.stream.missed,
            starvations: counts.starved,
            steps: self.dispatch.timeline.steps(),
            held: counts.held,
            dispatch_ticks_missed: counts.missed,
            actions_expired: counts.expired + rows.expired,
            actions_dropped: counts.dropped + rows.dropped,
            actions_clamped: counts.clamped,
            rows_skipped: rows.skipped,
            rows_blended: rows.blended,
            chunks_late: rows.late,
            chunks_discarded: rows.discarded,
            ..self.stats.clone()
        }
    }

    // ---- inside -------------------------------------------------------------------------------

    /// Lets time pass: every call that is given the time does so first.
    fn advance(&mut self, now: Instant) {
        if self.lifecycle.is_interrupted() {
            return self.expire_requests(now);
        }
        if self.error().is_some() {
            return;
        }
        self.advance_parts(now);
        if self.lifecycle.deadline().is_some_and(|deadline| deadline <= now) {
            self.close(now);
        }
    }

    fn advance_parts(&mut self, now: Instant) {
        self.stream.advance(now);
        self.dispatch.advance(now);
        self.tell_low();
        if let Some(queued) = self.undispatched.advance(now, &self.dispatch) {
            self.events.push_back(Event::Undispatched { queued });
        }
        let waiting_since = self.requests.waiting_since();
        if let Some(silent_for) = self.silence.advance(now, waiting_since) {
            self.stats.silences += 1;
            self.events.push_back(Event::Silent { silent_for });
        }
        self.expire_requests(now);
    }

    fn expire_requests(&mut self, now: Instant) {
        let mut expired = Vec::new();
        self.requests.advance(now, |request| expired.push(request));
        expired.into_iter().for_each(|request| self.expired(now, request));
    }

    /// Tells when it is time for the next chunk.
    fn tell_low(&mut self) {
        if let Some(remaining) = self.dispatch.timeline.take_low() {
            self.events.retain(|event| !matches!(event, Event::PlanLow { .. }));
            self.events.push_back(Event::PlanLow { remaining });
        }
    }

    /// Tells that the queue has become long, once.
    fn tell_long(&mut self) {
        let queued = self.queued_actions();
        if !self.queue_long_told && self.config.queue_warning.is_some_and(|limit| queued >= limit) {
            self.queue_long_told = true;
            self.events.push_back(Event::QueueLong { queued });
        }
    }

    fn expired(&mut self, now: Instant, request: Expired) {
        self.stats.requests_timed_out += 1;
        let Expired { owner, kind, made_at, .. } = request;
        let waited = now.saturating_duration_since(made_at);
        let cause = self.cause_of(request);
        let error = RequestError::TimedOut { request: kind, waited, cause };
        match owner {
            Owner::User(serial) => {
                self.events.push_back(Event::Failed { id: RequestKey::of(serial), error });
            }
            Owner::Stream => {
                let is_told = std::mem::replace(&mut self.stream_overdue, true);
                if !is_told && self.stream.is_running() {
                    self.events.push_back(Event::StreamTimedOut(error));
                }
            }
            Owner::Nobody => {}
        }
    }

    fn cause_of(&self, Expired { kind, sent_at, .. }: Expired) -> TimeoutCause {
        if self.lifecycle.is_interrupted() {
            return TimeoutCause::Interrupted;
        }
        let Some(sent_at) = sent_at else { return TimeoutCause::NotSent };
        if self.config.lossy.is_some() && matches!(kind, RequestKind::Reset | RequestKind::Step) {
            return TimeoutCause::MaybeLost;
        }
        if self.silence.heard().is_none_or(|heard| heard < sent_at) {
            return TimeoutCause::Silent;
        }
        let is_answered = |kind: &RequestKind| self.answered[*kind as usize] > 0;
        if is_answered(&kind) {
            return TimeoutCause::Slow;
        }
        let answered = RequestKind::ALL.into_iter().filter(is_answered).collect();
        TimeoutCause::NeverAnswered { answered, request: kind }
    }

    fn next_message(&mut self, now: Instant) -> Option<ClientMessage> {
        if let Some(Departing { action, put_at, is_row }) = self.dispatch.transmit(now) {
            self.stats.actions.record(now);
            let mut action = self.stamped(action);
            self.clock.leave(now, put_at, &mut action, self.config.timing);
            self.dispatch.note_left(&action, is_row.then_some(put_at));
            self.tell_low();
            return Some(ClientMessage::ApplyAction(action));
        }
        self.tell_low();
        if self.lifecycle.is_shutting_down() {
            return None;
        }
        let asked = self.dispatch.timeline.asked();
        if let Some((request, again)) = self.requests.transmit(now, asked) {
            self.stats.retries += u64::from(again);
            return Some(match request {
                Outgoing::Metadata => ClientMessage::Metadata,
                Outgoing::Reset => ClientMessage::Reset,
                Outgoing::Observe => ClientMessage::Observe,
                Outgoing::Step(action) => {
                    ClientMessage::Step(outgoing::as_rows(self.stamped(action)))
                }
            });
        }
        let room = self.requests.streaming() < self.config.stream_window
            && self.requests.len() < self.config.pending_requests;
        let deadline = self.default_deadline(RequestKind::Observe, now);
        if self.stream.due && room && self.requests.transmit_stream(now, deadline, asked) {
            self.stream.due = false;
            return Some(ClientMessage::Observe);
        }
        None
    }

    /// The action as it leaves.
    fn stamped(&self, mut action: Action) -> Action {
        if self.config.float32_actions && self.contract().takes(Dtype::F32) {
            action = outgoing::as_float32(action);
        }
        if action.obs_timestamps.is_none() {
            let latest = self.latest.as_ref();
            action.obs_timestamps = latest.map(|latest| latest.observation.camera_timestamps());
        }
        action
    }

    fn handle_reply(&mut self, now: Instant, reply: ServerMessage) -> Result<(), ConnectionError> {
        let found = reply.message_type();
        let kind = found.answers().expect("a server sends nothing but answers");
        let answered = self
            .requests
            .answer(kind, now)
            .map_err(|expected| ConnectionError::UnexpectedReply { found, expected })?;
        self.answered[kind as usize] += 1;
        let Some(Answered { owner, sent_at, asked }) = answered else {
            self.stats.strays += 1;
            return Ok(());
        };
        if let Some(sent_at) = sent_at {
            self.stats.round_trip.record(now.duration_since(sent_at));
        }
        let arrival = Arrival { requested: sent_at, received: now };
        match reply {
            ServerMessage::Metadata(metadata) => {
                self.read_contract(now, owner, ActionSpec::of_metadata(&metadata));
                self.answer(owner, |id| Event::Metadata { id, metadata });
            }
            ServerMessage::Reset(mut result) => {
                self.receive(arrival, asked, &mut result.observation);
                self.observed(now, result.observation.clone());
                self.answer(owner, |id| Event::Reset { id, result });
            }
            ServerMessage::Step(mut result) => {
                self.receive(arrival, asked, &mut result.observation);
                self.observed(now, result.observation.clone());
                self.answer(owner, |id| Event::Step { id, result });
            }
            ServerMessage::Observation(mut observation) => {
                self.receive(arrival, asked, &mut observation);
                let observation = self.observed(now, observation);
                if owner == Owner::Stream {
                    self.stream_overdue = false;
                    self.events.retain(|event| !matches!(event, Event::Streamed(_)));
                    self.events.push_back(Event::Streamed(observation));
                } else {
                    self.answer(owner, |id| Event::Observation { id, observation });
                }
            }
        }
        Ok(())
    }

    /// Notes on an observation when it came and where in the timeline it was taken, and takes what
    /// it tells of the last action.
    fn receive(&mut self, arrival: Arrival, asked: Asked, observation: &mut Observation) {
        let timing = observation.timing();
        observation.arrival = Some(arrival);
        let applied = timing.as_ref().map(|timing| timing.applied);
        observation.stamp = self.dispatch.timeline.stamp(asked, applied);
        let (last, status) =
            timing.map(|timing| (timing.last, timing.contract)).unwrap_or_default();
        if let Some(told) = last {
            self.clock.note(told);
        }
        if let Some(status) = status {
            self.note_status(status);
        }
    }

    /// Takes the contract that the robot's metadata declares. When only the client has asked for it,
    /// because the connection is another one, it takes what is new: the user may have said otherwise
    /// since it was last read.
    fn read_contract(&mut self, now: Instant, owner: Owner, declared: ActionSpec) {
        let before = self.told_contract.replace(declared.clone());
        let has_changed = before.as_ref().is_some_and(|before| *before != declared);
        let is_empty = declared == ActionSpec::of_metadata(&Map::new());
        if has_changed || (owner != Owner::Nobody && !is_empty) {
            self.declare(now, declared.clone());
        }
        if has_changed && let Some(before) = before {
            let (before, after) = (Box::new(before), Box::new(declared));
            self.events.push_back(Event::ContractChanged { before, after });
        }
    }

    fn note_status(&mut self, status: ContractStatus) {
        let before = self.contract_status.replace(status);
        // It may have been armed again since.
        if status.stops > before.map_or(0, |before| before.stops) {
            self.dispatch.note_stop();
            self.tell_low();
        }
        if before.is_some_and(|before| before.state == status.state) {
            return;
        }
        self.events.retain(|event| !matches!(event, Event::ArmingChanged(_)));
        self.events.push_back(Event::ArmingChanged(status.state));
    }

    fn declare(&mut self, now: Instant, contract: ActionSpec) {
        let undone = self.dispatch.declare(now, contract);
        self.events.extend(undone.into_iter().map(Event::Undone));
    }

    fn observed(&mut self, now: Instant, observation: Observation) -> Arc<Observation> {
        self.stats.observations.record(now);
        let events = &mut self.events;
        self.cameras.observe(now, &observation, |news| cameras::tell(events, news, &observation));
        self.observed += 1;
        let number = self.observed;
        let observation = Arc::new(observation);
        self.latest = Some(Latest { number, arrived: now, observation: observation.clone() });
        observation
    }

    fn answer<Answer>(&mut self, owner: Owner, event: impl FnOnce(RequestId<Answer>) -> Event) {
        if let Owner::User(serial) = owner {
            self.events.push_back(event(RequestId::new(serial)));
        }
    }

    /// Takes the end of the connection, which is the client's end unless another connection may follow.
    fn end(&mut self, now: Instant, error: ConnectionError) {
        if self.error().is_some() {
            return;
        }
        self.advance_parts(now);
        let is_expected = self.config.when_lost != WhenLost::End && self.lifecycle.is_open();
        if is_expected && error.may_pass() {
            self.interrupt(now, error);
        } else {
            self.end_for_good(error);
        }
    }

    fn end_for_good(&mut self, error: ConnectionError) {
        self.stream.stop();
        self.dispatch.stop();
        self.dispatch.clear();
        let Self { requests, events, .. } = self;
        requests.end(|serial| {
            let error = RequestError::Disconnected(error.clone());
            events.push_back(Event::Failed { id: RequestKey::of(serial), error });
        });
        self.events.push_back(Event::Disconnected(error.clone()));
        self.lifecycle = Lifecycle::Ended(error);
    }
}
