//! Both of the core's state machines over Zenoh, each in the thread that drives it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::{self, Client};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{self, Server};
use chiral_proto::wire::Frame;
use chiral_proto::ws::CloseCode;
use chiral_proto::{
    Action, ActionSpec, CameraConfig, ConnectionError, Machine, Map, Observation, ResetResult,
    StepResult,
};
use chiral_zenoh::driver::{Message, Transport};
use chiral_zenoh::{Config, Listener, ZenohTransport};

/// Timeout for what takes no time on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a transport's or listener's poll, for a while.
pub(crate) fn wait_for<T>(
    timeout: Duration,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let until = Instant::now() + timeout;
    loop {
        if let Poll::Ready(done) = poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        let left = until.checked_duration_since(Instant::now())?;
        std::thread::park_timeout(left);
    }
}

/// The message in one buffer.
pub(crate) fn bytes_of(message: Message) -> Bytes {
    match message {
        Message::Whole(bytes) => bytes,
        Message::Segments(segments) => segments.concat().into(),
        other => panic!("{other:?}"),
    }
}

/// Waits for the next message.
#[track_caller]
pub(crate) fn receive(transport: &mut ZenohTransport) -> Result<Bytes, ConnectionError> {
    let received = wait_for(SOON, |cx| transport.poll_receive(cx, Instant::now()));
    let message = received.expect("something comes soon")?;
    Ok(bytes_of(message.expect("it is whole")))
}

/// Sends a frame, and waits until Zenoh has it. `false` when the connection has ended.
#[track_caller]
pub(crate) fn send(transport: &mut ZenohTransport, frame: Frame) -> bool {
    if transport.wants_frame() {
        transport.send(frame);
    }
    let written = wait_for(SOON, |cx| transport.poll_write(cx, Instant::now()));
    written.expect("it is written soon") == Ok(true)
}

/// Moves messages and time between a machine and a transport until `done` is so.
#[track_caller]
pub(crate) fn drive<M: Machine, T>(
    machine: &mut M,
    transport: &mut ZenohTransport,
    mut done: impl FnMut(&mut M, &ZenohTransport) -> Option<T>,
) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let until = Instant::now() + SOON;
    loop {
        let now = Instant::now();
        machine.handle_timeout(now);
        let _ = transport.handle_timeout(now);
        let mut progress = false;
        if let Some(error) = machine.error().filter(|error| error.is_ours()) {
            transport.close(now, CloseCode(error.close_code()), &error.close_reason());
        }
        if transport.wants_frame()
            && let Some(frame) = machine.poll_transmit(now)
        {
            transport.send(frame);
            progress = true;
        }
        progress |= transport.poll_write(&mut cx, now) == Poll::Ready(Ok(true));
        match transport.poll_receive(&mut cx, now) {
            Poll::Ready(Ok(message)) => {
                machine.handle_message(now, bytes_of(message.expect("it is whole")));
                progress = true;
            }
            Poll::Ready(Err(reason)) => machine.handle_disconnect(now, reason),
            Poll::Pending => {}
        }
        if let Some(done) = done(machine, transport) {
            return done;
        }
        assert!(now < until, "still waiting after {SOON:?}");
        if !progress {
            let next = machine.poll_timeout().into_iter().chain(transport.poll_timeout()).min();
            let pause = next.map_or(SOON, |next| next.saturating_duration_since(Instant::now()));
            std::thread::park_timeout(pause.min(Duration::from_millis(200)));
        }
    }
}

/// A robot with one camera that serves one policy after another.
pub(crate) struct Robot {
    pub(crate) config: Config,
    pub(crate) log: Receiver<Seen>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An event at the robot.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Policy,
    Action(Vec<f32>),
    Reset,
    Gone(ConnectionError),
}

/// Metadata with this robot name.
pub(crate) fn metadata(name: &str) -> Map {
    Map::new().with("robot", name)
}

