//! A whole client over a stream in memory: the application makes any calls, the robot answers or
//! says anything, the stream breaks off at any point, and any time passes. The client does not
//! panic, does not poll without end, hands each answer to the call it belongs to, and everything
//! ends when the stream does or when the client is closed.
#![no_main]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::Arbitrary;
use chiral_driver::PolicyClient;
use chiral_driver::proto::client::{Config, NotQueued};
use chiral_fuzz::driver::peer::{Bend, Peer, PeerOp, Written, response_to};
use chiral_fuzz::driver::policy::Said;
use chiral_fuzz::driver::runtime::{Executor, FuzzRuntime, TaskId, spawn};
use chiral_fuzz::driver::stream::{End, stream};
use chiral_fuzz::machines::{Kind, Time, action, hz, observation};
use chiral_proto::Action;
use chiral_proto::keepalive::Keepalive;
use chiral_proto::wire::Limits;

type Client = PolicyClient<FuzzRuntime>;

/// How long everything may take to end: the longest is a handshake.
const END: Duration = Duration::from_secs(60);

#[derive(Debug, Arbitrary)]
struct Input {
    window: u8,
    pending: u8,
    capacity: u8,
    max_age: Option<Time>,
    request_timeout: Option<Time>,
    motion_timeout: Option<Time>,
    silence: Option<Time>,
    keepalive: Option<[Time; 2]>,
    last_woken_first: bool,
    /// Whether the handshake is made before anything else.
    joins: bool,
    ops: Vec<Op>,
    finish: Finish,
}

#[derive(Debug, Arbitrary)]
enum Op {
    /// What the robot does, or the network for it.
    Peer(PeerOp),
    /// The robot answers the handshake.
    Accept(Option<Bend>),
    /// The robot answers the oldest request, in two frames if it is cut.
    Answer(Option<u8>),
    /// The robot answers all requests.
    AnswerAll,
    /// The robot sends what was not asked for.
    Unasked(Kind),
    Request(Kind),
    NextObservation,
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
    /// The robot goes.
    End(End),
    /// The robot stays, and reads no more; the client is closed.
    Close,
    /// The handle and all calls are dropped.
    Drop,
}

