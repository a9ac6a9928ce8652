//! A scripted session, and what must hold however it ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chiral_proto::client::{self, RequestKey, WhenLost};
use chiral_proto::server::{self, ActionQueue, Answer, DropReason};
use chiral_proto::testing::{Faults, Happening, Link, SessionPair, Side};
use chiral_proto::ws::{self, Keepalive};
use chiral_proto::{
    Action, Arming, ArmingState, Array, ConnectionError, Map, Observation, Rate, ResetResult,
    StopReason,
};

use crate::contract::{Actions, Contract, Draw, Judge, bits};
use crate::support::{metadata, observation, start};

const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_secs(2), timeout: Duration::from_secs(2) };
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a session may take from the moment that the policy closes it: the handshake for 10 s, pings
/// for 4 s, a closing handshake, and a second for the peer to hang up; these twice, as one side may find
/// out by the end of the other one.
const PATIENCE: Duration = Duration::from_secs(10 + 2 * (4 + 1 + 1));
/// How many actions the policy decides at once, on the observation that has just come.
const ROWS: u32 = 8;
/// How many actions a policy may number on one connection.
const PER_CONNECTION: u32 = 1000;
/// How often a policy resets a robot that was stopped.
const RESETS: u32 = 3;

/// What the policy of a session does: it asks for metadata and resets, streams observations while it
/// dispatches actions, asks for one more observation, and then somebody ends it. When a request fails,
/// or this takes longer than it should, the policy closes earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Of what is left to chance.
    pub(crate) seed: u64,
    pub(crate) ending: Ending,
    pub(crate) queue: ActionQueue,
    /// What the robot declares.
    pub(crate) contract: Contract,
    /// Of a hundred actions, how many the contract forbids. A policy that sends such has not asked for
    /// the contract.
    pub(crate) forbidden: u64,
    /// Whether the robot's own program arms and stops it.
    pub(crate) has_operator: bool,
    /// How many connections the policy has, one after the other, where the one before broke.
    pub(crate) connections: u32,
    /// Requests of the stream in flight.
    pub(crate) window: usize,
    pub(crate) observations: u64,
    pub(crate) actions: u32,
    /// Bytes of an observation's image; 0 for no camera.
    pub(crate) image: usize,
    /// Of the actions; observations come at half of it. In a silence each tick costs the test time.
    pub(crate) hz: u32,
    pub(crate) patience: Duration,
}

impl Script {
    /// A session of few bytes, for those who try each of them.
    pub(crate) const SHORT: Self = Self {
        seed: 0,
        ending: Ending::PolicyCloses,
        queue: ActionQueue::InOrder { capacity: 4096 },
        contract: Contract::ARMED_BY_RESET,
        forbidden: 0,
        has_operator: false,
        connections: 1,
        window: 1,
        observations: 2,
        actions: 6,
        image: 0,
        hz: 20,
        patience: Duration::from_secs(30),
    };
    /// The same with a camera, whose calibration and image can be corrupted.
    pub(crate) const WITH_CAMERA: Self = Self { image: 12, ..Self::SHORT };
    /// A session of some 25 kB, with a robot that declares nothing.
    pub(crate) const LONG: Self = Self {
        contract: Contract::NONE,
        observations: 10,
        actions: 40,
        image: 1500,
        hz: 50,
        patience: Duration::from_secs(20),
        ..Self::SHORT
    };

    /// Another way to end, another queue, window and contract, and another policy for each seed.
    pub(crate) fn vary(self, seed: u64) -> Self {
        use Ending::{PolicyCloses, RobotFails, ServerShutsDown, TakenOver};
        let endings = [PolicyCloses, ServerShutsDown, RobotFails, TakenOver];
        let queues = [
            ActionQueue::InOrder { capacity: 4096 },
            ActionQueue::InOrder { capacity: 1 },
            ActionQueue::Latest,
            ActionQueue::MaxAge(Duration::from_millis(50)),
        ];
        let contract = Contract::random(seed);
        let mut draw = Draw::new(seed);
        Self {
            seed,
            ending: endings[(seed / 4 % 4) as usize],
            queue: queues[(seed % 4) as usize],
            window: 1 + (seed / 16 % 3) as usize,
            contract,
            forbidden: [0, 0, 10, 40][draw.below(4) as usize],
            has_operator: contract.arming == Arming::Manual
                || !contract.is_none() && draw.happens(50),
            connections: 1 + draw.below(3) as u32,
            ..self
        }
    }

