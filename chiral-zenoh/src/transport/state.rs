use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::pool::BufferPool;
use chiral_proto::wire::{Frame, Limits};
use zenoh::bytes::ZBytes;
use zenoh::sample::Sample;

use super::close_message::CloseMessage;
use crate::authentication::{Unauthentic, Verifier};
use crate::payload::Payload;
use crate::stats::{Counts, count};

/// The state of a connection, shared by its [`ZenohTransport`](super::ZenohTransport), its writer
/// thread and Zenoh's callbacks. Whoever locks it waits for nothing meanwhile.
pub(crate) struct TransportState {
    state: Mutex<State>,
    /// For the writer thread.
    changed: Condvar,
    /// For a thread that waits for a message.
    arrived: Condvar,
    pool: BufferPool,
    limits: Limits,
    /// Check who has sent frames and close messages, where that can be told.
    verifiers: Option<[Verifier; 2]>,
    pub(crate) counts: Arc<Counts>,
}

struct State {
    received: VecDeque<Payload>,
    /// Bytes in `received`.
    received_len: usize,
    /// Why nothing more comes, once what has been received is taken.
    end: Option<ConnectionError>,
    outgoing: Outgoing,
    closing: Closing,
    /// When the transport gives up waiting for the peer's answer to its close.
    close_deadline: Option<Instant>,
    presence: Presence,
    /// The transport has been dropped.
    is_dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whether the peer subscribes to what this side publishes. Zenoh reports it in a task of its own,
/// which a busy process may delay for seconds, and does not report a peer that is gone by then; so
/// it is asked until it has reported.
///
/// ```text
///            asked, subscribes          reported
///   Unknown ──────────────────► Found ──────────► Reported
///     │                           │                  │
///     └───────── reported ────────┼──────────────────┤
///                                 ▼                  ▼
///             asked, does not subscribe        reported gone: the connection is lost
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unknown,
    Found,
    Reported,
}

/// The frame that is being sent.
///
/// ```text
///   Empty ── send ──► Queued ── writer thread ──► Writing ── given to Zenoh ──► Written
///     ▲                                                                           │
///     └────────────────────────────── poll_write ─────────────────────────────────┘
/// ```
enum Outgoing {
    Empty,
    Queued(Frame),
    Writing,
    Written,
}

/// How far the connection is closed.
///
/// ```text
///   Open ── close, or the peer's close message ──► Queued ── writer thread ──► Sending
///                                                                             │    │
///          Closed ◄── the peer's answer, or 1 s ── AwaitingAnswer ◄─ our close ┘    │
///            ▲                                                                     │
///            └───────────────────── answer to the peer's close, or no subscriber ──┘
///   any ── the peer's answer, or the connection is lost ──► Closed
/// ```
#[derive(PartialEq)]
enum Closing {
    Open,
    /// The close message follows the frame that is being written.
    Queued(CloseMessage, Then),
    Sending(Then),
    /// Until this instant. To leave sooner would overtake the close message: Zenoh reports a
    /// session's end with a higher priority than what it has sent before.
    AwaitingAnswer(Instant),
    Closed,
}

/// What follows when a close message is sent.
#[derive(PartialEq, Clone, Copy)]
enum Then {
    AwaitAnswer,
    Finish,
}

/// What the writer thread is to do next.
pub(super) enum Task {
    /// Ask Zenoh whether the peer subscribes.
    AskPresence,
    Write(Frame),
    /// Send a close message.
    Close(CloseMessage),
    /// Nothing more: the connection is closed.
    Stop,
}

/// How long the peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const CLOSE_UNANSWERED: ConnectionError = ConnectionError::CloseTimeout { timeout: CLOSE_TIMEOUT };
/// How often Zenoh is asked whether the peer subscribes, until it reports that by itself.
const ASK_PRESENCE: Duration = Duration::from_millis(100);
/// Received messages that may wait to be read: eight seconds of actions at 500 Hz.
const MAX_UNREAD: usize = 4096;
/// Received buffers that are kept for the next messages.
const POOLED_BUFFERS: usize = 3;

