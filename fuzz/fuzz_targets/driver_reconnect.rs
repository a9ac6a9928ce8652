//! A whole client that connects again: the robot's host has any addresses, connections come about,
//! are refused, hang or break off at any point, the application makes any calls, and any time
//! passes. No action is sent over another connection than the one in which it was handed over, no
//! call gets the answer of another connection, there is one connection at a time, the client comes
//! back when the robot does, gives up when it was told to, and everything ends when it is closed.
#![no_main]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::Arbitrary;
use chiral_driver::PolicyClient;
use chiral_driver::client::ConnectionEvent;
use chiral_driver::proto::client::{Config, NotQueued, Reconnect};
use chiral_fuzz::driver::network::{self, Conditions, Dial};
use chiral_fuzz::driver::peer::{Bend, Peer, PeerOp, response_to};
use chiral_fuzz::driver::policy::Said;
use chiral_fuzz::driver::runtime::{Executor, FuzzRuntime, TaskId, spawn};
use chiral_fuzz::driver::stream::{End, Remote};
use chiral_fuzz::machines::{Kind, Time, action, hz, number_in, observation};
use chiral_proto::Action;
use chiral_proto::keepalive::Keepalive;
use chiral_proto::wire::Limits;

type Client = PolicyClient<FuzzRuntime>;

/// How long everything may take to end, or a robot that takes every connection to be connected to:
/// the longest are handshakes, of 10 s each.
const END: Duration = Duration::from_secs(60);
/// Longer than the longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 24 * 3600);

#[derive(Debug, Arbitrary)]
struct Input {
    settings: Settings,
    /// Whether the robot's address is known without a look-up.
    is_numeric: bool,
    last_woken_first: bool,
    conditions: Conditions,
    /// Whether the first connection is made before anything else.
    joins: bool,
    ops: Vec<Op>,
    finish: Finish,
}

#[derive(Debug, Arbitrary)]
struct Settings {
    hold_calls: bool,
    initial: Time,
    max: Time,
    give_up_after: Option<Time>,
    connect_timeout: Option<Time>,
    request_timeout: Option<Time>,
    motion_timeout: Option<Time>,
    silence: Option<Time>,
    max_age: Option<Time>,
    keepalive: Option<[Time; 2]>,
    window: u8,
    pending: u8,
    capacity: u8,
}

#[derive(Debug, Arbitrary)]
enum Op {
    /// What becomes of the look-ups and connections that begin from now on.
    Network(Conditions),
    /// What the robot does in its newest connection, or the network for it.
    Peer(PeerOp),
    /// As `Peer`, in an older one.
    OlderPeer(u8, PeerOp),
    /// The robot takes the next connection.
    Join,
    /// The robot answers the newest connection's handshake.
    Accept(Option<Bend>),
    /// It does not take that connection, with this HTTP status.
    Refuse(u16),
    /// The robot answers the oldest request, in two frames if it is cut.
    Answer(Option<u8>),
    /// The robot answers all requests.
    AnswerAll,
    /// The robot sends what was not asked for.
    Unasked(Kind),
    Request(Kind),
    NextObservation,
    NextConnectionEvent,
    PlanLow,
    /// A call is given up.
    GiveUp(u8),
    Stream(Option<u16>),
    Dispatch(Option<u16>),
    Put,
    Send,
    PutChunk(u8),
    Replace(u8),
    Clear,
    Run,
    /// Runs, and looks whether everything that can be done is done.
    Check,
    Wait(Time),
    Close,
    /// The handle is dropped; calls go on.
    Drop,
}

/// How the input ends.
#[derive(Debug, Arbitrary)]
enum Finish {
    /// The robot goes, and nobody is there any more.
    Gone { end: End, dial: u8 },
    /// The robot goes, and comes back.
    Back(End),
    /// The robot stays, and reads no more; the client is closed.
    Close,
    /// The handle and all calls are dropped.
    Drop,
}

/// What the application is seen to get.
#[derive(Default)]
struct Seen {
    client: Option<Client>,
    /// Which of the robot's ends belongs to each connection that was made.
    connections: Vec<usize>,
    state: State,
    /// Requests that wait for their answer.
    waiting: usize,
    answers: Vec<Answer>,
}

