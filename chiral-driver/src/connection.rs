//! One connection: its state machine behind a lock, and everybody who waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use atomic_waker::AtomicWaker;
use chiral_proto::wire::Frame;
use chiral_proto::{ConnectionError, Machine};
use event_listener::{Event, EventListener, Listener as _};

use crate::panic::panic_message;
use crate::transport::Message;

/// What a connection keeps for one side: its machine, and who waits for which of its events.
pub trait State: Send + 'static {
    /// The side's state machine.
    type Machine: Machine;

    /// The machine.
    fn machine(&mut self) -> &mut Self::Machine;

    /// Hands the machine's events to those who wait for them. Called after each change of the
    /// machine.
    fn dispatch_events(&mut self);

    /// Whether the next message is to be taken from the transport.
    fn wants_message(&self) -> bool {
        true
    }
}

/// A connection, shared by the handles of the application and by the driver.
///
/// The driver is whoever moves frames and time between the machine and a transport: a task of
/// [`drive`](crate::drive), or the threads of chiral-blocking. It calls [`receive`](Self::receive),
/// [`poll_transmit`](Self::poll_transmit), [`handle_timeout`](Self::handle_timeout) and
/// [`disconnect`](Self::disconnect), and at last [`finish`](Self::finish).
pub struct Connection<S> {
    state: Mutex<S>,
    /// Wakes the driver.
    driver: AtomicWaker,
    /// Counts what has been received, however little: the peer's signs of life.
    received: AtomicU64,
    /// Somebody wants to know whether the peer is alive.
    probe: AtomicBool,
    /// Notified by each sign of life, and at the end.
    activity: Event,
    /// Somebody drives it, who will finish it.
    driven: AtomicBool,
    finished: AtomicBool,
    /// Notified once the driver has finished.
    on_finish: Event,
    /// Notified when the driver has something to do: it may be to read on.
    on_wake: Event,
}