    /// Whether the robot gets all that arrives, from the first action on.
    fn is_all_applied(&self) -> bool {
        let is_in_order = matches!(self.queue, ActionQueue::InOrder { .. });
        is_in_order && self.contract.is_none() && self.forbidden == 0
    }

    /// The link of a connection after the first.
    fn next_link(&self, connection: u32) -> Link {
        let seed = Draw::new(self.seed ^ u64::from(connection) << 32).below(u64::MAX);
        Link::random(seed, 15_000)
    }
}

/// Who ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    PolicyCloses,
    ServerShutsDown,
    RobotFails,
    /// Another policy gets the robot.
    TakenOver,
}

/// What came of a session.
pub(crate) struct Outcome {
    pub(crate) policy_ended: ConnectionError,
    pub(crate) robot_ended: ConnectionError,
    /// The numbers of the actions, as they were applied.
    pub(crate) applied: Vec<f32>,
    pub(crate) streamed: u64,
    pub(crate) bytes_sent: [u64; 2],
    pub(crate) seen: Seen,
}

/// How often what the contract is about has happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) clamped: u64,
    pub(crate) refused: u64,
    pub(crate) not_armed: u64,
    pub(crate) before_stop: u64,
    pub(crate) held: u64,
    pub(crate) stopped_by_silence: u64,
    pub(crate) stopped_by_program: u64,
    /// The robot moved again after a stop, on the same connection.
    pub(crate) moved_after_stop: u64,
    /// It moved on another connection than the first.
    pub(crate) moved_after_reconnect: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts().into_iter().zip(other.clone().counts()) {
            *count += *more;
        }
    }

    pub(crate) fn counts(&mut self) -> [&mut u64; 9] {
        let Self { clamped, refused, not_armed, before_stop, held, .. } = self;
        let Self { stopped_by_silence, stopped_by_program, .. } = self;
        let Self { moved_after_stop, moved_after_reconnect, .. } = self;
        [
            clamped,
            refused,
            not_armed,
            before_stop,
            held,
            stopped_by_silence,
            stopped_by_program,
            moved_after_stop,
            moved_after_reconnect,
        ]
    }
}

/// Where the script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Describing,
    Resetting,
    Streaming,
    Observing,
    Closing,
}

/// What the robot's own program does.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Arm,
    Stop,
}

/// What the policy has decided.
struct Decided {
    action: Action,
    /// How often the robot had been stopped when the observation was made on which it was decided.
    stops: u32,
}

struct World {
    script: Script,
    pair: SessionPair,
    stage: Stage,
    open_requests: HashSet<RequestKey>,
    judge: Judge,
    actions: Actions,
    /// From 0.
    connection: u32,
    /// How many actions the policy has decided on this connection, and which.
    puts: u32,
    decided: HashMap<u32, Decided>,
    /// How often the robot was stopped on this connection, to be shown in its observations.
    stops: Arc<AtomicU32>,
    resets_left: u32,
    /// What the robot's own program does on this connection, and when.
    operations: VecDeque<(Instant, Operation)>,
    /// The link changes what it carries; and it, or one before it, did.
    corrupts: bool,
    has_corrupted: bool,
    applied: Vec<f32>,
    /// Of them, those of this connection.
    applied_here: u32,
    streamed: u64,
    policy_ended: Option<ConnectionError>,
    robot_ended: Option<ConnectionError>,
    seen: Seen,
}

/// Runs a session over a link to its end, and checks what must hold over any link.
///
/// Whatever the link does and the policy sends, the robot is told nothing that its [contract](Judge)
/// forbids.
pub(crate) fn run(script: Script, link: Link) -> Outcome {
    World::new(script, link).run()
}

fn corrupts(link: &Link) -> bool {
    [Side::Client, Side::Server].into_iter().any(|side| Faults::corrupts(link.faults(side)))
}

impl World {
    fn new(script: Script, link: Link) -> Self {
        let when_lost = if script.connections > 1 { WhenLost::FailCalls } else { WhenLost::End };
        let client =
            client::Config { stream_window: script.window, when_lost, ..client::Config::default() };
        let session = ws::Config {
            keepalive: Some(KEEPALIVE),
            close_timeout: CLOSE_TIMEOUT,
            ..ws::Config::default()
        };
        let corrupts = corrupts(&link);
        let pair = SessionPair::new(start(), client, Self::server(script), &session, link);
        let mut world = Self {
            script,
            pair,
            stage: Stage::Describing,
            open_requests: HashSet::new(),
            judge: Judge::new(script.contract),
            actions: Actions::new(script.contract, script.seed, script.forbidden),
            connection: 0,
            puts: 0,
            decided: HashMap::new(),
            stops: Arc::default(),
            resets_left: RESETS,
            operations: VecDeque::new(),
            corrupts,
            has_corrupted: corrupts,
            applied: Vec::new(),
            applied_here: 0,
            streamed: 0,
            policy_ended: None,
            robot_ended: None,
            seen: Seen::default(),
        };
        world.begin();
        world
    }