/// What the events have told of the connection.
///
/// ```text
/// Connecting ──connect──> Connected <──> Interrupted
///                             └────> Ended <──┘
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Connecting,
    Connected,
    Interrupted,
    Ended,
}

/// What a request has got.
struct Answer {
    kind: Kind,
    /// Which connection the request was made in, or before.
    connection: usize,
    number: Option<u32>,
}

impl Seen {
    /// A connection has been made: there is no other.
    fn connected(&mut self) {
        let held = network::held_connections();
        assert_eq!(held.len(), 1, "the client holds on to {held:?}");
        self.connections.push(held[0]);
        self.state = State::Connected;
    }

    fn event(&mut self, event: &ConnectionEvent) {
        self.state = match (self.state, event) {
            (State::Connected, ConnectionEvent::Disconnected { .. }) => State::Interrupted,
            (State::Interrupted, ConnectionEvent::Reconnected { .. }) => {
                self.connected();
                State::Connected
            }
            (State::Connected, ConnectionEvent::ContractChanged { .. }) => State::Connected,
            (State::Connected | State::Interrupted, ConnectionEvent::Ended { .. }) => State::Ended,
            (state, event) => panic!("{event:?} in {state:?}"),
        };
    }
}

/// Counts a request that waits, until it is dropped.
struct Waiting(Arc<Mutex<Seen>>);

impl Waiting {
    fn new(seen: &Arc<Mutex<Seen>>) -> Self {
        lock(seen).waiting += 1;
        Self(Arc::clone(seen))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.0).waiting -= 1;
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().expect("no panic is survived")
}

/// The robot's end of one connection.
struct Robot {
    peer: Peer,
    has_answered: bool,
    /// The requests that were read, and how many were answered.
    asked: Vec<Kind>,
    answered: usize,
}

impl Robot {
    fn new(remote: Remote) -> Self {
        Self { peer: Peer::new(remote, false), has_answered: false, asked: Vec::new(), answered: 0 }
    }

    /// Answers the handshake, if it has come and was not answered.
    fn answers_handshake(&mut self, answer: impl FnOnce(&[u8]) -> Vec<u8>) {
        if self.has_answered {
            return;
        }
        let request = self.peer.read().head;
        if request.ends_with(b"\r\n\r\n") {
            self.has_answered = true;
            self.peer.remote.send(&answer(&request));
        }
    }

    fn ends(&mut self, end: End) {
        self.peer.remote.end_reads(end);
        self.peer.remote.set_room(usize::MAX);
    }
}

struct World {
    seen: Arc<Mutex<Seen>>,
    hold_calls: bool,
    give_up_after: Option<Duration>,
    connect_timeout: Option<Duration>,
    robots: Vec<Robot>,
    connecting: TaskId,
    calls: Vec<TaskId>,
    /// Over which of the robot's ends each answer was sent.
    answers: Vec<usize>,
    /// In which connection each action was handed over.
    actions: Vec<usize>,
    /// Something was sent that can be read as an answer of any number.
    has_garbage: bool,
    executor: Executor,
}

impl World {
    fn new(input: &Input) -> Self {
        let executor = Executor::start(input.last_woken_first, 0);
        network::set(input.conditions.clone());
        let settings = &input.settings;
        let config = Config {
            stream_window: settings.window.into(),
            pending_requests: settings.pending.into(),
            queue_capacity: settings.capacity.into(),
            max_age: settings.max_age.map(Duration::from),
            limits: Limits { frame_len: 1 << 20, ..Limits::default() },
            request_timeout: settings.request_timeout.map(Duration::from),
            motion_timeout: settings.motion_timeout.map(Duration::from),
            silence: settings.silence.map(Duration::from),
            ..Config::default()
        };
        let keepalive = settings.keepalive.map(|[interval, timeout]| Keepalive {
            interval: interval.into(),
            timeout: timeout.into(),
        });
        let reconnect = Reconnect {
            initial: settings.initial.into(),
            max: settings.max.into(),
            give_up_after: settings.give_up_after.map(Duration::from),
            hold_calls: settings.hold_calls,
        };
        let connect_timeout = settings.connect_timeout.map(Duration::from);
        let seen = Arc::<Mutex<Seen>>::default();
        let told = Arc::clone(&seen);
        let mut builder = Client::builder()
            .config(config)
            .keepalive(keepalive)
            .reconnect(reconnect)
            .on_connection(move |event| lock(&told).event(event));
        if let Some(timeout) = connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        let uri = if input.is_numeric { "ws://10.0.0.0:8765" } else { "ws://robot:8765" };
        let told = Arc::clone(&seen);
        let connecting = spawn("connect", async move {
            if let Ok(client) = builder.connect(uri).await {
                let mut seen = lock(&told);
                seen.client = Some(client);
                seen.connected();
            }
        });
        let mut world = Self {
            seen,
            hold_calls: settings.hold_calls,
            give_up_after: settings.give_up_after.map(Duration::from),
            connect_timeout,
            robots: Vec::new(),
            connecting,
            calls: Vec::new(),
            answers: Vec::new(),
            actions: Vec::new(),
            has_garbage: false,
            executor,
        };
        if input.joins {
            world.joins();
        }
        world
    }

