//! A WebSocket session without a socket: bytes and time in, chiral frames out.
//!
//! [`ClientHandshake`] and [`ServerHandshake`] open the connection, [`session`] then gives two
//! halves that two threads can own: a [`Reader`] and a [`Writer`]. They share nothing. What the
//! reader finds that concerns the writer (a ping, a close, a sign of life, an error) comes out of
//! [`Reader::poll`] as a [`Control`], to be handed to [`Writer::handle`] unread. A loop in one
//! thread uses [`Session`], which does that itself, and with [`Session::exchange`] all that lies
//! between it and a state machine.
//!
//! The message layer is made for frames of many megabytes. A message over 16 KiB is read straight
//! into a recycled buffer, placed so that its chiral payload begins at a 64-byte boundary; a
//! server's frames are written as gather lists from where the sensors put their data. What a peer
//! announces costs nothing until it arrives. Compression is never negotiated.
//!
//! No clock and no randomness is fetched: `now` is a parameter, and a client brings a seed from
//! its operating system for the masks that RFC 6455 wants.
//!
//! # Example
//!
//! A policy (client) and a robot (server) in memory:
//!
//! ```
//! use std::io::IoSlice;
//! use std::time::Instant;
//!
//! use bytes::Bytes;
//! use chiral_proto::wire::{Frame, Limits};
//! use chiral_proto::ws::{ClientHandshake, Config, Role, ServerHandshake, Session};
//!
//! /// Stands for the network: what one side has to write is what the other one reads.
//! fn carry(now: Instant, from: &mut Session, to: &mut Session) {
//!     loop {
//!         let mut slices = [IoSlice::new(&[]); 16];
//!         let count = from.writer.transmit(&mut slices);
//!         let Some(chunk) = slices[..count].first() else { return };
//!         let room = to.reader.read_buf();
//!         let len = chunk.len().min(room.len());
//!         room[..len].copy_from_slice(&chunk[..len]);
//!         to.reader.bytes_read(len);
//!         from.writer.bytes_written(now, len);
//!     }
//! }
//!
//! // The opening handshake. Random bytes come from the operating system in earnest.
//! let mut client = ClientHandshake::new("localhost:8765", "/", &[], [7; 16])?;
//! let mut server = ServerHandshake::default();
//! let request = server.receive(client.request())?.expect("the request is complete");
//! assert_eq!(request.host(), "localhost:8765");
//! let accepted = request.accept();
//! let surplus = client.receive(&accepted.response)?.expect("the response is complete");
//!
//! let (now, config) = (Instant::now(), Config::default());
//! let mut policy = Session::new(now, Role::Client { seed: [9; 32] }, &config, &surplus);
//! let mut robot = Session::new(now, Role::Server, &config, &accepted.surplus);
//!
//! // One frame from the policy to the robot.
//! let reset = Bytes::from_static(b"\x0c\0\0\0\x81\xa4type\xa5reset");
//! let frame = Frame::parse(reset.clone(), &Limits::default())?;
//! policy.writer.push(frame).expect("nothing else is being written");
//! carry(now, &mut policy, &mut robot);
//! assert_eq!(robot.poll(now), Some(Ok(reset)));
//!
//! // The robot takes its leave.
//! robot.writer.close(now, chiral_proto::ws::CloseCode::GOING_AWAY, "shutting down");
//! carry(now, &mut robot, &mut policy);
//! let reason = policy.poll(now).expect("the session ends").unwrap_err();
//! assert_eq!(reason.to_string(), "the peer closed the session: 1001 (going away): shutting down");
//! carry(now, &mut policy, &mut robot);
//! robot.poll(now);
//! assert!(robot.writer.is_finished() && policy.writer.is_finished());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assembly;
mod close;
mod control;
mod error;
mod handshake;
mod head;
mod mask;
mod outgoing;
mod reader;
mod stage;
mod uri;
mod writer;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use close::CloseCode;
pub use control::Control;
pub use error::Error;
pub use handshake::{
    Accepted, BadRequest, ClientHandshake, HandshakeError, Request, ServerHandshake,
};
pub use reader::{Incoming, Reader};
pub use uri::{UriError, WsUri, redacted};
pub use writer::Writer;