impl Robot {
    /// Serves at the endpoint or under the name in the URI.
    pub(crate) fn serve(uri: &str, name: &'static str, pixels: [usize; 3]) -> Self {
        let config: Config = uri.parse().expect(uri);
        Self::serve_with(config, name, pixels)
    }

    pub(crate) fn serve_with(config: Config, name: &'static str, pixels: [usize; 3]) -> Self {
        let listener = Listener::open(config.clone()).wait().expect("it can be opened");
        listener.set_metadata(metadata(name));
        let mut reached = config;
        if let Some(endpoint) = listener.endpoints().first() {
            reached = listener_config(&reached, endpoint.clone());
        }
        let (sender, log) = channel();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let of_thread = Arc::clone(&stop);
        let sensors = sensors(&listener, name, pixels);
        let thread = std::thread::spawn(move || {
            let is_stopped = || of_thread.load(std::sync::atomic::Ordering::Relaxed);
            while !is_stopped() {
                let pause = Duration::from_millis(50);
                let Some(mut transport) = wait_for(pause, |cx| listener.poll_accept(cx)) else {
                    continue;
                };
                let _ = sender.send(Seen::Policy);
                let config = server::Config {
                    // Every action is to be seen, whatever it holds.
                    action_spec: ActionSpec::any().allow_empty().allow_non_finite(),
                    action_queue: server::ActionQueue::InOrder { capacity: 1024 },
                    ..server::Config::default()
                };
                let mut server = Server::new(Instant::now(), config);
                let reason = drive(&mut server, &mut transport, |server, _| {
                    if is_stopped() {
                        server.shut_down(Instant::now() + SOON);
                    }
                    while let Some(event) = server.poll_event(Instant::now()) {
                        let seen = answer(server, event, name, &sensors);
                        if matches!(seen, Some(Seen::Gone(_))) {
                            return seen;
                        }
                        seen.map(|seen| sender.send(seen));
                    }
                    None
                });
                let _ = sender.send(reason);
                if is_stopped() {
                    drive(&mut server, &mut transport, |_, transport| {
                        transport.is_closed().then_some(())
                    });
                }
            }
        });
        Self { config: reached, log, stop, thread: Some(thread) }
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn sees(&self) -> Seen {
        self.log.recv_timeout(SOON).expect("it sees something soon")
    }

    pub(crate) fn stop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        let joined = thread.join();
        assert!(joined.is_ok() || std::thread::panicking(), "the robot's thread has panicked");
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The configuration with which a robot that listens is reached.
fn listener_config(config: &Config, endpoint: chiral_zenoh::Endpoint) -> Config {
    let reached = Config::new().at(endpoint).with_shared_memory(config.shared_memory());
    match config.robot() {
        Some(robot) => reached.with_robot(robot.clone()),
        None => reached,
    }
}

fn sensors(_listener: &Listener, name: &str, pixels: [usize; 3]) -> Sensors {
    let sensors = Sensors::with_clock([CameraConfig::new("cam", pixels)], [], || 1.0);
    let sensors = sensors.expect("the camera fits the memory");
    let image = image(name, pixels.iter().product());
    sensors.update_image("cam", image).expect("it is as declared");
    sensors
}

/// The image of the robot with this name.
pub(crate) fn image(name: &str, len: usize) -> Vec<u8> {
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31) + u32::from(byte));
    (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) ^ seed) as u8).collect()
}

fn answer(
    server: &mut Server,
    event: server::Event,
    name: &str,
    sensors: &Sensors,
) -> Option<Seen> {
    let answered = match event {
        server::Event::Metadata(reply) => server.reply_metadata(reply, metadata(name)),
        server::Event::Observe(reply) => server.reply_observation(reply, sensors),
        server::Event::Reset(reply) => {
            let observation = sensors.snapshot_now();
            let result = ResetResult { observation, info: Map::new() };
            let answered = server.reply_reset(reply, result);
            assert!(answered.is_ok(), "{answered:?}");
            return Some(Seen::Reset);
        }
        server::Event::Action(action) => {
            return Some(Seen::Action(action.to_f32().to_vec()));
        }
        server::Event::Step(action, reply) => {
            let result = StepResult { observation: sensors.snapshot_now(), ..Default::default() };
            let answered = server.reply_step(reply, result);
            assert!(answered.is_ok(), "{answered:?}");
            return Some(Seen::Action(action.to_f32().to_vec()));
        }
        server::Event::Disconnected(reason) => return Some(Seen::Gone(reason)),
        other => panic!("nobody asked for {other:?}"),
    };
    assert!(answered.is_ok(), "{answered:?}");
    None
}