impl<S: State> Connection<S> {
    /// A connection that is open.
    pub fn new(state: S) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            driver: AtomicWaker::new(),
            received: AtomicU64::new(0),
            probe: AtomicBool::new(false),
            activity: Event::new(),
            driven: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            on_finish: Event::new(),
            on_wake: Event::new(),
        })
    }

    /// The state. Held for microseconds, never over a wait. A panic while it is held leaves the
    /// state whole, so a poisoned lock is used on.
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, hands on the events that result, and says whether the driver has
    /// something to do that it did not have before.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut S, Instant) -> T) -> (T, bool) {
        self.change_with(|state| change(state, Instant::now()))
    }

    fn change_with<T>(&self, change: impl FnOnce(&mut S) -> T) -> (T, bool) {
        let mut state = self.lock();
        let was_held_up = !state.wants_message();
        let result = change(&mut state);
        state.dispatch_events();
        let wake = state.machine().needs_wake() || (was_held_up && state.wants_message());
        if wake {
            self.on_wake.notify(usize::MAX);
        }
        (result, wake)
    }

    /// Calls the machine for the application, and wakes the driver if it has something to do.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut S, Instant) -> T) -> T {
        let (result, wake) = self.change(call);
        if wake {
            self.driver.wake();
        }
        result
    }

    /// Why the machine has ended, if it has. When [it is ours](ConnectionError::is_ours) the peer
    /// is still to be told.
    pub fn error(&self) -> Option<ConnectionError> {
        self.lock().machine().error().cloned()
    }

    /// Whether the machine's connection was lost and another one is expected.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.lock().machine().is_interrupted()
    }

    /// Takes something from the state, without handing on events, unless that ends the connection.
    /// Wakes the driver if it has something to do: messages are wanted again for it, or what was
    /// taken has a deadline.
    pub(crate) fn take<T>(&self, take: impl FnOnce(&mut S) -> T) -> T {
        let mut state = self.lock();
        let was_held_up = !state.wants_message();
        let was_open = state.machine().error().is_none();
        let taken = take(&mut state);
        if was_open && state.machine().error().is_some() {
            state.dispatch_events();
        }
        let wake = state.machine().needs_wake() || (was_held_up && state.wants_message());
        drop(state);
        if wake {
            self.driver.wake();
            self.on_wake.notify(usize::MAX);
        }
        taken
    }

    // ---- for the driver -----------------------------------------------------------------------

    /// Notes that somebody drives the connection from now on, who will [finish](Self::finish) it.
    pub fn start(&self) {
        self.driven.store(true, Ordering::Release);
    }

    /// Finishes a connection that nobody drives: it was given up before it had a transport.
    pub(crate) fn finish_if_not_driven(&self) {
        if !self.driven.load(Ordering::Acquire) {
            self.finish(ConnectionError::ClosedLocally);
        }
    }

    /// Whom to wake when the driver has something to do. To be called before each look at the
    /// machine; the latest waker counts.
    pub fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    /// Wakes the driver.
    pub fn wake_driver(&self) {
        self.driver.wake();
    }

    /// Whether the next message is to be taken from the transport. When it is not, a robot is to get
    /// every action and has not taken those before: the peer is to be held up. The driver is woken
    /// when it is again.
    pub fn wants_message(&self) -> bool {
        self.lock().wants_message()
    }

    /// As [`wants_message`](Self::wants_message), blocking the thread until it is.
    pub fn wait_until_message_wanted(&self) {
        loop {
            let wake = self.on_wake.listen();
            if self.wants_message() {
                return;
            }
            wake.wait();
        }
    }

    /// Takes one message of the transport. Says whether a driver in another thread must be woken.
    pub fn receive(&self, message: Message) -> bool {
        let ((), wake) = self.change(|state, now| match message {
            Message::Whole(message) => state.machine().handle_message(now, message),
            Message::Segments(message) => state.machine().handle_segments(now, message),
        });
        wake
    }

    /// Notes a sign of life of the peer: some bytes, whatever they are. Says whether a driver in
    /// another thread must be woken.
    pub fn note_activity(&self, now: Instant) -> bool {
        // Time passes, too.
        let ((), wake) = self.change_with(|state| state.machine().note_activity(now));
        self.received.fetch_add(1, Ordering::Relaxed);
        self.activity.notify(usize::MAX);
        wake
    }

    /// Whether the transport is to be [probed](crate::Transport::probe) now; said once.
    pub fn wants_probe(&self) -> bool {
        self.probe.load(Ordering::Relaxed) && self.probe.swap(false, Ordering::Relaxed)
    }

    /// The next frame to send. To be called only when the transport can take one.
    pub fn poll_transmit(&self, now: Instant) -> Option<Frame> {
        let mut state = self.lock();
        let was_held_up = !state.wants_message();
        let machine = state.machine();
        // It may take an observation, with code of the robot's.
        let frame = catch_unwind(AssertUnwindSafe(|| machine.poll_transmit(now)));
        let frame = frame.unwrap_or_else(|panic| {
            tracing::error!("the robot failed observing: {}", panic_message(&*panic));
            let told = "observing: it panicked; its log says why".to_owned();
            machine.handle_disconnect(now, ConnectionError::RobotFailed(told));
            None
        });
        state.dispatch_events();
        self.read_on(&mut state, was_held_up);
        frame
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It changes with every
    /// other call; the driver is woken when it becomes sooner than it was told here.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lock().machine().poll_timeout()
    }

    /// Lets time pass.
    pub fn handle_timeout(&self, now: Instant) {
        let mut state = self.lock();
        let was_held_up = !state.wants_message();
        state.machine().handle_timeout(now);
        state.dispatch_events();
        self.read_on(&mut state, was_held_up);
    }

    /// Time may end what held the peer up: the robot is stopped, or the machine has ended.
    fn read_on(&self, state: &mut S, was_held_up: bool) {
        let reads_on = was_held_up && state.wants_message();
        if reads_on || state.machine().error().is_some() {
            self.on_wake.notify(usize::MAX);
        }
    }

    /// Tells that the transport's connection has ended, or cannot go on.
    pub fn disconnect(&self, now: Instant, reason: ConnectionError) {
        {
            let mut state = self.lock();
            state.machine().handle_disconnect(now, reason);
            state.dispatch_events();
        }
        self.on_wake.notify(usize::MAX);
        self.activity.notify(usize::MAX);
    }

    /// Tells that nothing more will be moved, and why. Only the first call counts. Of a client that
    /// expects another connection it is only the end of this one.
    pub fn finish(&self, reason: ConnectionError) {
        if !self.finished.load(Ordering::Acquire) {
            self.disconnect(Instant::now(), reason);
            if self.is_interrupted() {
                return;
            }
            self.finished.store(true, Ordering::Release);
            self.on_finish.notify(usize::MAX);
        }
    }

    // ---- waiting ------------------------------------------------------------------------------

    /// Whether the driver has finished: everything is sent, or given up.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until the driver has finished.
    pub async fn wait_until_finished(&self) {
        loop {
            let finished = self.on_finish.listen();
            if self.is_finished() {
                return;
            }
            finished.await;
        }
    }

    /// As [`wait_until_finished`](Self::wait_until_finished), blocking the thread until then at the
    /// most; false when it has not finished by then.
    pub fn wait_until_finished_blocking(&self, deadline: Instant) -> bool {
        loop {
            let finished = self.on_finish.listen();
            if self.is_finished() {
                return true;
            }
            if finished.wait_deadline(deadline).is_none() {
                return self.is_finished();
            }
        }
    }

    /// How much has been received: a number that only grows.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Has the transport ask the peer for a sign of life, and returns how much had been
    /// [received](Self::received) before.
    pub(crate) fn probe(&self) -> u64 {
        let received = self.received();
        self.probe.store(true, Ordering::Relaxed);
        self.driver.wake();
        received
    }

    /// Notified by each sign of life, and at the end.
    pub(crate) fn listen_activity(&self) -> EventListener {
        self.activity.listen()
    }
}