use crate::Machine;
pub use crate::keepalive::Keepalive;
use crate::pool::PoolMemory;
use crate::wire::Limits;

/// Which side of the connection a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that connects: the policy. It masks what it sends.
    Client {
        /// 32 random bytes from the operating system, fresh for each session: the mask keys are
        /// drawn from them.
        seed: [u8; 32],
    },
    /// The side that accepts: the robot.
    Server,
}

impl std::fmt::Debug for Role {
    /// Does not show the seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client { .. } => "Client",
            Self::Server => "Server",
        })
    }
}

/// Settings of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bounds on what the peer may send; [`Limits::frame_len`] is the one that counts here.
    pub limits: Limits,
    /// Pings, and when an unresponsive peer is given up; `None` for no pings. Default: both 20 s.
    pub keepalive: Option<Keepalive>,
    /// How long a closing handshake may take from its first close frame on, a message that is
    /// still being written included. Default: 5 s.
    pub close_timeout: Duration,
    /// Unused buffers for large messages that the reader keeps for the next ones. Default: 4.
    pub recycled_buffers: usize,
    /// Where large messages of the peer are read into, in whose memory the arrays of an observation
    /// then lie. Default: the heap. Where a source has no memory left, the heap too.
    pub memory: PoolMemory,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            keepalive: Some(Keepalive::default()),
            close_timeout: Duration::from_secs(5),
            recycled_buffers: 4,
            memory: PoolMemory::default(),
        }
    }
}

/// The two halves of a session that begins at `now`, after the opening handshake. `surplus` is
/// what had arrived behind the peer's part of it.
pub fn session(now: Instant, role: Role, config: &Config, surplus: &[u8]) -> (Reader, Writer) {
    (Reader::new(role, config, surplus), Writer::new(now, role, config))
}

/// Both halves of a session, for a loop in one thread.
#[derive(Debug)]
pub struct Session {
    /// The reading half. Poll it through [`Session::poll`].
    pub reader: Reader,
    /// The writing half.
    pub writer: Writer,
}

impl Session {
    /// The halves of [`session`], together.
    pub fn new(now: Instant, role: Role, config: &Config, surplus: &[u8]) -> Self {
        let (reader, writer) = session(now, role, config, surplus);
        Self { reader, writer }
    }

    /// The next message, or why the session is over; `None` when more bytes are needed. What
    /// concerns the writing half goes there; it may have something to write afterwards.
    pub fn poll(&mut self, now: Instant) -> Option<Result<Bytes, Error>> {
        loop {
            match self.reader.poll()? {
                Incoming::Message(message) => return Some(Ok(message)),
                Incoming::Control(control) => self.writer.handle(now, control),
                Incoming::End(error) => return Some(Err(error)),
            }
        }
    }

    /// Moves all that can be moved between this session and the machine whose frames it carries:
    /// messages and time go in, the next frame comes out when one is wanted, and each is told of
    /// the other's end. Returns when to call it again at the latest, if nothing is read or written
    /// before.
    ///
    /// A loop in one thread calls it after each read and write, and again after it has taken the
    /// machine's events, for the answers. While the machine
    /// [wants no message](Machine::wants_message), nothing is to be read from the stream.
    pub fn exchange(&mut self, now: Instant, machine: &mut impl Machine) -> Option<Instant> {
        while machine.wants_message()
            && let Some(incoming) = self.reader.poll()
        {
            match incoming {
                Incoming::Message(message) => machine.handle_message(now, message),
                Incoming::Control(control) => {
                    self.writer.handle(now, control);
                    machine.note_activity(now);
                }
                Incoming::End(end) => machine.handle_disconnect(now, end.into()),
            }
        }
        // Behind the messages: one of them may be the sign of life that was waited for.
        if let Err(end) = self.writer.handle_timeout(now) {
            machine.handle_disconnect(now, end.into());
        }
        machine.handle_timeout(now);
        if self.writer.wants_message()
            && let Some(frame) = machine.poll_transmit(now)
        {
            self.writer.push(frame).expect("a frame is wanted");
        }
        if let Some(error) = machine.error().filter(|error| error.is_ours()) {
            self.writer.close(now, CloseCode(error.close_code()), &error.close_reason());
        }
        machine.poll_timeout().into_iter().chain(self.writer.poll_timeout()).min()
    }
}
