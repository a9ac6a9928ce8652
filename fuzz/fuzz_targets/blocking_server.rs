//! A whole server of `chiral-blocking`, with its threads, over streams in memory: policies connect,
//! say anything and break off at any point, and the streams move a few bytes at a time, block, fail
//! and time out. No thread panics or outlives the server, an honest policy is answered, and the
//! robot is moved for one policy at a time and never after `on_disconnect`.
//!
//! The threads run as the system has them run, so an input may find something on one run only.
#![no_main]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use chiral_blocking::{PolicyServer, Robot, RobotError, ServerConfig, Stream};
use chiral_driver::proto::server::{ActionQueue, Config, DropReason};
use chiral_fuzz::driver::peer::{BINARY, Bend, REQUEST, Written, frame, read_written};
use chiral_fuzz::machines::{Hostile, Kind, action, metadata, number_of, queue_bytes};
use chiral_fuzz::motion::{Motion, contract};
use chiral_proto::sensors::Sensors;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{
    Action, ActionSpec, CameraConfig, ConnectionError, Map, ResetResult, StepResult, StopReason,
};

/// Connections of one input, at the most.
const CONNECTIONS: usize = 3;
/// How long an honest policy waits for its answers on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often it looks for them.
const LOOK: Duration = Duration::from_micros(300);

#[derive(Debug, Arbitrary)]
struct Input {
    pending: u8,
    image_side: u8,
    ops: Vec<Op>,
    finish: Finish,
    queue_bytes: u8,
    /// How many actions may wait, if none is to be dropped.
    keeps: Option<u8>,
    has_contract: bool,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Connect(Pace),
    /// Connects and makes the handshake.
    Join(Pace),
    Handshake(u8, Bend),
    Request(u8, Kind),
    Action(u8),
    Hostile(u8, Hostile),
    Bytes(u8, Vec<u8>),
    End(u8, End),
    /// Waits until an honest policy has all its answers.
    Check,
    Stop,
}

/// How the server's calls on a stream go.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Pace {
    /// How much a read and a write move at the most.
    read: u8,
    write: u8,
    /// Every so many calls one is interrupted, or finds nothing to do at once.
    interrupts: Option<u8>,
    /// Whether a write that is not to block is possible.
    tries: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum End {
    /// The peer has hung up.
    Eof,
    /// Reads fail.
    Reset,
    /// Writes fail.
    BrokenPipe,
}

#[derive(Debug, Arbitrary)]
enum Finish {
    /// The policies go.
    Leave,
    /// The server is shut down while they stay, and they take note of it.
    ShutDown,
}

#[derive(Default)]
struct Pipe {
    inbound: VecDeque<u8>,
    outbound: Vec<u8>,
    end: Option<End>,
    calls: u32,
    reads_are_shut: bool,
    writes_are_shut: bool,
    is_dropped: bool,
    /// How long a read and a write may block.
    timeouts: [Option<Duration>; 2],
}

/// A stream whose calls block, and the target's end of it.
#[derive(Clone)]
struct Link {
    pipe: Arc<(Mutex<Pipe>, Condvar)>,
    pace: Pace,
}

/// The server's end.
struct ServerEnd(Link);

