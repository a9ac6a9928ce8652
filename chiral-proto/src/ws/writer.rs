use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::protocol::frame::coding::Control as ControlOpcode;

use super::close::{self, CloseCode};
use super::control::{Control, Ending};
use super::error::Error;
use super::head;
use super::mask::Keys;
use super::outgoing::Outgoing;
use super::{Config, Role};
use crate::keepalive::{Heartbeat, Unresponsive};
use crate::wire::Frame;

/// The writing half of a session: frames in, bytes out; and its clock.
///
/// ```
/// use std::io::{self, IoSlice, Write};
/// use std::time::Instant;
/// use chiral_proto::wire::Frame;
/// use chiral_proto::ws::Writer;
///
/// fn write(mut socket: impl Write, writer: &mut Writer, frame: Frame) -> io::Result<()> {
///     writer.push(frame).map_err(|_| io::Error::other("a message is still being written"))?;
///     loop {
///         let mut slices = [IoSlice::new(&[]); 64];
///         let count = writer.transmit(&mut slices);
///         if count == 0 {
///             return Ok(());
///         }
///         let written = socket.write_vectored(&slices[..count])?;
///         writer.bytes_written(Instant::now(), written);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Writer {
    /// A client's.
    keys: Option<Keys>,
    close_timeout: Duration,
    heartbeat: Heartbeat,
    /// Encoded control frames; they go before the message.
    controls: Vec<u8>,
    controls_written: usize,
    /// Whether a ping is among them.
    pinging: bool,
    message: Outgoing,
    /// The payload of the latest ping that is not answered, until the answer can be encoded:
    /// answering that one answers all.
    pong: Option<Bytes>,
    lifecycle: Lifecycle,
}

/// The closing handshake (RFC 6455, section 7.1) as the writing half sees it.
///
/// ```text
///          close, or the peer's close frame or error        own close frame written,
///                                                           and the peer is done
///   Open ────────────────────────────────────► Closing ──────────────────────────────► Closed
///     └──────────────────────────────────────────┴── stream lost, peer unresponsive ─────┘
/// ```
#[derive(Debug)]
enum Lifecycle {
    /// Messages are taken.
    Open,
    /// The message under way is the last one; a close frame follows it.
    Closing {
        deadline: Option<Instant>,
        frame: CloseFrame,
        /// The peer's close frame came, or none is awaited.
        peer_is_done: bool,
    },
    /// Nothing more is sent.
    Closed,
}

/// Where this side's close frame is.
#[derive(Debug, PartialEq, Eq)]
enum CloseFrame {
    /// Its payload, until it can be encoded.
    Waiting(Vec<u8>),
    /// It is among the encoded control frames.
    Encoded,
    Written,
}

impl Writer {
    pub(super) fn new(now: Instant, role: Role, config: &Config) -> Self {
        Self {
            keys: match role {
                Role::Client { seed } => Some(Keys::new(seed)),
                Role::Server => None,
            },
            close_timeout: config.close_timeout,
            heartbeat: Heartbeat::new(now, config.keepalive),
            controls: Vec::new(),
            controls_written: 0,
            pinging: false,
            message: Outgoing::default(),
            pong: None,
            lifecycle: Lifecycle::Open,
        }
    }