    fn server(script: Script) -> server::Config {
        server::Config {
            action_queue: script.queue,
            action_spec: script.contract.spec(),
            ..server::Config::default()
        }
    }

    /// Begins the script, on a connection that is made now.
    fn begin(&mut self) {
        self.judge.connected();
        self.operations = self.plan_operations();
        // A policy that sends what it must not does not know the contract.
        self.proceed(if self.script.forbidden == 0 { Stage::Describing } else { Stage::Resetting });
    }

    fn plan_operations(&self) -> VecDeque<(Instant, Operation)> {
        let mut draw = Draw::new(self.script.seed ^ u64::from(self.connection) << 16);
        let mut at = self.pair.now();
        let mut operations = VecDeque::new();
        if self.script.has_operator {
            for operation in [Operation::Arm, Operation::Stop, Operation::Arm, Operation::Stop] {
                at += Duration::from_millis(draw.below(500));
                operations.push_back((at, operation));
                if draw.happens(30) {
                    break;
                }
            }
        }
        operations
    }

    /// Connects the policy again, if its connection was lost and it is to have another one.
    fn connect_again(&mut self) -> bool {
        if !self.pair.is_over()
            || !self.pair.client.is_interrupted()
            || self.connection + 1 >= self.script.connections
        {
            return false;
        }
        assert!(self.open_requests.is_empty(), "unanswered: {:?}", self.open_requests);
        assert!(self.robot_ended.take().is_some(), "the robot is told of the end");
        let link = self.script.next_link(self.connection);
        self.corrupts = corrupts(&link);
        self.has_corrupted |= self.corrupts;
        self.connection += 1;
        (self.puts, self.applied_here, self.resets_left) = (0, 0, RESETS);
        self.decided.clear();
        self.stops = Arc::default();
        assert!(self.pair.reconnect(Self::server(self.script), link));
        self.begin();
        true
    }

    fn run(mut self) -> Outcome {
        loop {
            self.run_until(self.pair.now() + self.script.patience);
            if !self.connect_again() {
                break;
            }
        }
        self.close();
        self.run_until(self.pair.now() + PATIENCE);
        assert!(self.pair.is_over(), "a side has not hung up: {:?}", self.pair);
        assert!(self.open_requests.is_empty(), "unanswered: {:?}", self.open_requests);
        Outcome {
            policy_ended: self.policy_ended.expect("the policy is told of the end"),
            robot_ended: self.robot_ended.expect("the robot is told of the end"),
            applied: self.applied,
            streamed: self.streamed,
            bytes_sent: [Side::Client, Side::Server].map(|side| self.pair.link.bytes_sent(side)),
            seen: self.seen,
        }
    }

    /// Lets time pass, and everything happen that happens meanwhile.
    fn run_until(&mut self, end: Instant) {
        loop {
            let operation = self.operations.front().filter(|(at, _)| *at <= end).copied();
            let until = operation.map_or(end, |(at, _)| at);
            match (self.pair.next(until), operation) {
                (Some(happening), _) => self.handle(happening),
                (None, Some((_, operation))) => {
                    self.operations.pop_front();
                    self.operate(operation);
                }
                (None, None) => return,
            }
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Client(event) => self.policy_hears(event),
            Happening::Server(event) => self.robot_hears(event),
        }
    }

    // ---- the robot ----------------------------------------------------------------------------