impl<S: State> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("error", &self.error()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chiral_proto::server::{ActionQueue, Config, Event, Server};
    use chiral_proto::wire::ClientMessage;
    use chiral_proto::{Action, ActionSpec, Rate};
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::server::ServerState;

    const PERIOD: Duration = Duration::from_secs(1);

    /// The connection of a robot that is stopped after three missed periods, and has begun to move.
    fn moving(action_queue: ActionQueue) -> Arc<Connection<ServerState>> {
        let rate = Rate::hz(1).expect("a rate");
        let action_spec = ActionSpec::vector(1).rate(rate).stop_after(3);
        let config = Config { action_spec, action_queue, queue_bytes: 1024, ..Config::default() };
        let connection = Connection::new(ServerState::new(Server::new(Instant::now(), config)));
        send_action(&connection);
        let given = connection.take(ServerState::poll_motion);
        assert!(matches!(given, Some(Event::Action(_))));
        connection
    }

    fn send_action(connection: &Connection<ServerState>) {
        let action = ClientMessage::ApplyAction(Action::from([0.5]));
        connection.receive(Message::Whole(action.encode().to_bytes()));
    }

    #[test]
    fn a_peer_that_was_held_up_is_read_again_when_silence_stops_the_robot() {
        let connection = moving(ActionQueue::InOrder { capacity: 1 });
        send_action(&connection);
        assert!(!connection.wants_message(), "the robot is not done with the first one");
        let wake = connection.on_wake.listen();
        connection.handle_timeout(Instant::now() + 10 * PERIOD);
        assert!(connection.wants_message(), "what waited was dropped");
        assert!(block_on(poll_once(wake)).is_some(), "whoever reads is not woken");
    }

    #[test]
    fn an_alarm_that_bytes_of_the_peer_let_time_raise_is_told_at_once() {
        let connection = moving(ActionQueue::Latest);
        connection.lock().finish_motion();
        let news = connection.lock().listen_motion();
        connection.note_activity(Instant::now() + 2 * PERIOD);
        assert!(block_on(poll_once(news)).is_some(), "whoever moves the robot is not woken");
        let told = connection.take(ServerState::poll_motion);
        assert!(matches!(told, Some(Event::Watchdog { .. })), "{told:?}");
    }
}
