use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use super::link::{Link, Side};
use super::pair::{Happening, Stuck};
use crate::client::{self, Client};
use crate::server::{self, Server};
use crate::ws::{self, ClientHandshake, Role, ServerHandshake, Session};
use crate::{ConnectionError, Machine};

/// A client and a server with their WebSocket sessions, from the opening handshake to the end of the
/// stream, over a [`Link`] with faults, on a clock of their own.
///
/// Where a [`Pair`](super::Pair) carries frames, it carries bytes: it is for tests of what a bad or
/// broken network does to a robot and its policy.
///
/// ```
/// use std::time::{Duration, Instant};
/// use chiral_proto::testing::{Break, Faults, Happening, Link, SessionPair};
/// use chiral_proto::{ConnectionError, Rate, client, server};
///
/// # #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
/// let start = Instant::now();
/// // The cable is pulled behind the 5,000th byte of the policy's.
/// let link = Link::new(Faults::default().breaks_at(5000, Break::Unplugged), Faults::default());
/// let (client, server) = (client::Config::default(), server::Config::default());
/// let mut pair = SessionPair::new(start, client, server, &Default::default(), link);
/// pair.client.start_action_dispatch(pair.now(), Rate::hz(50.0)?)?;
/// for step in 0..500_u16 {
///     pair.client.put_action(pair.now(), [f32::from(step)].into())?;
/// }
///
/// let end = pair.now() + Duration::from_secs(60);
/// let mut applied = Vec::new();
/// let mut told = None;
/// while let Some(happening) = pair.next(end) {
///     match happening {
///         Happening::Server(server::Event::Action(action)) => applied.push(action.to_f32()[0]),
///         Happening::Server(server::Event::Disconnected(error)) => told = Some(error),
///         _ => {}
///     }
/// }
/// // What arrived was applied, in order; and the robot was told to hold still.
/// assert!(applied.is_sorted() && (10..500).contains(&applied.len()));
/// assert!(matches!(told, Some(ConnectionError::Unresponsive { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SessionPair {
    /// The policy's side.
    pub client: Client,
    /// The robot's side.
    pub server: Server,
    /// What lies between them.
    pub link: Link,
    policy: End,
    robot: End,
    start: Instant,
    now: Instant,
}

/// Bytes that are read at once before the session begins.
const HANDSHAKE_READ: usize = 4096;
/// How long a handshake may take, and how long a peer may take to hang up, as in the adapters.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

impl SessionPair {
    /// A pair whose client has just connected to its server over a link. Its clock begins at `start`,
    /// any instant, and time passes only in [`next`](Self::next).
    ///
    /// The masks of the client's frames are the same each time.
    ///
    pub fn new(
        start: Instant,
        client: client::Config,
        server: server::Config,
        session: &ws::Config,
        link: Link,
    ) -> Self {
        let [policy, robot] = ends(start, session);
        Self {
            client: Client::new(client),
            server: Server::new(start, server),
            link,
            policy,
            robot,
            start,
            now: start,
        }
    }