    fn does(&mut self, op: Op) {
        self.meets();
        match op {
            Op::Network(conditions) => network::set(conditions),
            Op::Peer(op) => self.peer_does(0, op),
            Op::OlderPeer(index, op) => self.peer_does(index, op),
            Op::Join => self.joins(),
            Op::Accept(bend) => self.accepts(bend),
            Op::Refuse(status) => {
                if let Some(robot) = self.robots.last_mut() {
                    let status = 300 + status % 300;
                    let refusal = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                    robot.answers_handshake(|_| refusal.into_bytes());
                }
            }
            Op::Answer(cut) => drop(self.answers(cut)),
            Op::AnswerAll => while self.answers(None) {},
            Op::Unasked(kind) => {
                if let Some(robot) = self.robots.last_mut() {
                    robot.peer.is_honest = false;
                    self.sends_answer(kind, None);
                }
            }
            Op::Request(kind) => self.requests(kind),
            Op::NextObservation => {
                self.calls("next_obs", |client| async move { drop(client.next_obs().await) });
            }
            Op::NextConnectionEvent => self.calls("next_connection_event", |client| async move {
                drop(client.next_connection_event().await);
            }),
            Op::PlanLow => {
                self.calls("plan_low", |client| async move { drop(client.plan_low().await) });
            }
            Op::GiveUp(index) => {
                if !self.calls.is_empty() {
                    let call = self.calls.swap_remove(usize::from(index) % self.calls.len());
                    self.executor.cancel(call);
                }
            }
            Op::Stream(rate) => self.tells(|client| match rate {
                None => client.stop_obs_stream(),
                Some(rate) => drop(client.start_obs_stream(hz(rate))),
            }),
            Op::Dispatch(rate) => self.tells(|client| match rate {
                None => client.stop_action_dispatch(),
                Some(rate) => drop(client.start_action_dispatch(hz(rate))),
            }),
            Op::Put => self.puts(1, |client, mut plan| client.put_action(plan.remove(0))),
            Op::Send => self.puts(1, |client, mut plan| client.send_action(plan.remove(0))),
            Op::PutChunk(count) => {
                self.puts(count, |client, plan| client.put_chunk(&observation(0), plan));
            }
            Op::Replace(count) => self.puts(count, |client, plan| {
                client.replace_actions(&observation(0), plan).map(drop)
            }),
            Op::Clear => self.tells(|client| {
                client.clear_actions();
            }),
            Op::Run => self.executor.run(),
            Op::Check => self.check(),
            Op::Wait(time) => self.executor.wait(time.into()),
            Op::Close => self.closes(),
            Op::Drop => self.drops_client(),
        }
    }

    /// Takes notice of new connections.
    fn meets(&mut self) {
        self.robots.extend(network::connections(self.robots.len()).into_iter().map(Robot::new));
    }

    fn state(&self) -> State {
        lock(&self.seen).state
    }

    fn peer_does(&mut self, index: u8, op: PeerOp) {
        let Some(index) = self.robots.len().checked_sub(1 + usize::from(index)) else { return };
        self.has_garbage |= match &op {
            PeerOp::Hostile(_) | PeerOp::Frame(..) => true,
            PeerOp::Bytes(bytes) => !bytes.is_empty(),
            _ => false,
        };
        self.robots[index].peer.does(op, |kind| kind.answer(0).encode());
    }

