//! A robot on `mio`: one thread, one poll, no async runtime; one policy has it, others are refused.
//! `cargo run -p chiral-proto --features websocket --example mio`, then, in another terminal,
//! `cargo run -p chiral-tokio --example client`. For a robot of your own, change `Robot` and `main`.
//!
//! Two machines do the work, and neither touches a socket: `Session` turns bytes into frames,
//! `Server` frames into events, and back. To move the bytes and to wake up in time is left to you.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "an application")]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use chiral_proto::server::{self, Event, Server};
use chiral_proto::ws::{self, Role, ServerHandshake, Session};
use chiral_proto::{CameraConfig, Map, ResetResult, sensors::Sensors};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

/// A `mio::Waker` with this token takes the robot out of service.
pub(crate) const STOP: Token = Token(0);
/// All sockets: trying each of a few costs less than keeping books of which are ready.
const SOCKET: Token = Token(1);
const BOTH_WAYS: Interest = Interest::READABLE.add(Interest::WRITABLE);
const VISITORS: usize = 32; // with one more, the oldest is dropped
/// How long a peer may take for its request, and at the end to hang up.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Robot<Motors> {
    pub(crate) sensors: Sensors,
    /// Takes joint targets, or `None`: hold still. It must not wait, only hand them on.
    pub(crate) motors: Motors,
}

impl<Motors: FnMut(Option<&[f32]>)> Robot<Motors> {
    /// Does what the policy wants. For an answer that takes time, keep the `reply` until later.
    fn handle(&mut self, event: Event, server: &mut Server) {
        let answered = match event {
            Event::Action(action) => return (self.motors)(Some(&action.to_f32())),
            Event::Watchdog { .. } | Event::Disconnected(_) => return (self.motors)(None),
            Event::ActionsDropped { count, reason } => {
                return eprintln!("{count} action(s) dropped: {reason}");
            }
            Event::Step(..) => return server.fail("this robot takes actions, not steps"),
            Event::Metadata(reply) => server.reply_metadata(reply, Map::new().with("robot", "arm")),
            // Taken when the socket has room for it, so as fresh as can be. No pixel is copied.
            Event::Observe(reply) => server.reply_observation(reply, &self.sensors),
            Event::Reset(reply) => {
                (self.motors)(None);
                let observation = self.sensors.snapshot_now();
                server.reply_reset(reply, ResetResult { observation, info: Map::new() })
            }
            _ => return,
        };
        drop(answered); // it fails only when the policy has gone, as the next event tells
    }
}

/// A connection without the robot, and until when it may stay: for its request, or to hang up.
struct Visitor(TcpStream, Option<ServerHandshake>, Instant);

pub(crate) struct Service<Motors> {
    robot: Robot<Motors>,
    config: ws::Config,
    /// The connection that has the robot.
    policy: Option<(TcpStream, Session, Server)>,
    visitors: Vec<Visitor>,
    /// When to go on at the latest, if no socket has anything to tell.
    wake_up: Instant,
}

impl<Motors: FnMut(Option<&[f32]>)> Service<Motors> {
    pub(crate) fn new(robot: Robot<Motors>, config: ws::Config) -> Self {
        Self { robot, config, policy: None, visitors: Vec::new(), wake_up: Instant::now() }
    }

    /// Serves until `STOP`.
    pub(crate) fn run(&mut self, mut poll: Poll, mut listener: TcpListener) -> io::Result<()> {
        poll.registry().register(&mut listener, SOCKET, Interest::READABLE)?;
        let (mut listener, mut events) = (Some(listener), Events::with_capacity(VISITORS));
        while listener.is_some() || self.policy.is_some() || !self.visitors.is_empty() {
            let wait = self.wake_up.saturating_duration_since(Instant::now());
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            let later = now + PATIENCE;
            self.wake_up = later; // at the latest, to look at the visitors' deadlines
            if events.iter().any(|event| event.token() == STOP) {
                listener = None;
                self.visitors.clear();
                self.policy.iter_mut().for_each(|policy| policy.2.shut_down(later));
            }
            self.drive(now);
            for visitor in std::mem::take(&mut self.visitors) {
                self.listen(now, visitor);
            }
            // One a turn. Where it fails, for want of file descriptors say, a later turn tries again.
            if let Some(Ok((mut socket, _))) = listener.as_ref().map(TcpListener::accept)
                && poll.registry().register(&mut socket, SOCKET, BOTH_WAYS).is_ok()
            {
                let _ = socket.set_nodelay(true); // an action must not wait for more to fill a packet
                self.visitors.push(Visitor(socket, Some(ServerHandshake::default()), later));
                self.visitors.drain(..self.visitors.len().saturating_sub(VISITORS));
                self.wake_up = now;
            }
        }
        Ok(())
    }

