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
//! ```
//! use std::time::Instant;
//! use chiral_proto::server::{Config, Event, Server};
//! use chiral_proto::wire::ClientMessage;
//! use chiral_proto::{Action, Observation};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
//! let now = Instant::now();
//! let mut server = Server::new(Config::default());
//!
//! server.handle_message(now, ClientMessage::Observe.encode().to_bytes());
//! server.handle_message(now, ClientMessage::ApplyAction([0.5].into()).encode().to_bytes());
//!
//! // The action does not wait behind the observation.
//! assert!(matches!(server.poll_event(), Some(Event::Action(action)) if *action.to_f32() == [0.5]));
//! let Some(Event::Observe(reply)) = server.poll_event() else { panic!("the request is next") };
//! server.reply_observation(reply, Observation { timestamp: 1.5, ..Default::default() })?;
//! assert!(server.poll_transmit(now).is_some());
//! # Ok::<(), chiral_proto::server::ReplyError>(())
//! ```

mod config;
mod event;
mod inbox;
mod reply;
mod stats;
mod watchdog;

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use bytes::Bytes;

pub use config::Config;
pub use event::Event;
pub use reply::{Answer, MetadataReply, ObserveReply, ReplyError, ResetReply, StepReply};
pub use stats::Stats;

use crate::machine::ToldTimeout;
use crate::wire::{ClientMessage, Frame, RequestKind, ServerMessage};
use crate::{ConnectionError, Map, ResetResult, StepResult};
use inbox::{Inbox, Request};
use reply::Place;
use watchdog::Watchdog;

/// The robot's side of one connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Server {
    config: Config,
    inbox: Inbox,
    /// The requests that are not answered yet, in the order in which the answers must leave.
    waiting: VecDeque<Waiting>,
    watchdog: Watchdog,
    shut_down_by: Option<Instant>,
    error: Option<ConnectionError>,
    /// The end of the connection was told.
    end_told: bool,
    timeout_told: ToldTimeout,
    stats: Stats,
}

struct Waiting {
    place: Place,
    request: RequestKind,
    arrived: Instant,
    reply: Option<Reply>,
}

enum Reply {
    Message(ServerMessage),
    Observation(Answer),
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.request, if self.reply.is_some() { " (answered)" } else { "" })
    }
}

impl Server {
    /// A server of a connection that has just been made.
    pub fn new(config: Config) -> Self {
        Self {
            inbox: Inbox::default(),
            waiting: VecDeque::new(),
            watchdog: Watchdog::new(config.watchdog),
            shut_down_by: None,
            error: None,
            end_told: false,
            timeout_told: ToldTimeout::default(),
            stats: Stats::default(),
            config,
        }
    }

    // ---- what came in -------------------------------------------------------------------------