    /// The robot takes a connection, if the client makes one.
    fn joins(&mut self) {
        network::set(Conditions::default());
        self.executor.run();
        self.meets();
        if self.state() == State::Connected {
            return;
        }
        let known = self.robots.len();
        if self.robots.last().is_none_or(|robot| robot.has_answered || !robot.peer.remote.is_open())
        {
            self.executor.wait_for(LONGEST_PAUSE, || !network::connections(known).is_empty());
            self.meets();
        }
        self.accepts(None);
        self.executor.run();
    }

    fn accepts(&mut self, bend: Option<Bend>) {
        let Some(robot) = self.robots.last_mut() else { return };
        robot.peer.is_honest &= bend.is_none();
        robot.answers_handshake(|request| {
            let mut response = response_to(request);
            if let Some(bend) = bend {
                bend.apply(&mut response);
            }
            response
        });
    }

    fn client(&self) -> Option<Client> {
        lock(&self.seen).client.clone()
    }

    fn tells(&self, call: impl FnOnce(&Client)) {
        if let Some(client) = self.client() {
            call(&client);
        }
    }

    fn calls<F>(&mut self, name: &'static str, call: impl FnOnce(Client) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(client) = self.client() {
            self.calls.push(spawn(name, call(client)));
        }
    }

    fn drops_client(&mut self) {
        let client = lock(&self.seen).client.take();
        drop(client);
    }

    fn puts(&mut self, count: u8, put: impl FnOnce(&Client, Vec<Action>) -> Result<(), NotQueued>) {
        let Some(client) = self.client() else { return };
        let plan = (self.actions.len() as u32..).take(count.into()).map(action).collect();
        if put(&client, plan).is_ok() {
            let connection = lock(&self.seen).connections.len() - 1;
            self.actions.extend(std::iter::repeat_n(connection, count.into()));
        }
    }

    fn requests(&mut self, kind: Kind) {
        let seen = Arc::clone(&self.seen);
        self.calls("a request", |client| async move {
            let waiting = Waiting::new(&seen);
            let connection = lock(&seen).connections.len() - 1;
            let of_observation = |timestamp: f64| Some(timestamp as u32);
            let number = match kind {
                Kind::Metadata => client.metadata().await.map(|data| number_in(&data)),
                Kind::Reset => {
                    client.reset().await.map(|reset| of_observation(reset.observation.timestamp))
                }
                Kind::Observe => client.observe().await.map(|obs| of_observation(obs.timestamp)),
                Kind::Step => {
                    let step = client.step(action(0)).await;
                    step.map(|step| of_observation(step.observation.timestamp))
                }
            };
            if let Ok(number) = number {
                lock(&seen).answers.push(Answer { kind, connection, number });
            }
            drop(waiting);
        });
    }

    fn answers(&mut self, cut: Option<u8>) -> bool {
        let Some(robot) = self.robots.last_mut() else { return false };
        // Reading takes as long as there is to read: only when nothing known is left to answer.
        if robot.asked.len() <= robot.answered {
            robot.asked = Said::read(&robot.peer.read()).requests;
        }
        let Some(kind) = robot.asked.get(robot.answered).copied() else { return false };
        robot.answered += 1;
        self.sends_answer(kind, cut);
        true
    }

    fn sends_answer(&mut self, kind: Kind, cut: Option<u8>) {
        let message = kind.answer(self.answers.len() as u32).encode().to_bytes();
        self.answers.push(self.robots.len() - 1);
        let robot = self.robots.last_mut().expect("somebody answers");
        robot.peer.send_message(&message, cut);
    }

    /// Every call that the robot has answered has returned, and every request was sent, as far as
    /// nothing but the driver keeps it from that.
    fn check(&mut self) {
        self.executor.run();
        self.check_answers();
        let seen = lock(&self.seen);
        let is_connected = seen.state == State::Connected;
        let (Some(&index), waiting) = (seen.connections.last(), seen.waiting) else { return };
        let is_alive = seen.client.as_ref().is_some_and(|client| client.error().is_none());
        drop(seen);
        self.meets();
        let Robot { peer, answered, .. } = &self.robots[index];
        let written = peer.read();
        let is_open = peer.remote.is_open() && !written.is_closed;
        if is_connected && is_alive && is_open && peer.is_honest && peer.has_room {
            assert!(peer.remote.is_read(), "what an honest robot sent is not read");
            let unanswered = Said::read(&written).requests.len() - answered;
            assert!(waiting <= unanswered, "{waiting} calls wait for {unanswered} answers");
        }
    }

    /// Every answer is that of the connection in which it was asked for, or of a later one where
    /// the call waits for one; none is given twice.
    fn check_answers(&self) {
        if self.has_garbage {
            return;
        }
        let seen = lock(&self.seen);
        let mut given = HashSet::new();
        for Answer { kind, connection, number } in &seen.answers {
            let number = number.expect("every answer has a number");
            assert!(given.insert(number), "answer {number} was given twice");
            let robot = self.answers[number as usize];
            let asked = seen.connections[*connection];
            let waits = self.hold_calls && matches!(kind, Kind::Metadata | Kind::Observe);
            assert!(
                robot == asked || waits && robot > asked,
                "a {kind:?} of connection {asked} has got an answer of {robot}"
            );
        }
    }

    /// Every action was written once at the most, in the connection in which it was handed over.
    fn check_actions(&self) {
        let seen = lock(&self.seen);
        let mut written = HashSet::new();
        for (index, robot) in self.robots.iter().enumerate() {
            for number in Said::read(&robot.peer.read()).actions {
                assert!(written.insert(number), "action {number} was written twice");
                let connection = self.actions[number as usize];
                let handed_over = seen.connections[connection];
                assert_eq!(handed_over, index, "action {number} is one of another connection");
            }
        }
    }

    fn closes(&mut self) {
        match self.client() {
            Some(client) => {
                spawn("close", client.close());
            }
            // Without a handle, only the calls keep the connection open.
            None => self.gives_up_calls(),
        }
    }

    fn gives_up_calls(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().for_each(|call| self.executor.cancel(call));
    }

    /// Nobody is there any more: the client gives up if it was told to.
    fn goes(&mut self, end: End, dial: u8) {
        let dial = Dial::DOWN[usize::from(dial) % Dial::DOWN.len()];
        network::set(Conditions { dials: [dial; 3], ..Conditions::default() });
        self.robots.iter_mut().for_each(|robot| robot.ends(end));
        self.executor.run();
        let limit = match self.state() {
            State::Connecting => self.connect_timeout,
            _ => self.give_up_after,
        };
        if let Some(limit) = limit {
            self.executor.wait(limit);
            // The last try may have begun just before, and the time may have passed in one go.
            self.executor.wait(END);
            self.executor.cancel(self.connecting);
            let state = self.state();
            let has_ended = matches!(state, State::Connecting | State::Ended);
            assert!(has_ended, "{state:?}, {limit:?} after the robot has gone");
        }
    }

    /// The robot has gone, and takes every connection now: the client comes back.
    fn comes_back(&mut self, end: End) {
        self.robots.iter_mut().for_each(|robot| robot.ends(end));
        self.executor.run();
        if self.state() != State::Interrupted {
            return;
        }
        for _ in 0..4 {
            self.joins();
            if self.state() != State::Interrupted {
                return;
            }
        }
        panic!("the robot is there again, and the client does not come back");
    }

    fn finish(mut self, finish: Finish) {
        self.meets();
        match finish {
            Finish::Gone { end, dial } => self.goes(end, dial),
            Finish::Back(end) => self.comes_back(end),
            Finish::Close => {
                self.robots.iter().for_each(|robot| robot.peer.remote.set_room(0));
                self.executor.run();
            }
            Finish::Drop => {
                self.gives_up_calls();
                self.drops_client();
            }
        }
        self.executor.cancel(self.connecting);
        self.closes();
        self.executor.wait(END);
        // One that was connected only now is closed with its last handle.
        self.drops_client();
        self.executor.finish(END);
        self.meets();
        assert_eq!(network::held_connections(), [], "streams outlive their client");
        let state = self.state();
        assert!(matches!(state, State::Connecting | State::Ended), "it has ended in {state:?}");
        self.check_answers();
        self.check_actions();
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for op in input.ops {
        world.does(op);
    }
    world.finish(input.finish);
});
