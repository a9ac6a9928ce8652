//! A whole server over streams in memory: policies connect, say anything, break off at any point
//! and let any time pass. The server does not panic, does not poll without end, answers an honest
//! policy, moves the robot for one policy at a time and never after `on_disconnect`, and everything
//! ends when its streams do or when it is shut down.
#![no_main]

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use arbitrary::Arbitrary;
use chiral_driver::proto::server::{ActionQueue, Answer, Config, DropReason};
use chiral_driver::{PolicyServer, Robot, RobotError, ServerConfig, Watchdog};
use chiral_fuzz::driver::peer::{Bend, Peer, PeerOp, REQUEST};
use chiral_fuzz::driver::runtime::{Executor, FuzzRuntime, TaskId, spawn};
use chiral_fuzz::driver::stream::{End, stream};
use chiral_fuzz::machines::{Kind, Time, action, metadata, number_of, queue_bytes};
use chiral_fuzz::motion::{Motion, contract};
use chiral_proto::keepalive::Keepalive;
use chiral_proto::sensors::Sensors;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{
    Action, ActionSpec, CameraConfig, ConnectionError, Map, ResetResult, StepResult, StopReason,
};

type Server = PolicyServer<FuzzRuntime>;

/// Connections of one input, at the most.
const CONNECTIONS: usize = 5;
/// Calls of `shutdown` that wait at once, at the most: each wakes all others.
const SHUTDOWNS: usize = 4;
/// How long everything may take to end: the longest is a handshake.
const END: Duration = Duration::from_secs(60);

#[derive(Debug, Arbitrary)]
struct Input {
    queue: Queue,
    pending: u8,
    watchdog: Option<Time>,
    keepalive: Option<[Time; 2]>,
    /// Whether the robot has threads, and how many the system has.
    threads: Option<u8>,
    last_woken_first: bool,
    image_side: u8,
    ops: Vec<Op>,
    finish: Finish,
    queue_bytes: u8,
    has_contract: bool,
}

#[derive(Debug, Arbitrary)]
enum Queue {
    Latest,
    MaxAge(Time),
    InOrder(u8),
}

#[derive(Debug, Arbitrary)]
enum Op {
    Connect,
    /// Connects and makes the handshake.
    Join,
    /// What the policy of a connection does, or the network for it.
    Peer(u8, PeerOp),
    Handshake(u8, Bend),
    Request(u8, Kind, Option<u8>),
    Action(u8, Option<u8>),
    Run,
    /// Runs, and looks whether everything that can be done is done.
    Check,
    Wait(Time),
    /// Whether the robot takes its time from now on.
    RobotWaits(bool),
    /// The robot's next command fails.
    RobotFails,
    /// Nobody serves this connection any more.
    Cancel(u8),
    ShutDown,
    Stop,
}

/// How the input ends.
#[derive(Debug, Arbitrary)]
enum Finish {
    /// The policies go.
    End(End),
    /// The policies stay, and read no more; the server is shut down.
    ShutDown,
    /// The same, but at once.
    Stop,
    /// All handles are dropped, and all policies go.
    Drop,
}

/// What a robot is to do, and has done, beside moving.
#[derive(Default)]
struct Work {
    waits: bool,
    waiting: Vec<Waker>,
    fails: bool,
    has_failed: bool,
}

struct Arm {
    sensors: Sensors,
    motion: Motion,
    work: Mutex<Work>,
}