    /// The time of the pair's clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How long the pair has been running on its clock.
    pub fn elapsed(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    /// Whether both sides have hung up: nothing more will happen.
    pub fn is_over(&self) -> bool {
        [&self.policy, &self.robot].iter().all(|end| matches!(end.phase, Phase::Over))
    }

    /// Connects the client again, when both sides [have hung up](Self::is_over), to a robot that has
    /// just started, over another link. False if the client does not expect it; see
    /// [`Client::begin_connection`].
    pub fn reconnect(&mut self, server: server::Config, link: Link) -> bool {
        self.server = Server::new(self.now, server);
        [self.policy, self.robot] = ends(self.now, &self.policy.config);
        self.link = link;
        self.client.begin_connection(self.now)
    }

    /// Lets time run to the next thing that a machine has to tell, or to `until`; then `None`.
    ///
    /// # Panics
    /// When a machine or a session keeps asking to be called without time passing, which is a fault of
    /// it.
    pub fn next(&mut self, until: Instant) -> Option<Happening> {
        let mut stuck = Stuck::default();
        loop {
            let mut timeouts = Vec::with_capacity(3);
            loop {
                let now = self.now;
                timeouts.clear();
                let policy = self.policy.exchange(now, &mut self.client, &mut self.link);
                let robot = self.robot.exchange(now, &mut self.server, &mut self.link);
                timeouts.extend([policy.timeout, robot.timeout].into_iter().flatten());
                if let Some(event) = self.server.poll_event(now) {
                    return Some(Happening::Server(event));
                }
                if let Some(event) = self.client.poll_event() {
                    return Some(Happening::Client(event));
                }
                if !policy.moved && !robot.moved {
                    break;
                }
            }
            timeouts.extend(self.link.poll_timeout(self.now));
            let next = timeouts.iter().min().copied().filter(|next| *next <= until);
            stuck.look(next, self.now, self.elapsed());
            self.now = self.now.max(next.unwrap_or(until));
            next?;
        }
    }
}

/// The ends of a connection that is made now, the client's first.
fn ends(now: Instant, config: &ws::Config) -> [End; 2] {
    let request = ClientHandshake::new("robot:8765", "/", &[], [7; 16])
        .expect("a constant request is well-formed");
    let unwritten = request.request().to_vec();
    let end = |side, unwritten, handshake| End {
        side,
        config: config.clone(),
        unwritten,
        phase: Phase::Handshake(handshake, now + HANDSHAKE_TIMEOUT),
    };
    [
        end(Side::Client, unwritten, Handshake::Client(Box::new(request))),
        end(Side::Server, Vec::new(), Handshake::Server(Box::default())),
    ]
}

/// One side's session and its place in the stream's life.
#[derive(Debug)]
struct End {
    side: Side,
    config: ws::Config,
    /// Of the handshake.
    unwritten: Vec<u8>,
    phase: Phase,
}

/// How far an end has come.
///
/// ```text
/// Handshake ──────► Open ──the session is finished──► Finishing ──the peer hangs up──► Over
///     │               └──────────────the link fails──────────────────────────────────────▲
///     └──────────────────────────────it fails────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
enum Phase {
    /// Until then.
    Handshake(Handshake, Instant),
    Open {
        session: Box<Session>,
        stream_ended: bool,
    },
    /// Nothing more is written; what still comes is thrown away, until then.
    Finishing(Instant),
    /// This side has hung up.
    Over,
}

#[derive(Debug)]
enum Handshake {
    Client(Box<ClientHandshake>),
    Server(Box<ServerHandshake>),
}

/// What [`End::exchange`] came to.
struct Exchanged {
    moved: bool,
    timeout: Option<Instant>,
}

impl End {
    /// Moves what can be moved at this moment.
    fn exchange(&mut self, now: Instant, machine: &mut impl Machine, link: &mut Link) -> Exchanged {
        let mut session_timeout = None;
        let moved = match self.try_exchange(now, machine, link, &mut session_timeout) {
            Ok(moved) => moved,
            Err(reason) => {
                machine.handle_disconnect(now, reason);
                link.close(self.side);
                self.unwritten.clear();
                self.phase = Phase::Over;
                true
            }
        };
        machine.handle_timeout(now);
        let timeout = match &self.phase {
            Phase::Open { .. } => session_timeout,
            Phase::Handshake(_, until) | Phase::Finishing(until) => Some(*until),
            Phase::Over => None,
        };
        let timeout = timeout.into_iter().chain(machine.poll_timeout()).min();
        Exchanged { moved, timeout: timeout.map(|timeout| timeout.max(now)) }
    }