impl Link {
    fn new(pace: Pace) -> Self {
        Self { pipe: Arc::default(), pace }
    }

    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.0.lock().expect("no panic is survived")
    }

    fn change<T>(&self, with: impl FnOnce(&mut Pipe) -> T) -> T {
        let changed = with(&mut self.pipe());
        self.pipe.1.notify_all();
        changed
    }

    fn send(&self, bytes: &[u8]) {
        self.change(|pipe| pipe.inbound.extend(bytes));
    }

    fn end(&self, end: End) {
        self.change(|pipe| {
            pipe.end.get_or_insert(end);
        });
    }

    fn written(&self) -> Written {
        let bytes = self.pipe().outbound.clone();
        read_written(bytes, false)
    }

    /// Waits until the server has written what `is_enough`, or has hung up; `false` after the
    /// patience.
    fn wait_for(&self, is_enough: impl Fn(&Written) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !is_enough(&self.written()) && !self.is_over() {
            if deadline <= Instant::now() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    fn is_over(&self) -> bool {
        let pipe = self.pipe();
        pipe.writes_are_shut || pipe.is_dropped
    }

    /// Whether a call is to come back without having moved anything.
    fn interruption(&self, pipe: &mut Pipe, timeout: Option<Duration>) -> io::Result<()> {
        pipe.calls += 1;
        let Some(every) = self.pace.interrupts else { return Ok(()) };
        match pipe.calls % (u32::from(every) + 3) {
            0 => Err(io::ErrorKind::Interrupted.into()),
            1 if timeout.is_some() => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl Stream for ServerEnd {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read without room");
        let mut pipe = self.0.pipe();
        let [timeout, _] = pipe.timeouts;
        self.0.interruption(&mut pipe, timeout)?;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if pipe.reads_are_shut {
                return Ok(0);
            }
            if !pipe.inbound.is_empty() {
                let step = usize::from(self.0.pace.read).max(1);
                let count = buffer.len().min(step).min(pipe.inbound.len());
                for (to, from) in buffer.iter_mut().zip(pipe.inbound.drain(..count)) {
                    *to = from;
                }
                return Ok(count);
            }
            match pipe.end {
                Some(End::Eof) => return Ok(0),
                Some(End::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
                Some(End::BrokenPipe) | None => {}
            }
            let condition = &self.0.pipe.1;
            pipe = match deadline {
                None => condition.wait(pipe).expect("no panic is survived"),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    condition.wait_timeout(pipe, left).expect("no panic is survived").0
                }
            };
        }
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.iter().any(|slice| !slice.is_empty()), "a write of nothing");
        self.0.change(|pipe| {
            if pipe.writes_are_shut || pipe.end.is_some() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let [_, timeout] = pipe.timeouts;
            self.0.interruption(pipe, timeout)?;
            let step = usize::from(self.0.pace.write).max(1);
            let bytes = slices.iter().flat_map(|slice| slice.iter()).take(step);
            let before = pipe.outbound.len();
            pipe.outbound.extend(bytes);
            Ok(pipe.outbound.len() - before)
        })
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.pace.tries { self.write(slices) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn shutdown(&self, how: Shutdown) {
        self.0.change(|pipe| {
            pipe.reads_are_shut |= how != Shutdown::Write;
            pipe.writes_are_shut |= how != Shutdown::Read;
        });
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.0.pipe().timeouts = [read, write];
        Ok(())
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.0.change(|pipe| pipe.is_dropped = true);
    }
}

struct Arm {
    sensors: Sensors,
    motion: Motion,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn on_connect(&self) {
        self.motion.connect();
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let _moving = self.motion.begin_commanded();
        self.motion.apply(number_of(&action));
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        // It may have been asked for just before the end, of which another thread tells.
        Ok(metadata(1))
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        let _moving = self.motion.begin();
        self.motion.arm();
        Ok(ResetResult { observation: self.sensors.snapshot_now(), ..ResetResult::default() })
    }

    fn step(&self, _: Action) -> Result<StepResult, RobotError> {
        let _moving = self.motion.begin_commanded();
        Ok(StepResult { observation: self.sensors.snapshot_now(), ..StepResult::default() })
    }

    fn on_stop(&self, _: &StopReason) {
        let _moving = self.motion.begin();
        self.motion.stop();
    }

    fn on_disconnect(&self, _: &ConnectionError) {
        drop(self.motion.begin());
        self.motion.disconnect();
    }

    fn on_actions_dropped(&self, count: u64, _: &DropReason) {
        self.motion.note_dropped(count);
    }
}

struct Connection {
    link: Link,
    serving: JoinHandle<()>,
    requests: Vec<Kind>,
    /// Everything that was sent is what a correct policy sends.
    is_honest: bool,
}

struct World {
    /// How many requests of a policy may wait.
    pending: usize,
    /// Whether every step is taken: there is room for it, and no contract that it may break.
    takes_steps: bool,
    server: PolicyServer,
    robot: Arc<Arm>,
    connections: Vec<Connection>,
    actions: u32,
    is_stopped: bool,
}

impl World {
    fn new(input: &Input) -> Self {
        let pending = usize::from(input.pending).max(1);
        let machine = Config {
            pending_replies: pending,
            queue_bytes: queue_bytes(input.queue_bytes),
            action_spec: if input.has_contract { contract() } else { ActionSpec::any() },
            action_queue: match input.keeps {
                Some(capacity) => ActionQueue::InOrder { capacity: capacity.into() },
                None => ActionQueue::Latest,
            },
            limits: Limits { frame_len: 1 << 20, ..Limits::default() },
            ..Config::default()
        };
        let config = ServerConfig { machine, ..ServerConfig::default() };
        let side = usize::from(input.image_side % 16).max(1);
        let camera = CameraConfig::new("camera", [side, side, 3]);
        let sensors = Sensors::new([camera], []).expect("one camera");
        let robot = Arc::new(Arm { sensors, motion: Motion::new(input.has_contract) });
        let server = PolicyServer::unbound(config);
        Self {
            pending,
            takes_steps: input.queue_bytes == 0 && !input.has_contract,
            server,
            robot,
            connections: Vec::new(),
            actions: 0,
            is_stopped: false,
        }
    }

    fn connect(&mut self, pace: Pace, is_honest: bool) {
        if self.connections.len() == CONNECTIONS {
            return;
        }
        let link = Link::new(pace);
        let (stream, server, robot) =
            (ServerEnd(link.clone()), self.server.clone(), Arc::clone(&self.robot));
        let serving = thread::spawn(move || drop(server.serve_stream(stream, "a peer:1", robot)));
        let requests = Vec::new();
        if is_honest {
            link.send(REQUEST);
        }
        self.connections.push(Connection { link, serving, requests, is_honest });
    }

    fn connection(&mut self, index: u8) -> Option<&mut Connection> {
        let count = self.connections.len().max(1);
        self.connections.get_mut(usize::from(index) % count)
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Connect(pace) => self.connect(pace, false),
            Op::Join(pace) => self.connect(pace, true),
            Op::Handshake(index, bend) => {
                let mut request = REQUEST.to_vec();
                bend.apply(&mut request);
                self.dishonest(index, &request);
            }
            Op::Request(index, kind) => {
                self.actions += u32::from(kind == Kind::Step);
                let message = kind.request(self.actions).encode().to_bytes();
                let (pending, takes_steps) = (self.pending, self.takes_steps);
                if let Some(connection) = self.connection(index) {
                    // One more than may wait ends the connection, and so may a step.
                    let answered = connection.link.written().messages.len();
                    connection.is_honest &= connection.requests.len() < answered + pending;
                    connection.is_honest &= kind != Kind::Step || takes_steps;
                    connection.link.send(&frame(BINARY, &message, true));
                    connection.requests.push(kind);
                }
            }
            Op::Action(index) => {
                self.actions += 1;
                let message = ClientMessage::ApplyAction(action(self.actions)).encode().to_bytes();
                if let Some(connection) = self.connection(index) {
                    connection.link.send(&frame(BINARY, &message, true));
                }
            }
            Op::Hostile(index, hostile) => {
                let message = hostile.message(|kind| kind.request(0).encode());
                self.dishonest(index, &frame(BINARY, &message, true));
            }
            Op::Bytes(index, bytes) => self.dishonest(index, &bytes),
            Op::End(index, end) => {
                if let Some(connection) = self.connection(index) {
                    connection.is_honest = false;
                    connection.link.end(end);
                }
            }
            Op::Check => self.check(),
            Op::Stop => {
                self.is_stopped = true;
                self.server.stop();
            }
        }
    }

    fn dishonest(&mut self, index: u8, bytes: &[u8]) {
        if let Some(connection) = self.connection(index) {
            connection.is_honest = false;
            connection.link.send(bytes);
        }
    }

    /// A policy that is alone and honest has all its answers in the end.
    fn check(&mut self) {
        let [only] = &self.connections[..] else { return };
        if !only.is_honest || self.is_stopped || only.requests.is_empty() {
            return;
        }
        let is_answered = |written: &Written| written.messages.len() == only.requests.len();
        assert!(only.link.wait_for(is_answered), "requests without an answer");
        assert!(is_answered(&only.link.written()), "the server hung up on an honest policy");
        self.robot.motion.check_order();
    }

    fn finish(self, finish: Finish) {
        let Self { server, robot, connections, actions, .. } = self;
        let is_honest = connections.iter().all(|connection| connection.is_honest);
        if matches!(finish, Finish::ShutDown) {
            server.stop();
        }
        for connection in &connections {
            // Also where writes fail already and reads still wait.
            connection.link.change(|pipe| pipe.end = Some(End::Eof));
        }
        let mut streams = Vec::new();
        for connection in connections {
            connection.serving.join().expect("it does not panic");
            streams.push((connection.link, connection.requests, connection.is_honest));
        }
        // The last handle waits for the threads.
        drop(server);
        robot.motion.check_end(is_honest.then_some(actions));
        assert_eq!(Arc::strong_count(&robot), 1, "something outlives the server");
        for (link, requests, is_honest) in streams {
            assert!(link.pipe().is_dropped, "a stream outlives its connection");
            check_replies(&link.written(), &requests, is_honest);
        }
    }
}

/// What the server wrote are replies, to the requests in their order.
fn check_replies(written: &Written, requests: &[Kind], is_honest: bool) {
    let limits = Limits::default();
    let mut requests = requests.iter();
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
        assert!(!is_honest || requests.next() == Some(&kind), "a reply to what was not asked");
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for op in input.ops {
        world.does(op);
    }
    world.finish(input.finish);
});