/// A policy that is connected.
pub(crate) struct Policy {
    pub(crate) client: Client,
    pub(crate) transport: ZenohTransport,
}

impl Policy {
    #[track_caller]
    pub(crate) fn connect(config: &Config) -> Self {
        let transport = chiral_zenoh::connect(config.clone(), Some(SOON)).wait();
        let config = client::Config { lossy: Some(chiral_zenoh::lossy()), ..Default::default() };
        Self { client: Client::new(config), transport: transport.expect("it can connect") }
    }

    #[track_caller]
    fn wait<T>(&mut self, mut wanted: impl FnMut(client::Event) -> Option<T>) -> T {
        drive(&mut self.client, &mut self.transport, |client, _| {
            std::iter::from_fn(|| client.poll_event()).find_map(&mut wanted)
        })
    }

    #[track_caller]
    pub(crate) fn metadata(&mut self) -> Map {
        self.client.request_metadata(Instant::now(), None).expect("it is connected");
        self.wait(|event| match event {
            client::Event::Metadata { metadata, .. } => Some(metadata),
            other => panic!("{other:?}"),
        })
    }

    #[track_caller]
    pub(crate) fn observe(&mut self) -> Arc<Observation> {
        self.client.request_observation(Instant::now(), None).expect("it is connected");
        self.wait(|event| match event {
            client::Event::Observation { observation, .. } => Some(observation),
            other => panic!("{other:?}"),
        })
    }

    /// An observation that lies where the robot wrote it.
    #[cfg(feature = "shm")]
    #[track_caller]
    pub(crate) fn observe_in_place(&mut self) -> Arc<Observation> {
        self.client.request_observation(Instant::now(), None).expect("it is connected");
        drive(&mut self.client, &mut self.transport, |client, transport| {
            (!transport.wants_frame() || client.stats(Instant::now()).frames_sent > 0).then_some(())
        });
        let message = wait_for(SOON, |cx| self.transport.poll_receive(cx, Instant::now()));
        let message = message.expect("it comes soon").expect("the connection is up");
        match message.expect("it is whole") {
            Message::Segments(segments) => {
                self.client.handle_segments(Instant::now(), segments);
            }
            Message::Whole(bytes) => self.client.handle_message(Instant::now(), bytes),
            other => panic!("{other:?}"),
        }
        match self.client.poll_event() {
            Some(client::Event::Observation { observation, .. }) => observation,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn reset(&mut self) {
        self.client.request_reset(Instant::now(), None).expect("it is connected");
        self.wait(|event| matches!(event, client::Event::Reset { .. }).then_some(()));
    }

    #[track_caller]
    pub(crate) fn act(&mut self, values: &[f32]) {
        let action = Action::from(values.to_vec());
        self.client.send_action(Instant::now(), action).expect("it is connected");
        drive(&mut self.client, &mut self.transport, |client, transport| {
            (client.stats(Instant::now()).frames_sent > 0 && transport.wants_frame()).then_some(())
        });
    }

    /// Why the connection ends.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ConnectionError {
        self.wait(|event| match event {
            client::Event::Disconnected(reason) => Some(reason),
            _ => None,
        })
    }

    /// Closes the connection in an orderly way.
    #[track_caller]
    pub(crate) fn close(&mut self) {
        self.client.close(Instant::now());
        drive(&mut self.client, &mut self.transport, |_, transport| {
            transport.is_closed().then_some(())
        });
    }
}