    fn operate(&mut self, operation: Operation) {
        if self.robot_ended.is_some() {
            return;
        }
        let now = self.pair.now();
        match operation {
            Operation::Arm => {
                self.pair.server.arm(now);
                self.judge.arm();
            }
            Operation::Stop => {
                self.pair.server.stop_motion(now);
                self.judge.stop();
                self.stops.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn robot_hears(&mut self, event: server::Event) {
        assert_eq!(self.robot_ended, None, "nothing comes after the end: {event:?}");
        let now = self.pair.now();
        let server = &mut self.pair.server;
        let answered = match event {
            server::Event::Action(action) => return self.apply(&action),
            server::Event::Metadata(reply) => server.reply_metadata(reply, metadata(1)),
            server::Event::Reset(reply) => {
                self.judge.begin_reset();
                let result = ResetResult { observation: Observation::default(), info: Map::new() };
                let answered = server.reply_reset(reply, result);
                self.judge.finish_reset();
                answered
            }
            server::Event::Observe(reply) => {
                let (image, stops) = (self.script.image, Arc::clone(&self.stops));
                let late = move |_| observe(image, stops.load(Ordering::Relaxed));
                server.reply_observation(reply, Answer::when_sent(late))
            }
            // Only a corrupted message is one.
            server::Event::Step(action, reply) => {
                assert!(self.corrupts, "a step that nobody has sent: {action:?}");
                self.judge.step(&action);
                drop(reply);
                return;
            }
            server::Event::Watchdog { .. } => {
                self.seen.held += 1;
                return self.judge.hold();
            }
            server::Event::Stopped(StopReason::Requested) => {
                self.seen.stopped_by_program += 1;
                return;
            }
            server::Event::Stopped(_) => {
                self.seen.stopped_by_silence += 1;
                self.stops.fetch_add(1, Ordering::Relaxed);
                return self.judge.stop_for_silence(now);
            }
            server::Event::Disconnected(error) => {
                self.check_end(&error);
                self.judge.disconnected();
                return self.robot_ended = Some(error);
            }
            server::Event::ActionsDropped { count, reason } => {
                match reason {
                    DropReason::Refused(_) => self.seen.refused += count,
                    DropReason::NotArmed { .. } => self.seen.not_armed += count,
                    DropReason::BeforeStop => self.seen.before_stop += count,
                    _ => {}
                }
                return;
            }
            server::Event::ActionsClamped { count, .. } => {
                self.seen.clamped += count;
                return;
            }
            other => panic!("{other:?}"),
        };
        // It fails only when the connection has ended.
        assert!(answered.is_ok() || server.error().is_some());
    }

    /// The robot is told to apply an action.
    fn apply(&mut self, action: &Action) {
        self.judge.apply(action, Some(self.pair.now()));
        let number = action.to_f32()[0];
        self.applied_here += 1;
        assert!(self.applied_here <= self.puts, "more actions than were sent: {:?}", self.applied);
        if !self.corrupts {
            self.check_sent(action, number);
        }
        self.applied.push(number);
        self.seen.moved_after_stop += u64::from(self.stops.load(Ordering::Relaxed) > 0);
        self.seen.moved_after_reconnect += u64::from(self.connection > 0);
    }

    /// Checks that an action is one that was sent on this connection, and later than the one before.
    fn check_sent(&self, action: &Action, number: f32) {
        let decided = self.decided.get(&(number as u32));
        let decided = decided.unwrap_or_else(|| panic!("{number} was not sent on this connection"));
        let stops = self.stops.load(Ordering::Relaxed);
        assert_eq!(decided.stops, stops, "{number} was decided before the robot was stopped");
        if !action.clamped {
            assert_eq!(bits(&action.values), bits(&decided.action.values), "not what was sent");
        }
        let first = (self.connection * PER_CONNECTION) as f32;
        let before = self.applied.last().copied().filter(|before| *before >= first);
        if self.script.is_all_applied() {
            let expected = before.map_or(first, |before| before + 1.0);
            assert_eq!(number.to_bits(), expected.to_bits(), "not what was sent, in order");
        }
        assert!(before.is_none_or(|before| number > before), "not in order, or twice: {number}");
    }

    /// Checks why a connection has ended.
    fn check_end(&self, ended: &ConnectionError) {
        let is_misread = matches!(
            ended,
            ConnectionError::BadFrame(_)
                | ConnectionError::UnexpectedReply { .. }
                | ConnectionError::TransportViolation(_)
        );
        assert!(self.corrupts || !is_misread, "an intact stream was misread: {ended}");
    }

    // ---- the policy ---------------------------------------------------------------------------

    fn policy_hears(&mut self, event: client::Event) {
        assert_eq!(self.policy_ended, None, "nothing comes after the end: {event:?}");
        match event {
            client::Event::Metadata { id, .. } => {
                self.is_answered(id);
                self.proceed(Stage::Resetting);
            }
            client::Event::Reset { id, .. } => {
                self.is_answered(id);
                if self.stage == Stage::Resetting {
                    self.proceed(Stage::Streaming);
                }
            }
            client::Event::Streamed(observation) => {
                self.streamed += 1;
                if self.stage == Stage::Streaming {
                    self.act(&observation);
                }
            }
            client::Event::Observation { id, .. } => {
                self.is_answered(id);
                self.end();
            }
            client::Event::Failed { id, .. } => {
                self.is_answered(id);
                if !self.pair.client.is_interrupted() {
                    self.close();
                }
            }
            client::Event::StreamTimedOut(_) => self.close(),
            client::Event::Interrupted(error) => {
                self.check_end(&error);
                self.stage = Stage::Closing;
            }
            client::Event::Disconnected(error) => {
                self.check_end(&error);
                self.policy_ended = Some(error);
            }
            client::Event::Silent { .. }
            | client::Event::Resumed { .. }
            | client::Event::CameraStalled { .. }
            | client::Event::CameraResumed { .. }
            | client::Event::Reconnected { .. }
            | client::Event::ArmingChanged(_) => {}
            client::Event::ContractChanged { .. } => {
                assert!(self.has_corrupted, "the robot declares one contract");
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_answered(&mut self, id: impl Into<RequestKey>) {
        assert!(
            self.open_requests.remove(&id.into()),
            "an answer to what was not asked, or a second one"
        );
    }

    /// Decides what to do on an observation.
    fn act(&mut self, observation: &Observation) {
        let Script { actions, contract, .. } = self.script;
        let now = self.pair.now();
        let client = &mut self.pair.client;
        let queued = client.queued_actions() as u32;
        if self.puts == actions {
            if queued == 0 && self.streamed >= self.script.observations {
                self.proceed(Stage::Observing);
            }
            return;
        }
        let is_stopped =
            client.contract_status().is_some_and(|status| status.state == ArmingState::Stopped);
        if is_stopped && contract.arming == Arming::OnReset && self.resets_left > 0 {
            self.resets_left -= 1;
            self.open_requests.extend(client.request_reset(now, None).ok().map(RequestKey::from));
            return;
        }
        if queued > ROWS / 2 {
            return;
        }
        let first = self.connection * PER_CONNECTION + self.puts;
        let numbers = first..first + ROWS.min(actions - self.puts);
        let rows: Vec<Action> = numbers.clone().map(|number| self.actions.next(number)).collect();
        // It is refused when a reset lies between.
        if client.put_chunk(now, observation, rows.clone()).is_ok() {
            self.puts += rows.len() as u32;
            let stops = observation.timestamp as u32;
            let decided = rows.into_iter().map(|action| Decided { action, stops });
            self.decided.extend(numbers.zip(decided));
        }
    }

    /// Begins the next stage of the script.
    fn proceed(&mut self, stage: Stage) {
        if self.policy_ended.is_some() || self.pair.client.is_interrupted() {
            return;
        }
        self.stage = stage;
        let now = self.pair.now();
        let client = &mut self.pair.client;
        let id: Option<RequestKey> = match stage {
            Stage::Describing => client.request_metadata(now, None).ok().map(Into::into),
            Stage::Resetting => client.request_reset(now, None).ok().map(Into::into),
            Stage::Streaming => {
                let hz = |hz: u32| Rate::hz(hz).expect("it is a rate");
                let _ = client.start_obs_stream(now, hz(self.script.hz / 2));
                let _ = client.start_action_dispatch(now, hz(self.script.hz));
                None
            }
            Stage::Observing => {
                client.stop_obs_stream();
                client.stop_action_dispatch();
                client.request_observation(now, None).ok().map(Into::into)
            }
            Stage::Closing => None,
        };
        self.open_requests.extend(id);
    }

    /// Ends the session as the script says.
    fn end(&mut self) {
        let soon = self.pair.now() + Duration::from_secs(1);
        let server = &mut self.pair.server;
        match self.script.ending {
            Ending::PolicyCloses => return self.close(),
            Ending::ServerShutsDown => server.shut_down(soon),
            Ending::RobotFails => server.fail("joint 3"),
            Ending::TakenOver => server.hand_over(),
        }
        self.stage = Stage::Closing;
    }

    fn close(&mut self) {
        self.stage = Stage::Closing;
        self.pair.client.close(self.pair.now());
    }
}

/// An observation of a robot that was stopped so often.
fn observe(image: usize, stops: u32) -> Observation {
    let mut seen = observation(1);
    seen.timestamp = f64::from(stops);
    if image == 0 {
        seen.cameras.clear();
    } else {
        let image = Array::from_slice([image], &vec![7_u8; image]);
        seen.cameras[0].image = image.expect("the shape fits");
    }
    seen
}