    /// Takes one message of the transport: one whole frame. A frame that cannot be read ends the
    /// connection; see [`error`](Self::error).
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
        if self.error.is_some() {
            return;
        }
        self.stats.frames_received += 1;
        self.stats.bytes_received += frame.len() as u64;
        let handled = ClientMessage::decode(frame, &self.config.limits)
            .map_err(ConnectionError::from)
            .and_then(|message| self.handle_client(now, message));
        if let Err(error) = handled {
            self.end(error);
        }
    }

    /// Lets time pass: to be called when [`poll_timeout`](Self::poll_timeout)'s instant has come.
    /// Calling it early, late or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.shut_down_by.is_some_and(|deadline| deadline <= now) {
            self.end(ConnectionError::ShutDown);
        }
        // A robot at a reset moves by itself.
        if self.error.is_none() && !self.inbox.is_resetting() {
            self.watchdog.check(now);
        }
    }

    /// Tells that bytes of the peer have arrived that are no whole message yet.
    #[expect(clippy::unused_self, reason = "every machine is told; this one does not look yet")]
    pub fn note_activity(&mut self, _now: Instant) {}

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
        self.shut_down_by = Some(deadline);
    }

    /// Ends the connection because the robot cannot do what was asked; the client is told why.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.end(ConnectionError::RobotFailed(why.into()));
    }

    // ---- what goes out ------------------------------------------------------------------------

    /// The next frame to send. To be called only when the transport can take one: an observation
    /// that is [taken late](Answer::WhenSent) is taken here.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        self.check_abandoned();
        if self.shut_down_by.is_some() && self.waiting.is_empty() {
            self.end(ConnectionError::ShutDown);
        }
        if self.error.is_some() || self.waiting.front()?.reply.is_none() {
            return None;
        }
        let Waiting { arrived, reply, .. } = self.waiting.pop_front()?;
        let message = match reply? {
            Reply::Message(message) => message,
            Reply::Observation(answer) => ServerMessage::Observation(answer.take(now)),
        };
        let frame = message.encode();
        self.stats.frames_sent += 1;
        self.stats.bytes_sent += frame.len() as u64;
        self.stats.response_time.record(now.duration_since(arrived));
        if !matches!(message, ServerMessage::Metadata(_)) {
            self.stats.observations.record(now);
        }
        if matches!(message, ServerMessage::Step(_)) && !self.inbox.is_resetting() {
            self.watchdog.wind_up(now);
        }
        Some(frame)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have a frame, or bring about the end;
    /// `false` when it surely does not, as far as no reply handle was dropped.
    pub fn has_transmit(&self) -> bool {
        let is_answered = self.waiting.front().is_some_and(|waiting| waiting.reply.is_some());
        self.error.is_none() && (is_answered || self.shut_down_by.is_some())
    }

    /// The next event: what concerns the robot's motion first, then requests.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.poll_motion().or_else(|| self.poll_request())
    }

    /// The next event that concerns the robot's motion: an action, the watchdog's alarm, or the
    /// end of the connection.
    ///
    /// This and [`poll_request`](Self::poll_request), in the place of
    /// [`poll_event`](Self::poll_event), are for a robot that moves and answers requests in
    /// threads or tasks of their own, so that a slow observation delays no action. It begins a
    /// reset or a step only when it is done with the actions that it took before.
    pub fn poll_motion(&mut self) -> Option<Event> {
        self.check_abandoned();
        if let Some(action) = self.inbox.poll_action() {
            return Some(Event::Action(action));
        }
        if let Some(silent_for) = self.watchdog.take_alarm() {
            self.stats.watchdog_alarms += 1;
            return Some(Event::Watchdog { silent_for });
        }
        if self.end_told {
            return None;
        }
        let error = self.error.clone()?;
        self.end_told = true;
        Some(Event::Disconnected(error))
    }

    /// Whether [`poll_motion`](Self::poll_motion) has something to tell.
    pub fn has_motion(&self) -> bool {
        self.inbox.may_tell_action()
            || self.watchdog.has_alarm()
            || (self.error.is_some() && !self.end_told)
    }

    /// Whether [`poll_request`](Self::poll_request) has something to tell.
    pub fn has_request(&self) -> bool {
        self.inbox.may_tell_request()
    }

    /// The next request to answer.
    pub fn poll_request(&mut self) -> Option<Event> {
        self.check_abandoned();
        self.inbox.poll_request()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None` if only a frame
    /// or a call can bring anything about.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let timeout = self.next_timeout();
        self.timeout_told.tell(timeout)
    }

    /// Whether the driver must be woken; see [`Machine::needs_wake`](crate::Machine::needs_wake).
    pub fn needs_wake(&self) -> bool {
        self.has_transmit()
            || self.error.is_some()
            || self.timeout_told.is_later_than(self.next_timeout())
    }

    fn next_timeout(&self) -> Option<Instant> {
        if self.error.is_some() {
            return None;
        }
        let watchdog = self.watchdog.next_timeout().filter(|_| !self.inbox.is_resetting());
        watchdog.into_iter().chain(self.shut_down_by).min()
    }

    /// Why the connection has ended, if it has. When [it is ours](ConnectionError::is_ours) the
    /// transport is to be closed with its [code](ConnectionError::close_code) and its
    /// [words](ConnectionError::close_reason).
    pub fn error(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    // ---- answers ------------------------------------------------------------------------------
    // The handles are taken by value: a request is answered once.

    /// Answers a metadata request.
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_metadata(&mut self, reply: MetadataReply, data: Map) -> Result<(), ReplyError> {
        self.reply(&reply.0, Reply::Message(ServerMessage::Metadata(data)))
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
        self.reply(&reply.0, Reply::Message(ServerMessage::Reset(result)))
    }

    /// Answers a request for an observation, with one at hand or one to be
    /// [taken when the answer leaves](Answer::when_sent).
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_observation(
        &mut self,
        reply: ObserveReply,
        answer: impl Into<Answer>,
    ) -> Result<(), ReplyError> {
        self.reply(&reply.0, Reply::Observation(answer.into()))
    }

    /// Answers a legacy step.
    ///
    /// # Errors
    /// When the connection has ended, or the handle is of another one.
    #[expect(clippy::needless_pass_by_value, reason = "the handle is used up")]
    pub fn reply_step(&mut self, reply: StepReply, result: StepResult) -> Result<(), ReplyError> {
        self.reply(&reply.0, Reply::Message(ServerMessage::Step(result)))
    }

    fn reply(&mut self, place: &Place, reply: Reply) -> Result<(), ReplyError> {
        if let Some(error) = &self.error {
            return Err(ReplyError::Disconnected(error.clone()));
        }
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.place.is(place));
        waiting.ok_or(ReplyError::ForeignHandle)?.reply = Some(reply);
        self.inbox.answered(place);
        Ok(())
    }

    // ---- statistics ---------------------------------------------------------------------------

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        Stats { actions_dropped: self.inbox.dropped, ..self.stats.clone() }
    }

    // ---- inside -------------------------------------------------------------------------------

    fn handle_client(
        &mut self,
        now: Instant,
        message: ClientMessage,
    ) -> Result<(), ConnectionError> {
        let request = match message {
            ClientMessage::ApplyAction(action) => {
                self.stats.actions.record(now);
                self.watchdog.wind_up(now);
                self.inbox.push_action(action, self.config.action_backlog);
                return Ok(());
            }
            ClientMessage::Metadata => Request::Metadata,
            ClientMessage::Observe => Request::Observe,
            ClientMessage::Reset => Request::Reset,
            ClientMessage::Step(action) => Request::Step(action),
        };
        if self.shut_down_by.is_some() {
            return Ok(());
        }
        let limit = self.config.pending_replies;
        if self.waiting.len() >= limit {
            return Err(ConnectionError::TooManyRequests { limit });
        }
        if request.is_barrier() {
            self.watchdog.run_down();
        }
        if matches!(request, Request::Step(_)) {
            self.stats.actions.record(now);
        }
        let place = Place::new();
        self.waiting.push_back(Waiting {
            place: place.clone(),
            request: request.kind(),
            arrived: now,
            reply: None,
        });
        self.inbox.push_request(request, place);
        Ok(())
    }

    /// Ends the connection when a handle was dropped: its answer, and all behind it, would never
    /// leave.
    fn check_abandoned(&mut self) {
        let abandoned = self
            .waiting
            .iter()
            .find(|waiting| waiting.reply.is_none() && waiting.place.is_abandoned());
        if self.error.is_none()
            && let Some(Waiting { request, .. }) = abandoned
        {
            let request = *request;
            self.end(ConnectionError::Unanswered { request });
        }
    }

    /// Ends the connection, once.
    fn end(&mut self, error: ConnectionError) {
        if self.error.is_none() {
            self.inbox.end();
            self.waiting.clear();
            self.error = Some(error);
        }
    }
}