    /// Whether [`push`](Self::push) takes a frame: the one before it is written, and the session
    /// is not being closed.
    ///
    /// Ask for the frame only now, from the state machine's `poll_transmit`: that is what makes an
    /// observation fresh and an action current when it leaves.
    pub fn wants_message(&self) -> bool {
        self.message.is_done() && matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Sends a frame as one binary message, in fragments when it is longer than 256 KiB: pongs and
    /// closes pass between them. A server's segments are written from where they lie; a client's
    /// are masked into a buffer that is used again and again.
    ///
    /// # Errors
    /// Gives the frame back when [`wants_message`](Self::wants_message) is false.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if !self.wants_message() {
            return Err(frame);
        }
        self.encode_waiting();
        match &mut self.keys {
            Some(keys) => self.message.start_masked(&frame, || keys.draw()),
            None => self.message.start(frame),
        }
        Ok(())
    }

    /// Fills in the slices that are to be written next, for a gather write, and returns how many
    /// they are; 0 when there is nothing to write. The others stay as they were.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.transmit_up_to(usize::MAX, slices)
    }

    /// As [`transmit`](Self::transmit), but no more than so many bytes: for a loop that has other
    /// things to do between the pieces of a long message.
    pub fn transmit_up_to<'a>(&'a self, bytes: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let controls = &self.controls[self.controls_written..];
        let chunks = Some(controls).filter(|chunk| !chunk.is_empty()).into_iter();
        // A control frame that waits goes in front of the next fragment.
        let (whole, frame) = if self.has_waiting() {
            (None, Some(self.message.rest_of_frame()))
        } else {
            (Some(self.message.rest()), None)
        };
        let message = whole.into_iter().flatten().chain(frame.into_iter().flatten());
        let (mut count, mut left) = (0, bytes);
        for (slice, chunk) in slices.iter_mut().zip(chunks.chain(message)) {
            if left == 0 {
                break;
            }
            let len = chunk.len().min(left);
            *slice = IoSlice::new(&chunk[..len]);
            (count, left) = (count + 1, left - len);
        }
        count
    }

    /// Whether [`transmit`](Self::transmit) has something to write.
    pub fn wants_write(&self) -> bool {
        !(self.controls.is_empty() && self.message.is_done())
    }

    /// The stream took the first `count` bytes of what [`transmit`](Self::transmit) gave last.
    ///
    /// # Panics
    /// When `count` is more than was there to be written.
    pub fn bytes_written(&mut self, now: Instant, count: usize) {
        let of_controls = count.min(self.controls.len() - self.controls_written);
        self.controls_written += of_controls;
        self.message.advance(count - of_controls);
        if count > 0 {
            self.heartbeat.progressed(now);
        }
        if of_controls > 0 && self.controls_written == self.controls.len() {
            self.controls_sent(now);
        }
        self.encode_when_possible();
    }

    fn controls_sent(&mut self, now: Instant) {
        self.controls.clear();
        self.controls_written = 0;
        if std::mem::take(&mut self.pinging) {
            self.heartbeat.ping_sent(now);
        }
        if let Lifecycle::Closing { frame, peer_is_done, .. } = &mut self.lifecycle
            && *frame == CloseFrame::Encoded
        {
            *frame = CloseFrame::Written;
            if *peer_is_done {
                self.lifecycle = Lifecycle::Closed;
            }
        }
    }

    /// Takes in what the reading half found: answers a ping, answers the peer's close, tells the
    /// peer of its error. It counts as a sign of life at `now`.
    pub fn handle(&mut self, now: Instant, control: Control) {
        if self.is_finished() {
            return;
        }
        self.heartbeat.received(now);
        if let Lifecycle::Open = self.lifecycle {
            self.pong = control.ping.or(self.pong.take());
        }
        match control.end {
            None => {}
            Some(Ending::Lost) => self.give_up(),
            Some(Ending::Closed(code)) => self.close_for_peer(now, code, ""),
            Some(Ending::Failed { code, reason }) => self.close_for_peer(now, code, &reason),
        }
        self.encode_when_possible();
    }

    fn close_for_peer(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.close(now, code, reason);
        if let Lifecycle::Closing { frame, peer_is_done, .. } = &mut self.lifecycle {
            *peer_is_done = true;
            if *frame == CloseFrame::Written {
                self.lifecycle = Lifecycle::Closed;
            }
        }
    }

    /// Closes the session: a close frame goes out behind the message that is being written, and
    /// nothing after it. (When the peer closes first, the rest of the message is dropped.) The reason is cut to 123 bytes. Go on reading and writing until
    /// [`is_finished`](Self::is_finished).
    ///
    /// A code that may not be sent ([`CloseCode::may_be_sent`]) leaves the frame without code and
    /// reason. When the session is being closed already, this does nothing.
    pub fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        if let Lifecycle::Open = self.lifecycle {
            self.lifecycle = Lifecycle::Closing {
                deadline: now.checked_add(self.close_timeout),
                frame: CloseFrame::Waiting(close::payload(code, reason)),
                peer_is_done: false,
            };
            self.encode_when_possible();
        }
    }

    /// Whether the session is over in this direction: both close frames went, the peer's was
    /// answered, its error was told, or the connection is given up. Shut the stream down for
    /// writing then; reading on until it ends, for a moment, keeps the last bytes from being lost.
    pub fn is_finished(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Closed)
    }

    /// Pings the peer now and expects a sign of life within that time, because its silence matters
    /// more than usual: another policy asks for the robot, for example. When none comes,
    /// [`handle_timeout`](Self::handle_timeout) reports [`Error::Unresponsive`]. It works without
    /// [`Config::keepalive`] too.
    ///
    /// A ping that is under way already is not sent again; the wait for it becomes shorter, if it
    /// was longer. While the ping waits behind what is being written, a byte that the socket takes
    /// is a sign of life as well.
    pub fn probe(&mut self, now: Instant, within: Duration) {
        if let Lifecycle::Open = self.lifecycle {
            self.heartbeat.probe(now, within);
            self.encode_when_possible();
        }
    }

    /// Whether a ping was sent, or is to be, and no sign of life has come since.
    pub fn awaits_sign_of_life(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Open) && self.heartbeat.is_waiting()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It changes with every
    /// other call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.lifecycle {
            Lifecycle::Open => self.heartbeat.poll_timeout(),
            Lifecycle::Closing { deadline, .. } => *deadline,
            Lifecycle::Closed => None,
        }
    }

    /// Does what is due at `now`: sends a ping, or finds that the peer is gone. Read what has
    /// arrived first: after a long pause of this process, it may hold the sign of life.
    ///
    /// # Errors
    /// [`Error::Unresponsive`] or [`Error::CloseTimeout`], once: the session is over, drop the
    /// connection. Behind `Unresponsive` there may be something left to
    /// [`transmit`](Self::transmit): a close frame with the code 1011 and the reason, for a peer
    /// that reads it later. Write what the socket takes at once of it, and do not wait.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match &self.lifecycle {
            Lifecycle::Open => {}
            Lifecycle::Closing { deadline, .. } => {
                if deadline.is_none_or(|deadline| deadline > now) {
                    return Ok(());
                }
                self.give_up();
                return Err(Error::CloseTimeout { timeout: self.close_timeout });
            }
            Lifecycle::Closed => return Ok(()),
        }
        match self.heartbeat.handle_timeout(now) {
            Ok(()) => {
                self.encode_when_possible();
                Ok(())
            }
            Err(Unresponsive { silence }) => {
                let error = Error::Unresponsive { silence };
                self.give_up_with(&error);
                Err(error)
            }
        }
    }

    fn give_up(&mut self) {
        self.lifecycle = Lifecycle::Closed;
        self.controls.clear();
        self.controls_written = 0;
        self.message.clear();
        self.pong = None;
    }

    /// Gives up with a close frame as the last word, if no frame is written in part: behind that
    /// one the peer would not know it for a frame.
    fn give_up_with(&mut self, error: &Error) {
        let is_between_frames = self.controls_written == 0 && self.message.is_between_frames();
        self.give_up();
        if is_between_frames {
            let payload = close::payload(CloseCode::INTERNAL, &error.to_string());
            self.put(ControlOpcode::Close, &payload);
        }
    }

    /// Whether a control frame waits for the end of the WebSocket frame that is being written.
    fn has_waiting(&self) -> bool {
        match &self.lifecycle {
            Lifecycle::Open => self.pong.is_some() || self.heartbeat.wants_ping(),
            Lifecycle::Closing { frame: CloseFrame::Waiting(_), peer_is_done, .. } => {
                self.pong.is_some() || *peer_is_done
            }
            Lifecycle::Closing { .. } | Lifecycle::Closed => false,
        }
    }

    /// Encodes the control frames that wait, if no frame is written in part: what was once begun
    /// to be written keeps its place.
    fn encode_when_possible(&mut self) {
        if self.controls.is_empty() && self.message.is_between_frames() {
            self.encode_waiting();
        }
    }

    fn encode_waiting(&mut self) {
        if let Some(payload) = self.pong.take() {
            self.put(ControlOpcode::Pong, &payload);
        }
        if let Lifecycle::Open = self.lifecycle
            && self.heartbeat.take_ping()
        {
            self.put(ControlOpcode::Ping, &[]);
            self.pinging = true;
        }
        if let Lifecycle::Closing { frame, peer_is_done, .. } = &mut self.lifecycle
            && let CloseFrame::Waiting(payload) = frame
            && (*peer_is_done || self.message.is_done())
        {
            // Who has closed takes no message any more (RFC 6455, section 5.5.1).
            self.message.clear();
            let payload = std::mem::take(payload);
            *frame = CloseFrame::Encoded;
            self.put(ControlOpcode::Close, &payload);
        }
    }

    fn put(&mut self, kind: ControlOpcode, payload: &[u8]) {
        let key = self.keys.as_mut().map(Keys::draw);
        head::put_control(&mut self.controls, kind, payload, key);
    }
}