impl TransportState {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                received: VecDeque::new(),
                received_len: 0,
                end: None,
                outgoing: Outgoing::Empty,
                closing: Closing::Open,
                close_deadline: None,
                presence: Presence::Unknown,
                is_dropped: false,
                reader: None,
                writer: None,
            }),
            changed: Condvar::new(),
            arrived: Condvar::new(),
            pool: BufferPool::new(POOLED_BUFFERS),
            limits,
            verifiers: None,
            counts: Arc::default(),
        }
    }

    /// One to which only messages count whose tags are of the peer's.
    pub(crate) fn authenticated(limits: Limits, verifiers: [Verifier; 2]) -> Self {
        Self { verifiers: Some(verifiers), ..Self::new(limits) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- from Zenoh's callbacks ---------------------------------------------------------------

    /// Whether a message is the peer's next one. One that is not does not count; the peer's, if one
    /// before it is missing, ends the connection.
    fn is_authentic(
        &self,
        verifier: impl FnOnce(&[Verifier; 2]) -> &Verifier,
        sample: &Sample,
        chunks: &[&[u8]],
    ) -> bool {
        let Some(verifiers) = &self.verifiers else { return true };
        let tag = sample.attachment().map(ZBytes::to_bytes).unwrap_or_default();
        match verifier(verifiers).verify(&tag, chunks) {
            Ok(()) => true,
            Err(Unauthentic::Gap { found, expected }) => {
                let why = format!(
                    "found message {found}, expected {expected}: the network has lost what is \
                     between them"
                );
                // Not a fault of the peer's: another connection may last.
                let message = CloseMessage { code: 1011, reason: why.clone() };
                self.end_with(&mut self.lock(), message, ConnectionError::Lost(why));
                false
            }
            Err(why @ (Unauthentic::Foreign | Unauthentic::Replayed)) => {
                if self.counts.rejected.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        "a message under {} does not count: found one {}, expected only the peer's; \
                         others are counted (`Stats::frames_rejected`)",
                        sample.key_expr(),
                        match why {
                            Unauthentic::Replayed => "that was received before",
                            _ => "without the peer's tag",
                        }
                    );
                }
                false
            }
        }
    }

    /// Ends the connection over what the peer has sent.
    fn violated(&self, state: &mut State, why: String) {
        let message = CloseMessage { code: 1008, reason: why.clone() };
        self.end_with(state, message, ConnectionError::TransportViolation(why));
    }

    fn end_with(&self, state: &mut State, message: CloseMessage, error: ConnectionError) {
        state.close(message, Then::AwaitAnswer);
        state.end(error);
        self.changed.notify_all();
    }

    /// A message has been received. One that finds no room ends the connection: nothing is lost
    /// silently, and nothing grows.
    pub(crate) fn receive(&self, sample: &Sample) {
        let payload = sample.payload();
        let len = payload.len();
        if len > self.limits.frame_len {
            if !self.is_authentic(|[frames, _]| frames, sample, &slices(payload)) {
                return;
            }
            // For the core's own error, which looks at the length before anything else.
            let segments = Payload::oversized(payload).into_segments();
            if let Err(error) = Frame::parse_segments(segments, &self.limits) {
                self.lock().end(error.into());
            }
            return;
        }
        let payload = Payload::new(payload, &self.pool);
        if !self.is_authentic(|[frames, _]| frames, sample, &payload.chunks()) {
            return;
        }
        count(&self.counts.received);
        if payload.is_shared() {
            count(&self.counts.received_shared);
        }
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        let room = self.limits.frame_len.saturating_mul(2);
        if state.received.len() >= MAX_UNREAD || state.received_len + len > room {
            let why = format!(
                "found {} unread messages of {} bytes, expected at most {MAX_UNREAD} of {room} \
                 bytes: send less, or read them faster",
                state.received.len() + 1,
                state.received_len + len
            );
            self.violated(&mut state, why);
            return;
        }
        state.received_len += len;
        state.received.push_back(payload);
        state.wake_reader();
        self.arrived.notify_one();
    }

    /// The peer has sent a close message: its own, or the answer to ours.
    pub(crate) fn receive_close(&self, sample: &Sample) {
        let payload = sample.payload();
        if self.is_authentic(|[_, closes]| closes, sample, &slices(payload)) {
            self.close_received(payload);
        }
    }

    /// As [`receive_close`](Self::receive_close), of a message that is the peer's.
    pub(crate) fn close_received(&self, message: &ZBytes) {
        let message = CloseMessage::decode(message);
        let mut state = self.lock();
        match state.closing {
            Closing::Open => {
                let answer = CloseMessage { code: message.code, reason: String::new() };
                state.close(answer, Then::Finish);
                let CloseMessage { code, reason } = message;
                state.end(ConnectionError::ClosedByPeer { code: Some(code), reason });
            }
            Closing::Queued(..) | Closing::Sending(_) | Closing::AwaitingAnswer(_) => {
                state.finish();
            }
            Closing::Closed => {}
        }
        self.changed.notify_all();
    }

    /// Zenoh reports whether the peer subscribes to what this side publishes.
    pub(crate) fn subscription_reported(&self, is_subscribed: bool, who: &str) {
        let mut state = self.lock();
        if is_subscribed {
            state.presence = Presence::Reported;
        } else if state.presence != Presence::Unknown {
            state.lose(ConnectionError::Lost(format!("the {who} has left the network")));
        }
        self.changed.notify_all();
    }

    /// The peer has left without a close message.
    pub(crate) fn lose(&self, why: &str) {
        self.lock().lose(ConnectionError::Lost(why.to_owned()));
        self.changed.notify_all();
    }

    /// Why nothing more comes, if that is so.
    pub(crate) fn end(&self) -> Option<ConnectionError> {
        self.lock().end.clone()
    }

    /// Whether the connection has ended, or is being closed.
    pub(crate) fn is_ended(&self) -> bool {
        let state = self.lock();
        state.end.is_some() || state.closing != Closing::Open
    }

    /// Waits for a message, blocking the thread: for a connection that is being made.
    pub(crate) fn receive_timeout(&self, timeout: Duration) -> Option<Payload> {
        let is_empty = |state: &mut State| state.received.is_empty() && state.end.is_none();
        let waited = self.arrived.wait_timeout_while(self.lock(), timeout, is_empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.take()
    }

    // ---- from the transport ----------------------------------------------------------------------

    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Payload, ConnectionError>> {
        let mut state = self.lock();
        if let Some(payload) = state.take() {
            return Poll::Ready(Ok(payload));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.clone()));
        }
        store_waker(&mut state.reader, cx.waker());
        Poll::Pending
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        store_waker(&mut state.writer, cx.waker());
        if state.closing == Closing::Closed {
            // What was not written never will be.
            return Poll::Ready(false);
        }
        match state.outgoing {
            Outgoing::Empty => Poll::Ready(false),
            Outgoing::Written => {
                state.outgoing = Outgoing::Empty;
                Poll::Ready(true)
            }
            Outgoing::Queued(_) | Outgoing::Writing => Poll::Pending,
        }
    }

    pub(super) fn wants_frame(&self) -> bool {
        let state = self.lock();
        let is_idle = matches!(state.outgoing, Outgoing::Empty | Outgoing::Written);
        is_idle && state.end.is_none() && state.closing == Closing::Open
    }

    pub(super) fn send(&self, frame: Frame) {
        let mut state = self.lock();
        let is_idle = matches!(state.outgoing, Outgoing::Empty | Outgoing::Written);
        debug_assert!(is_idle, "a frame was sent that was not wanted");
        if is_idle {
            state.outgoing = Outgoing::Queued(frame);
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self, now: Instant, message: CloseMessage) {
        let mut state = self.lock();
        if state.close(message, Then::AwaitAnswer) {
            state.close_deadline = Some(now + CLOSE_TIMEOUT);
            self.changed.notify_all();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closing == Closing::Closed
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().close_deadline
    }

    pub(super) fn handle_timeout(&self, now: Instant) -> Result<(), ConnectionError> {
        let mut state = self.lock();
        if state.close_deadline.is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        state.finish();
        self.changed.notify_all();
        Err(CLOSE_UNANSWERED)
    }

    pub(super) fn handle_dropped(&self) {
        self.lock().is_dropped = true;
        self.changed.notify_all();
    }

    // ---- from the writer thread ---------------------------------------------------------------

    /// Waits for something to do. A peer that does not subscribe by `deadline` is lost. Zenoh is
    /// to be asked next at `ask_at` whether it does.
    pub(super) fn next_task(&self, deadline: Instant, ask_at: &mut Instant) -> Task {
        let mut state = self.lock();
        loop {
            if state.closing == Closing::Closed {
                return Task::Stop;
            }
            let now = Instant::now();
            let until = match (&state.closing, state.presence) {
                (&Closing::AwaitingAnswer(until), _) => {
                    if until <= now {
                        state.lose(CLOSE_UNANSWERED);
                        return Task::Stop;
                    }
                    until
                }
                (_, Presence::Reported) => {
                    if let Some(task) = state.task() {
                        return task;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                (_, presence) => {
                    if *ask_at <= now {
                        *ask_at = now + ASK_PRESENCE;
                        return Task::AskPresence;
                    }
                    if presence == Presence::Found {
                        if let Some(task) = state.task() {
                            return task;
                        }
                    } else if state.is_dropped {
                        state.finish();
                        return Task::Stop;
                    } else if deadline <= now {
                        state.lose(ConnectionError::Lost(
                            "the peer does not subscribe to what it is sent".to_owned(),
                        ));
                        return Task::Stop;
                    }
                    *ask_at
                }
            };
            let waited = self.changed.wait_timeout(state, until.saturating_duration_since(now));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What Zenoh has answered to [`Task::AskPresence`].
    pub(super) fn presence_answered(&self, is_subscribed: bool) {
        let mut state = self.lock();
        match (state.presence, is_subscribed) {
            (Presence::Unknown, true) => state.presence = Presence::Found,
            (Presence::Found, false) => {
                state.lose(ConnectionError::Lost("the peer has left the network".to_owned()));
            }
            (Presence::Unknown, false) | (Presence::Found, true) | (Presence::Reported, _) => {}
        }
    }

    /// The frame has been given to Zenoh.
    pub(super) fn frame_written(&self) {
        let mut state = self.lock();
        state.outgoing = Outgoing::Written;
        state.wake_writer();
    }

    /// The close message was sent, or was not because the peer knows none.
    pub(crate) fn close_sent(&self, is_sent: bool) {
        let mut state = self.lock();
        match state.closing {
            Closing::Sending(Then::AwaitAnswer) if is_sent => {
                state.closing = Closing::AwaitingAnswer(Instant::now() + CLOSE_TIMEOUT);
            }
            _ => state.finish(),
        }
    }
}

fn slices(payload: &ZBytes) -> Vec<&[u8]> {
    payload.slices().collect()
}

impl State {
    fn take(&mut self) -> Option<Payload> {
        let payload = self.received.pop_front()?;
        self.received_len -= payload.len();
        Some(payload)
    }

    fn task(&mut self) -> Option<Task> {
        if matches!(self.outgoing, Outgoing::Queued(_)) {
            let Outgoing::Queued(frame) = std::mem::replace(&mut self.outgoing, Outgoing::Writing)
            else {
                unreachable!("it was just seen to be queued");
            };
            return Some(Task::Write(frame));
        }
        if let Closing::Queued(_, then) = self.closing {
            let Closing::Queued(message, _) =
                std::mem::replace(&mut self.closing, Closing::Sending(then))
            else {
                unreachable!("it was just seen to be queued");
            };
            return Some(Task::Close(message));
        }
        if self.is_dropped {
            if self.closing == Closing::Open {
                self.closing = Closing::Sending(Then::AwaitAnswer);
                let reason = "the peer's program dropped the connection".to_owned();
                return Some(Task::Close(CloseMessage { code: 1001, reason }));
            }
            return Some(Task::Stop);
        }
        None
    }

    /// Begins to close, once.
    fn close(&mut self, message: CloseMessage, then: Then) -> bool {
        let is_first = self.closing == Closing::Open;
        if is_first {
            self.closing = Closing::Queued(message, then);
        }
        is_first
    }

    fn end(&mut self, why: ConnectionError) {
        self.end.get_or_insert(why);
        self.wake_reader();
        self.wake_writer();
    }

    fn lose(&mut self, why: ConnectionError) {
        if self.closing != Closing::Closed {
            self.finish();
            self.end(why);
        }
    }

    fn finish(&mut self) {
        self.closing = Closing::Closed;
        self.close_deadline = None;
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

fn store_waker(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use chiral_proto::wire::ClientMessage;
    use zenoh::key_expr::KeyExpr;
    use zenoh::sample::SampleBuilder;

    use super::*;
    use crate::authentication::Signer;

    fn with_frame_to_write() -> TransportState {
        let state = TransportState::new(Limits::default());
        state.send(ClientMessage::Metadata.encode());
        state
    }

    #[test]
    fn frames_are_written_before_the_subscription_is_reported() {
        let state = with_frame_to_write();
        let start = Instant::now();
        let (deadline, mut ask_at) = (start + CLOSE_TIMEOUT, start);
        assert!(matches!(state.next_task(deadline, &mut ask_at), Task::AskPresence));
        state.presence_answered(true);
        ask_at = deadline;
        assert!(matches!(state.next_task(deadline, &mut ask_at), Task::Write(_)));
        // Zenoh may never report a peer that is gone by the time it would.
        state.frame_written();
        state.presence_answered(false);
        assert!(matches!(state.end(), Some(ConnectionError::Lost(_))));
        assert!(matches!(state.next_task(deadline, &mut ask_at), Task::Stop));
    }

    #[test]
    fn an_answer_older_than_the_report_is_ignored() {
        let state = with_frame_to_write();
        state.subscription_reported(true, "policy");
        state.presence_answered(false);
        let start = Instant::now();
        assert!(matches!(state.next_task(start, &mut { start }), Task::Write(_)));
        assert!(state.end().is_none());
        state.subscription_reported(false, "policy");
        assert!(matches!(state.end(), Some(ConnectionError::Lost(_))));
    }

    #[test]
    fn a_message_behind_one_that_is_missing_ends_the_connection_as_lost() {
        let verifiers = [Verifier::new([1; 32]), Verifier::new([2; 32])];
        let state = TransportState::authenticated(Limits::default(), verifiers);
        state.subscription_reported(true, "policy");
        let mut signer = Signer::new([1; 32], true);
        signer.sign(&[b"missing"], false);
        let key = KeyExpr::try_from("chiral/c2s").expect("a key");
        let tag = signer.sign(&[b"next"], false);
        state.receive(&SampleBuilder::put(key, &b"next"[..]).attachment(tag).into());
        let end = state.end().expect("it has ended");
        assert!(end.may_pass(), "a client that connects again is to do so: {end}");
        let start = Instant::now();
        let task = state.next_task(start + CLOSE_TIMEOUT, &mut { start });
        assert!(matches!(task, Task::Close(CloseMessage { code: 1011, .. })));
    }

    #[test]
    fn a_peer_that_never_subscribes_times_out() {
        let state = with_frame_to_write();
        let deadline = Instant::now();
        assert!(matches!(state.next_task(deadline, &mut { deadline }), Task::AskPresence));
        state.presence_answered(false);
        let mut ask_at = deadline + CLOSE_TIMEOUT;
        assert!(matches!(state.next_task(deadline, &mut ask_at), Task::Stop));
        assert!(matches!(state.end(), Some(ConnectionError::Lost(_))));
    }
}
