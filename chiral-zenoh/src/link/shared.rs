use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::pool::BufferPool;
use chiral_proto::wire::{Frame, Limits};
use zenoh::bytes::ZBytes;

use super::goodbye::Goodbye;
use crate::message::Message;
use crate::stats::{Counters, count};

/// What a link's handle, its writer thread and Zenoh's callbacks have in common. Nothing that
/// locks it waits for anything while it does.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For the writer thread.
    changed: Condvar,
    /// For who waits for a message and has no waker.
    arrived: Condvar,
    pool: BufferPool,
    limits: Limits,
    pub(crate) counters: Arc<Counters>,
}

struct State {
    inbox: VecDeque<Message>,
    inbox_len: usize,
    /// Why nothing more comes, once what is in the inbox has been taken.
    end: Option<ConnectionError>,
    outbox: Outbox,
    closing: Closing,
    /// When the handle gives up waiting for the peer's answer to its close.
    give_up: Option<Instant>,
    presence: Presence,
    /// The handle is gone.
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

enum Outbox {
    Empty,
    /// Waits for the writer thread.
    Due(Frame),
    /// The writer thread has it.
    Writing,
    /// It has gone, and nobody was told yet.
    Written,
}

#[derive(PartialEq)]
enum Closing {
    No,
    /// To be sent behind what is being written; then the peer's answer is awaited, or not.
    Due(Goodbye, Then),
    /// The writer thread has it.
    Sending(Then),
    /// Until then. To leave sooner would overtake the goodbye: Zenoh tells of who leaves with a
    /// higher priority than what they have said.
    AwaitAnswer(Instant),
    Done,
}

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
    /// Say goodbye.
    Close(Goodbye),
    /// Nothing more: the link is at its end.
    Stop,
}

/// How long the peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often Zenoh is asked whether the peer subscribes, until it reports that by itself.
const ASK_PRESENCE: Duration = Duration::from_millis(100);
/// Messages that may wait to be taken: eight seconds of actions at 500 Hz.
const INBOX: usize = 4096;
/// Received buffers that are kept for the next messages.
const KEEP: usize = 3;