    /// Moves one piece each way. A piece is what the socket has or takes, so that an action never
    /// waits for the whole of an observation. Where something moved, there may be more to move.
    fn drive(&mut self, now: Instant) {
        let Some((socket, session, server)) = &mut self.policy else { return };
        if let Some(count) = attempt(socket.read(session.reader.read_buf())) {
            session.reader.bytes_read(count);
            self.wake_up = if count > 0 { now } else { self.wake_up };
        }
        let timeout = loop {
            let timeout = session.exchange(now, server);
            let Some(event) = server.poll_event(now) else { break timeout };
            self.robot.handle(event, server);
        };
        self.wake_up = timeout.map_or(self.wake_up, |timeout| timeout.min(self.wake_up));
        let mut slices = [IoSlice::new(&[]); 64];
        let count = session.writer.transmit(&mut slices);
        if count > 0
            && let Some(count) = attempt(socket.write_vectored(&slices[..count]))
        {
            match count {
                0 => session.reader.bytes_read(0), // the next turn finds that it has ended
                count => session.writer.bytes_written(now, count),
            }
            self.wake_up = now;
        }
        if let Some(policy) = self.policy.take_if(|policy| policy.1.writer.is_finished()) {
            self.dismiss(now, policy.0, b"");
        }
    }

    /// Listens to a visitor: keeps it, makes it the policy, or lets it go.
    fn listen(&mut self, now: Instant, mut visitor: Visitor) {
        let Visitor(socket, handshake, until) = &mut visitor;
        let mut bytes = [0; 4096];
        let heard = match attempt(socket.read(&mut bytes)) {
            heard if heard == Some(0) || *until <= now => return,
            None => return self.visitors.push(visitor),
            Some(count) => &bytes[..count],
        };
        self.wake_up = now;
        match handshake.as_mut().map_or(Ok(None), |handshake| handshake.receive(heard)) {
            Ok(None) => self.visitors.push(visitor),
            Err(bad) => self.dismiss(now, visitor.0, &bad.response()),
            // Who has only to answer our goodbye has the robot no more.
            Ok(Some(request)) if self.policy.iter().any(|policy| policy.2.error().is_none()) => {
                let refusal = request.refuse(503, "the robot already has a policy");
                self.dismiss(now, visitor.0, &refusal);
            }
            Ok(Some(request)) => {
                let accepted = request.accept();
                let session = Session::new(now, Role::Server, &self.config, &accepted.surplus);
                let watchdog = Some(Duration::from_millis(500));
                let server =
                    Server::new(now, server::Config { watchdog, ..server::Config::default() });
                // A socket that nothing was written to yet has room for so short a text.
                if socket.write_all(&accepted.response).is_ok() {
                    self.policy = Some((visitor.0, session, server));
                }
            }
        }
    }

    /// Says the last words, and lets the peer hang up: if we did, it could lose them.
    fn dismiss(&mut self, now: Instant, mut socket: TcpStream, last_words: &[u8]) {
        drop(socket.write_all(last_words).and_then(|()| socket.shutdown(Shutdown::Write)));
        self.visitors.push(Visitor(socket, None, now + PATIENCE));
    }
}

/// Bytes moved; `None` if it would have had to wait. An error is an end, and that is 0.
fn attempt(io: io::Result<usize>) -> Option<usize> {
    io.map_or_else(|error| (error.kind() != ErrorKind::WouldBlock).then_some(0), Some)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let camera = CameraConfig::new("wrist_cam", [1080, 1920, 3]);
    let sensors = Sensors::with_clock([camera], [], move || start.elapsed().as_secs_f64())?;
    let wrist = sensors.camera("wrist_cam")?; // for your camera's driver, in its own thread
    std::thread::spawn(move || {
        for brightness in (0_u8..=255).cycle() {
            wrist.update_image(vec![brightness; 1080 * 1920 * 3]).expect("it is as declared");
            std::thread::sleep(Duration::from_millis(33));
        }
    });
    let poll = Poll::new()?;
    let stop: &Waker = Box::leak(Box::new(Waker::new(poll.registry(), STOP)?)); // outlives the poll
    std::thread::spawn(|| io::stdin().lines().next().map(|_| stop.wake()));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
    let listener = TcpListener::bind(address.parse()?)?;
    println!("serving at ws://{}; Enter stops it", listener.local_addr()?);
    let robot = Robot { sensors, motors: |targets: Option<&[f32]>| println!("{targets:?}") };
    Ok(Service::new(robot, ws::Config::default()).run(poll, listener)?)
}