/// What the application is seen to get.
#[derive(Default)]
struct Seen {
    client: Option<Client>,
    /// Requests that wait for their answer.
    waiting: usize,
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

struct World {
    seen: Arc<Mutex<Seen>>,
    peer: Peer,
    connecting: TaskId,
    calls: Vec<TaskId>,
    /// The requests that were read, how many were answered, and how many answers were sent.
    asked: Vec<Kind>,
    answered: usize,
    answers: u32,
    /// How many actions were queued.
    actions: u32,
    executor: Executor,
}

impl World {
    fn new(input: &Input) -> Self {
        let executor = Executor::start(input.last_woken_first, 0);
        let config = Config {
            stream_window: input.window.into(),
            pending_requests: input.pending.into(),
            queue_capacity: input.capacity.into(),
            max_age: input.max_age.map(Duration::from),
            limits: Limits { frame_len: 1 << 20, ..Limits::default() },
            request_timeout: input.request_timeout.map(Duration::from),
            motion_timeout: input.motion_timeout.map(Duration::from),
            silence: input.silence.map(Duration::from),
            ..Config::default()
        };
        let keepalive = input.keepalive.map(|[interval, timeout]| Keepalive {
            interval: interval.into(),
            timeout: timeout.into(),
        });
        let (stream, remote) = stream();
        let seen = Arc::<Mutex<Seen>>::default();
        let told = Arc::clone(&seen);
        let connecting = spawn("over_stream", async move {
            let builder = Client::builder().config(config).keepalive(keepalive);
            let client = builder.over_stream(stream).await;
            lock(&told).client = client.ok();
        });
        let peer = Peer::new(remote, false);
        let mut world = Self {
            seen,
            peer,
            connecting,
            calls: Vec::new(),
            asked: Vec::new(),
            answered: 0,
            answers: 0,
            actions: 0,
            executor,
        };
        if input.joins {
            world.executor.run();
            world.accepts(None);
            world.executor.run();
        }
        world
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Peer(op) => self.peer.does(op, |kind| kind.answer(0).encode()),
            Op::Accept(bend) => self.accepts(bend),
            Op::Answer(cut) => drop(self.answers(cut)),
            Op::AnswerAll => while self.answers(None) {},
            Op::Unasked(kind) => {
                self.peer.is_honest = false;
                self.sends_answer(kind, None);
            }
            Op::Request(kind) => self.requests(kind),
            Op::NextObservation => {
                if let Some(client) = self.client() {
                    let next = async move { drop(client.next_obs().await) };
                    self.calls.push(spawn("next_obs", next));
                }
            }
            Op::GiveUp(index) => {
                if !self.calls.is_empty() {
                    let call = self.calls.swap_remove(usize::from(index) % self.calls.len());
                    self.executor.cancel(call);
                }
            }
            Op::Stream(rate) => self.calls_client(|client| match rate {
                None => client.stop_obs_stream(),
                Some(rate) => drop(client.start_obs_stream(hz(rate))),
            }),
            Op::Dispatch(rate) => self.calls_client(|client| match rate {
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
            Op::Clear => self.calls_client(|client| {
                client.clear_actions();
            }),
            Op::Run => self.executor.run(),
            Op::Check => self.check(),
            Op::Wait(time) => self.executor.wait(time.into()),
            Op::Close => {
                match self.client() {
                    Some(client) => {
                        spawn("close", client.close());
                    }
                    // Without a handle, only the calls keep the connection open.
                    None => self.give_up_calls(),
                }
            }
            Op::Drop => self.drop_client(),
        }
    }

    fn client(&self) -> Option<Client> {
        lock(&self.seen).client.clone()
    }

    fn calls_client(&self, call: impl FnOnce(&Client)) {
        if let Some(client) = self.client() {
            call(&client);
        }
    }

    fn drop_client(&mut self) {
        let client = lock(&self.seen).client.take();
        drop(client);
    }

    fn puts(&mut self, count: u8, put: impl FnOnce(&Client, Vec<Action>) -> Result<(), NotQueued>) {
        let Some(client) = self.client() else { return };
        let plan = (self.actions..).take(count.into()).map(action).collect();
        if put(&client, plan).is_ok() {
            self.actions += u32::from(count);
        }
    }

    fn accepts(&mut self, bend: Option<Bend>) {
        let request = self.peer.read().head;
        if !request.ends_with(b"\r\n\r\n") {
            return;
        }
        let mut response = response_to(&request);
        if let Some(bend) = bend {
            bend.apply(&mut response);
            self.peer.is_honest = false;
        }
        self.peer.remote.send(&response);
    }

    fn requests(&mut self, kind: Kind) {
        let Some(client) = self.client() else { return };
        let seen = Arc::clone(&self.seen);
        let answers = async move {
            let waiting = Waiting::new(&seen);
            let answer = match kind {
                Kind::Metadata => client.metadata().await.map(drop),
                Kind::Reset => client.reset().await.map(drop),
                Kind::Observe => client.observe().await.map(drop),
                Kind::Step => client.step(action(0)).await.map(drop),
            };
            drop((answer, waiting));
        };
        self.calls.push(spawn("a request", answers));
    }

    fn answers(&mut self, cut: Option<u8>) -> bool {
        // Reading takes as long as there is to read: only when nothing known is left to answer.
        if self.asked.len() <= self.answered {
            self.asked = requests(&self.peer.read());
        }
        let Some(kind) = self.asked.get(self.answered).copied() else { return false };
        self.answered += 1;
        self.sends_answer(kind, cut);
        true
    }

    fn sends_answer(&mut self, kind: Kind, cut: Option<u8>) {
        let message = kind.answer(self.answers).encode().to_bytes();
        self.answers += 1;
        self.peer.send_message(&message, cut);
    }

    /// Every call that the robot has answered has returned, and every request was sent, as far as
    /// nothing but the driver keeps it from that.
    fn check(&mut self) {
        self.executor.run();
        let seen = lock(&self.seen);
        let is_alive = seen.client.as_ref().is_some_and(|client| client.error().is_none());
        let waiting = seen.waiting;
        drop(seen);
        let written = self.peer.read();
        let Peer { remote, is_honest, has_room, .. } = &self.peer;
        if is_alive && *is_honest && *has_room && remote.is_open() && !written.is_closed {
            assert!(remote.is_read(), "what an honest robot sent is not read");
            let unanswered = requests(&written).len() - self.answered;
            assert!(waiting <= unanswered, "{waiting} calls wait for {unanswered} answers");
        }
    }

    fn give_up_calls(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().for_each(|call| self.executor.cancel(call));
    }

    fn finish(mut self, finish: Finish) {
        match finish {
            Finish::End(end) => {
                self.peer.remote.end_reads(end);
                self.peer.remote.set_room(usize::MAX);
            }
            Finish::Close => {
                self.peer.remote.set_room(0);
                self.executor.run();
                match self.client() {
                    Some(client) => {
                        spawn("close", client.close());
                    }
                    // Without a handle, only the calls keep the connection open.
                    None => self.give_up_calls(),
                }
            }
            Finish::Drop => {
                self.executor.cancel(self.connecting);
                self.give_up_calls();
                self.drop_client();
            }
        }
        self.executor.wait(END);
        // One that was connected only now is closed with its last handle.
        self.drop_client();
        self.executor.finish(END);
        assert!(self.peer.remote.is_dropped(), "a stream outlives its connection");
        requests(&self.peer.read());
    }
}

/// Reads what the client wrote: the requests in their order; no action is written twice.
fn requests(written: &Written) -> Vec<Kind> {
    let said = Said::read(written);
    let mut actions = HashSet::new();
    for action in said.actions {
        assert!(actions.insert(action), "an action was written twice");
    }
    said.requests
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for op in input.ops {
        world.does(op);
    }
    world.finish(input.finish);
});