impl Shared {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                inbox: VecDeque::new(),
                inbox_len: 0,
                end: None,
                outbox: Outbox::Empty,
                closing: Closing::No,
                give_up: None,
                presence: Presence::Unknown,
                is_dropped: false,
                reader: None,
                writer: None,
            }),
            changed: Condvar::new(),
            arrived: Condvar::new(),
            pool: BufferPool::new(KEEP),
            limits,
            counters: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- from Zenoh's callbacks ---------------------------------------------------------------

    /// A message has come. What cannot be kept ends the link: nothing is lost silently, and
    /// nothing grows.
    pub(crate) fn receive(&self, payload: &ZBytes) {
        let len = payload.len();
        if len > self.limits.frame_len {
            // The core's own words; it looks at the length before anything else.
            let oversized = Message::oversized(payload).into_frame(&self.limits);
            if let Err(error) = oversized {
                self.lock().end(error.into());
            }
            return;
        }
        let message = Message::new(payload, &self.pool);
        count(&self.counters.received);
        if message.is_shared() {
            count(&self.counters.received_shared);
        }
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        let room = self.limits.frame_len.saturating_mul(2);
        if state.inbox.len() >= INBOX || state.inbox_len + len > room {
            let why = format!(
                "found {} messages of {} bytes that were not taken, expected at most {INBOX} of \
                 {room} bytes: send less, or take them faster",
                state.inbox.len() + 1,
                state.inbox_len + len
            );
            state.close(Goodbye { code: 1008, reason: why.clone() }, Then::AwaitAnswer);
            state.end(ConnectionError::BadTransport(why));
            self.changed.notify_all();
            return;
        }
        state.inbox_len += len;
        state.inbox.push_back(message);
        state.wake_reader();
        self.arrived.notify_one();
    }

    /// The peer says goodbye, or answers ours.
    pub(crate) fn peer_closed(&self, goodbye: &ZBytes) {
        let goodbye = Goodbye::decode(goodbye);
        let mut state = self.lock();
        match state.closing {
            Closing::No => {
                let answer = Goodbye { code: goodbye.code, reason: String::new() };
                state.close(answer, Then::Finish);
                let Goodbye { code, reason } = goodbye;
                state.end(ConnectionError::ClosedByPeer { code: Some(code), reason });
            }
            Closing::Due(..) | Closing::Sending(_) | Closing::AwaitAnswer(_) => state.finish(),
            Closing::Done => {}
        }
        self.changed.notify_all();
    }

    /// Zenoh reports whether the peer subscribes to what this side publishes.
    pub(crate) fn heard(&self, is_heard: bool, who: &str) {
        let mut state = self.lock();
        if is_heard {
            state.presence = Presence::Reported;
        } else if state.presence != Presence::Unknown {
            state.lose(format!("the {who} has left the network"));
        }
        self.changed.notify_all();
    }

    /// The peer has gone without a word.
    pub(crate) fn lose(&self, why: &str) {
        self.lock().lose(why.to_owned());
        self.changed.notify_all();
    }

    /// Why nothing more comes, if that is so.
    pub(super) fn end(&self) -> Option<ConnectionError> {
        self.lock().end.clone()
    }

    /// Whether nothing more will be carried.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.end.is_some() || state.closing != Closing::No
    }

    /// Waits for a message, blocking the thread: for a connection that is being made.
    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Option<Message> {
        let is_empty = |state: &mut State| state.inbox.is_empty() && state.end.is_none();
        let waited = self.arrived.wait_timeout_while(self.lock(), timeout, is_empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.take()
    }

    // ---- from the handle ----------------------------------------------------------------------

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Message, ConnectionError>> {
        let mut state = self.lock();
        if let Some(message) = state.take() {
            return Poll::Ready(Ok(message));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.clone()));
        }
        remember(&mut state.reader, cx.waker());
        Poll::Pending
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        remember(&mut state.writer, cx.waker());
        if state.closing == Closing::Done {
            // What was not written never will be.
            return Poll::Ready(false);
        }
        match state.outbox {
            Outbox::Empty => Poll::Ready(false),
            Outbox::Written => {
                state.outbox = Outbox::Empty;
                Poll::Ready(true)
            }
            Outbox::Due(_) | Outbox::Writing => Poll::Pending,
        }
    }

    pub(super) fn wants_frame(&self) -> bool {
        let state = self.lock();
        let is_idle = matches!(state.outbox, Outbox::Empty | Outbox::Written);
        is_idle && state.end.is_none() && state.closing == Closing::No
    }

    pub(super) fn push(&self, frame: Frame) {
        let mut state = self.lock();
        let is_idle = matches!(state.outbox, Outbox::Empty | Outbox::Written);
        debug_assert!(is_idle, "a frame was pushed that was not wanted");
        if is_idle {
            state.outbox = Outbox::Due(frame);
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self, now: Instant, goodbye: Goodbye) {
        let mut state = self.lock();
        if state.close(goodbye, Then::AwaitAnswer) {
            state.give_up = Some(now + CLOSE_TIMEOUT);
            self.changed.notify_all();
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.lock().closing == Closing::Done
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().give_up
    }

    pub(super) fn handle_timeout(&self, now: Instant) -> Result<(), ConnectionError> {
        let mut state = self.lock();
        if state.give_up.is_none_or(|give_up| now < give_up) {
            return Ok(());
        }
        state.finish();
        self.changed.notify_all();
        Err(ConnectionError::Lost(unanswered()))
    }

    pub(super) fn let_go(&self) {
        self.lock().is_dropped = true;
        self.changed.notify_all();
    }

    // ---- from the writer thread ---------------------------------------------------------------

    /// Waits for something to do. A peer that does not subscribe by `deadline` is lost. Zenoh is
    /// to be asked next at `ask_at` whether it does.
    pub(super) fn next_task(&self, deadline: Instant, ask_at: &mut Instant) -> Task {
        let mut state = self.lock();
        loop {
            if state.closing == Closing::Done {
                return Task::Stop;
            }
            let now = Instant::now();
            let until = match (&state.closing, state.presence) {
                (&Closing::AwaitAnswer(until), _) => {
                    if until <= now {
                        state.lose(unanswered());
                        return Task::Stop;
                    }
                    until
                }
                (_, Presence::Reported) => match state.task() {
                    Some(task) => return task,
                    None => {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                        continue;
                    }
                },
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
                        state.lose("the peer does not take what it is sent".to_owned());
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
            (Presence::Found, false) => state.lose("the peer has left the network".to_owned()),
            (Presence::Unknown, false) | (Presence::Found, true) | (Presence::Reported, _) => {}
        }
    }

    /// The frame was written.
    pub(super) fn wrote(&self) {
        let mut state = self.lock();
        state.outbox = Outbox::Written;
        state.wake_writer();
    }

    /// The goodbye was written. A peer that does not know goodbyes will not answer.
    pub(crate) fn said_goodbye(&self, is_answered: bool) {
        let mut state = self.lock();
        match state.closing {
            Closing::Sending(Then::AwaitAnswer) if is_answered => {
                state.closing = Closing::AwaitAnswer(Instant::now() + CLOSE_TIMEOUT);
            }
            _ => state.finish(),
        }
    }
}

impl State {
    fn take(&mut self) -> Option<Message> {
        let message = self.inbox.pop_front()?;
        self.inbox_len -= message.len();
        Some(message)
    }

    fn task(&mut self) -> Option<Task> {
        if matches!(self.outbox, Outbox::Due(_)) {
            let Outbox::Due(frame) = std::mem::replace(&mut self.outbox, Outbox::Writing) else {
                unreachable!("it was just seen to be due");
            };
            return Some(Task::Write(frame));
        }
        if let Closing::Due(_, then) = self.closing {
            let Closing::Due(goodbye, _) =
                std::mem::replace(&mut self.closing, Closing::Sending(then))
            else {
                unreachable!("it was just seen to be due");
            };
            return Some(Task::Close(goodbye));
        }
        if self.is_dropped {
            if self.closing == Closing::No {
                self.closing = Closing::Sending(Then::AwaitAnswer);
                let reason = "the peer's program let the connection go".to_owned();
                return Some(Task::Close(Goodbye { code: 1001, reason }));
            }
            return Some(Task::Stop);
        }
        None
    }

    /// Begins to close, once.
    fn close(&mut self, goodbye: Goodbye, then: Then) -> bool {
        let is_first = self.closing == Closing::No;
        if is_first {
            self.closing = Closing::Due(goodbye, then);
        }
        is_first
    }

    fn end(&mut self, why: ConnectionError) {
        self.end.get_or_insert(why);
        self.wake_reader();
        self.wake_writer();
    }

    fn lose(&mut self, why: String) {
        if self.closing != Closing::Done {
            self.finish();
            self.end(ConnectionError::Lost(why));
        }
    }

    fn finish(&mut self) {
        self.closing = Closing::Done;
        self.give_up = None;
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

fn unanswered() -> String {
    format!("the peer did not complete the close within {CLOSE_TIMEOUT:?}")
}

fn remember(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use chiral_proto::wire::ClientMessage;

    use super::*;

    fn with_frame_to_write() -> Shared {
        let shared = Shared::new(Limits::default());
        shared.push(ClientMessage::Metadata.encode());
        shared
    }

    #[test]
    fn frame_is_written_to_a_peer_whose_subscription_was_not_reported_yet() {
        let shared = with_frame_to_write();
        let start = Instant::now();
        let (deadline, mut ask_at) = (start + CLOSE_TIMEOUT, start);
        assert!(matches!(shared.next_task(deadline, &mut ask_at), Task::AskPresence));
        shared.presence_answered(true);
        ask_at = deadline;
        assert!(matches!(shared.next_task(deadline, &mut ask_at), Task::Write(_)));
        // Zenoh may never report a peer that is gone by the time it would.
        shared.wrote();
        shared.presence_answered(false);
        assert!(matches!(shared.end(), Some(ConnectionError::Lost(_))));
        assert!(matches!(shared.next_task(deadline, &mut ask_at), Task::Stop));
    }

    #[test]
    fn answer_that_is_older_than_the_report_changes_nothing() {
        let shared = with_frame_to_write();
        shared.heard(true, "policy");
        shared.presence_answered(false);
        let start = Instant::now();
        assert!(matches!(shared.next_task(start, &mut { start }), Task::Write(_)));
        assert!(shared.end().is_none());
        shared.heard(false, "policy");
        assert!(matches!(shared.end(), Some(ConnectionError::Lost(_))));
    }

    #[test]
    fn peer_that_never_subscribes_is_lost_at_the_deadline() {
        let shared = with_frame_to_write();
        let deadline = Instant::now();
        assert!(matches!(shared.next_task(deadline, &mut { deadline }), Task::AskPresence));
        shared.presence_answered(false);
        let mut ask_at = deadline + CLOSE_TIMEOUT;
        assert!(matches!(shared.next_task(deadline, &mut ask_at), Task::Stop));
        assert!(matches!(shared.end(), Some(ConnectionError::Lost(_))));
    }
}