impl Arm {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().expect("no panic is survived")
    }

    /// Waits as long as the robot is told to, and then fails or not.
    async fn work(&self) -> Result<(), RobotError> {
        poll_fn(|cx| {
            let mut work = self.lock();
            if work.waits {
                work.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let mut work = self.lock();
        if std::mem::take(&mut work.fails) {
            work.has_failed = true;
            return Err("the input says so".into());
        }
        Ok(())
    }
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn on_connect(&self) {
        self.motion.connect();
        let _ = self.work().await;
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let _moving = self.motion.begin_commanded();
        self.motion.apply(number_of(&action));
        self.work().await
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        self.motion.ask();
        self.work().await?;
        Ok(metadata(1))
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        let _moving = self.motion.begin();
        self.work().await?;
        self.motion.arm();
        Ok(ResetResult { observation: self.sensors.snapshot_now(), ..ResetResult::default() })
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        self.motion.ask();
        self.work().await?;
        Ok(Answer::from(&self.sensors))
    }

    async fn step(&self, _: Action) -> Result<StepResult, RobotError> {
        let _moving = self.motion.begin_commanded();
        self.work().await?;
        Ok(StepResult { observation: self.sensors.snapshot_now(), ..StepResult::default() })
    }

    async fn on_watchdog(&self, _: Duration) {
        let _moving = self.motion.begin();
        let _ = self.work().await;
    }

    async fn on_stop(&self, _: &StopReason) {
        let _moving = self.motion.begin();
        let _ = self.work().await;
        self.motion.stop();
    }

    async fn on_disconnect(&self, _: &ConnectionError) {
        let moving = self.motion.begin();
        let _ = self.work().await;
        drop(moving);
        self.motion.disconnect();
    }

    async fn on_actions_dropped(&self, count: u64, _: &DropReason) {
        self.motion.note_dropped(count);
    }
}

struct Connection {
    peer: Peer,
    task: TaskId,
    is_cancelled: bool,
    requests: Vec<Kind>,
}

struct World {
    server: Option<Server>,
    robot: Arc<Arm>,
    connections: Vec<Connection>,
    actions: u32,
    /// The server was shut down, or shutting down has begun.
    is_shut_down: bool,
    shutdowns: usize,
    executor: Executor,
}

impl World {
    fn new(input: &Input) -> Self {
        let executor = Executor::start(input.last_woken_first, input.threads.unwrap_or_default());
        let machine = Config {
            pending_replies: input.pending.into(),
            action_queue: match input.queue {
                Queue::Latest => ActionQueue::Latest,
                Queue::MaxAge(time) => ActionQueue::MaxAge(time.into()),
                Queue::InOrder(capacity) => ActionQueue::InOrder { capacity: capacity.into() },
            },
            queue_bytes: queue_bytes(input.queue_bytes),
            action_spec: if input.has_contract { contract() } else { ActionSpec::any() },
            limits: Limits { frame_len: 1 << 20, ..Limits::default() },
            ..Config::default()
        };
        let config = ServerConfig {
            machine,
            watchdog: input.watchdog.map_or(Watchdog::Off, |time| Watchdog::After(time.into())),
            keepalive: input.keepalive.map(|[interval, timeout]| Keepalive {
                interval: interval.into(),
                timeout: timeout.into(),
            }),
            robot_threads: input.threads.is_some(),
            ..ServerConfig::default()
        };
        let side = usize::from(input.image_side % 64).max(1);
        let camera = CameraConfig::new("camera", [side, side, 3]);
        let sensors = Sensors::new([camera], []).expect("one camera");
        let robot =
            Arm { sensors, motion: Motion::new(input.has_contract), work: Mutex::default() };
        Self {
            server: Some(Server::unbound(config)),
            robot: Arc::new(robot),
            connections: Vec::new(),
            actions: 0,
            is_shut_down: false,
            shutdowns: 0,
            executor,
        }
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Connect => self.connect(),
            Op::Join => {
                self.connect();
                if let Some(connection) = self.connections.last_mut() {
                    connection.peer.remote.send(REQUEST);
                }
            }
            Op::Peer(index, op) => {
                if let Some(connection) = self.connection(index) {
                    connection.peer.does(op, |kind| kind.request(0).encode());
                }
            }
            Op::Handshake(index, bend) => {
                if let Some(connection) = self.connection(index) {
                    let mut request = REQUEST.to_vec();
                    bend.apply(&mut request);
                    connection.peer.is_honest = false;
                    connection.peer.remote.send(&request);
                }
            }
            Op::Request(index, kind, cut) => {
                self.actions += u32::from(kind == Kind::Step);
                let message = kind.request(self.actions).encode();
                if let Some(connection) = self.connection(index) {
                    connection.peer.send_message(&message.to_bytes(), cut);
                    connection.requests.push(kind);
                }
            }
            Op::Action(index, cut) => {
                self.actions += 1;
                let message = ClientMessage::ApplyAction(action(self.actions)).encode();
                if let Some(connection) = self.connection(index) {
                    connection.peer.send_message(&message.to_bytes(), cut);
                }
            }
            Op::Run => self.executor.run(),
            Op::Check => self.check(),
            Op::Wait(time) => self.executor.wait(time.into()),
            Op::RobotWaits(waits) => self.robot_waits(waits),
            Op::RobotFails => self.robot.lock().fails = true,
            Op::Cancel(index) => {
                if let Some(connection) = self.connection(index) {
                    connection.is_cancelled = true;
                    let task = connection.task;
                    self.executor.cancel(task);
                }
            }
            Op::ShutDown => self.shut_down(),
            Op::Stop => {
                self.is_shut_down = true;
                self.server().stop();
            }
        }
    }

    fn server(&self) -> Server {
        self.server.clone().expect("it is dropped last")
    }

    fn connection(&mut self, index: u8) -> Option<&mut Connection> {
        let count = self.connections.len().max(1);
        self.connections.get_mut(usize::from(index) % count)
    }

    fn connect(&mut self) {
        if self.connections.len() == CONNECTIONS {
            return;
        }
        let (stream, remote) = stream();
        let server = self.server();
        let robot = Arc::clone(&self.robot);
        let task = spawn("serve_stream", async move {
            let _ = server.serve_stream(stream, "a peer:1", robot).await;
        });
        let peer = Peer::new(remote, true);
        let requests = Vec::new();
        self.connections.push(Connection { peer, task, is_cancelled: false, requests });
    }

    fn robot_waits(&mut self, waits: bool) {
        let mut work = self.robot.lock();
        work.waits = waits;
        if !waits {
            let waiting = std::mem::take(&mut work.waiting);
            drop(work);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn shut_down(&mut self) {
        self.is_shut_down = true;
        if self.shutdowns == SHUTDOWNS {
            return;
        }
        self.shutdowns += 1;
        let server = self.server();
        spawn("shutdown", async move { server.shutdown().await });
    }

    /// Every request of an honest policy is answered, as far as nothing but the driver keeps it
    /// from that.
    fn check(&mut self) {
        self.executor.run();
        let work = self.robot.lock();
        if self.is_shut_down || work.waits || work.has_failed {
            return;
        }
        drop(work);
        for connection in &self.connections {
            let written = connection.read();
            let Connection { peer, requests, is_cancelled, .. } = connection;
            if peer.is_honest
                && peer.has_room
                && !is_cancelled
                && peer.remote.is_open()
                && written.is_open
                && !written.is_closed
            {
                assert!(peer.remote.is_read(), "what an honest policy sent is not read");
                assert_eq!(written.messages.len(), requests.len(), "requests without an answer");
            }
        }
        // Of several policies, one may have to wait with actions that were numbered earlier.
        if let [only] = &self.connections[..]
            && only.peer.is_honest
        {
            self.robot.motion.check_order();
        }
    }

    fn finish(mut self, finish: Finish) {
        self.robot_waits(false);
        let (server, robot) = (self.server(), Arc::clone(&self.robot));
        match finish {
            Finish::End(end) => {
                for Connection { peer, .. } in &self.connections {
                    peer.remote.end_reads(end);
                    peer.remote.set_room(usize::MAX);
                }
            }
            Finish::ShutDown => self.shut_down(),
            Finish::Stop => server.stop(),
            Finish::Drop => {
                for Connection { peer, task, .. } in &self.connections {
                    peer.remote.end_reads(End::Eof);
                    self.executor.cancel(*task);
                }
            }
        }
        drop((server, self.server.take()));
        self.executor.finish(END);
        let is_honest = self.connections.iter().all(|connection| connection.peer.is_honest);
        robot.motion.check_end(is_honest.then_some(self.actions));
        for connection in &self.connections {
            assert!(connection.peer.remote.is_dropped(), "a stream outlives its connection");
            connection.read();
        }
    }
}

impl Connection {
    /// Reads what the server wrote: replies, to the requests in their order.
    fn read(&self) -> chiral_fuzz::driver::peer::Written {
        let written = self.peer.read();
        let limits = Limits::default();
        let mut requests = self.requests.iter();
        for message in &written.messages {
            let frame = Frame::parse(message.clone().into(), &limits).expect("a frame");
            let reply = ServerMessage::decode(&frame, &limits).expect("a message");
            let kind = match reply {
                ServerMessage::Metadata(_) => Kind::Metadata,
                ServerMessage::Reset(_) => Kind::Reset,
                ServerMessage::Observation(_) => Kind::Observe,
                ServerMessage::Step(_) => Kind::Step,
                other => panic!("a {} is not known here", other.message_type()),
            };
            assert!(
                !self.peer.is_honest || requests.next() == Some(&kind),
                "a reply to what was not asked"
            );
        }
        written
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for op in input.ops {
        world.does(op);
    }
    world.finish(input.finish);
});