    /// # Errors
    /// With what ended the connection, when nothing more can be read or written.
    fn try_exchange(
        &mut self,
        now: Instant,
        machine: &mut impl Machine,
        link: &mut Link,
        timeout: &mut Option<Instant>,
    ) -> Result<bool, ConnectionError> {
        let mut moved = false;
        while !self.unwritten.is_empty()
            && let Some(count) = attempt(link.write(now, self.side, &self.unwritten))?
        {
            self.unwritten.drain(..count);
            moved = true;
        }
        match &mut self.phase {
            Phase::Over => {}
            Phase::Finishing(until) => {
                let mut waste = [0; HANDSHAKE_READ];
                let is_over = *until <= now
                    || match link.read(now, self.side, &mut waste) {
                        Ok(count) => count == 0,
                        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                    };
                if is_over {
                    link.close(self.side);
                    self.phase = Phase::Over;
                    return Ok(true);
                }
            }
            Phase::Handshake(..) => return Ok(self.shake_hands(now, link)? || moved),
            Phase::Open { session, stream_ended } => {
                let mut failed = None;
                while !*stream_ended && machine.wants_message() {
                    match attempt(link.read(now, self.side, session.reader.read_buf())) {
                        Ok(None) => break,
                        Ok(Some(count)) => {
                            session.reader.bytes_read(count);
                            machine.note_activity(now);
                            moved = true;
                            *stream_ended = count == 0;
                            session.exchange(now, machine);
                        }
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                *timeout = session.exchange(now, machine);
                if let Some(error) = failed {
                    return Err(error);
                }
                // Behind the handshake.
                while self.unwritten.is_empty() && session.writer.wants_write() {
                    let mut slices = [IoSlice::new(&[]); 1];
                    session.writer.transmit(&mut slices);
                    let Some(count) = attempt(link.write(now, self.side, &slices[0]))? else {
                        break;
                    };
                    session.writer.bytes_written(now, count);
                    *timeout = session.exchange(now, machine);
                    moved = true;
                }
                if session.writer.is_finished() {
                    link.shut_down_write(self.side);
                    self.phase = Phase::Finishing(now + FINISH_TIMEOUT);
                    moved = true;
                }
            }
        }
        Ok(moved)
    }

    fn shake_hands(&mut self, now: Instant, link: &mut Link) -> Result<bool, ConnectionError> {
        let Phase::Handshake(handshake, until) = &mut self.phase else { return Ok(false) };
        if *until <= now {
            return Err(ConnectionError::Lost("the handshake took too long".to_owned()));
        }
        let mut bytes = [0; HANDSHAKE_READ];
        let Some(count) = attempt(link.read(now, self.side, &mut bytes))? else { return Ok(false) };
        if count == 0 {
            return Err(ConnectionError::EndOfStream { inside_message: false });
        }
        let failed = |error: &dyn std::error::Error| ConnectionError::Lost(error.to_string());
        let (role, surplus) = match handshake {
            Handshake::Client(handshake) => {
                let surplus = handshake.receive(&bytes[..count]).map_err(|error| failed(&error))?;
                (Role::Client { seed: [9; 32] }, surplus)
            }
            Handshake::Server(handshake) => {
                let request = handshake.receive(&bytes[..count]).map_err(|error| {
                    // As much of it as the link takes at once.
                    let _ = link.write(now, Side::Server, &error.response());
                    failed(&error)
                })?;
                let accepted = request.map(ws::Request::accept);
                let surplus = accepted.map(|accepted| {
                    self.unwritten.extend_from_slice(&accepted.response);
                    accepted.surplus
                });
                (Role::Server, surplus)
            }
        };
        if let Some(surplus) = surplus {
            let session = Session::new(now, role, &self.config, &surplus);
            self.phase = Phase::Open { session: Box::new(session), stream_ended: false };
        }
        Ok(true)
    }
}

/// Bytes moved; `None` when there are none to move now.
fn attempt(io: io::Result<usize>) -> Result<Option<usize>, ConnectionError> {
    match io {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(ConnectionError::from_io(&error)),
    }
}
