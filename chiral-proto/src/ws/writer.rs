use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::protocol::frame::coding::Control as ControlOpcode;

use super::close::{self, CloseCode};
use super::control::{Control, Ending};
use super::error::Error;
use super::head;
use super::keepalive::{Due, Heartbeat};
use super::mask::Keys;
use super::outgoing::Outgoing;
use super::{Config, Role};
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
    heartbeat: Option<Heartbeat>,
    /// Encoded control frames; they go before the message.
    controls: Vec<u8>,
    controls_written: usize,
    /// Whether a ping is among them.
    pinging: bool,
    message: Outgoing,
    /// Control frames for which the message, or those before them, must be written first.
    waiting: Waiting,
    closing: Option<Closing>,
    /// Nothing can be sent any more.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The payload of the latest ping that is not answered: answering that one answers all.
    pong: Option<Bytes>,
    ping: bool,
    /// The payload of the close frame.
    close: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Closing {
    deadline: Option<Instant>,
    /// The close frame is among the encoded ones, or was written.
    encoded: bool,
    written: bool,
    /// The peer's close frame came, or none is awaited.
    peer_is_done: bool,
}

impl Writer {
    pub(super) fn new(now: Instant, role: Role, config: &Config) -> Self {
        Self {
            keys: match role {
                Role::Client { seed } => Some(Keys::new(seed)),
                Role::Server => None,
            },
            close_timeout: config.close_timeout,
            heartbeat: config.keepalive.map(|keepalive| Heartbeat::new(keepalive, now)),
            controls: Vec::new(),
            controls_written: 0,
            pinging: false,
            message: Outgoing::default(),
            waiting: Waiting::default(),
            closing: None,
            is_over: false,
        }
    }

    /// Whether [`push`](Self::push) takes a frame: the one before it is written, and the session
    /// is not being closed.
    ///
    /// Ask for the frame only now, from the state machine's `poll_transmit`: that is what makes an
    /// observation fresh and an action current when it leaves.
    pub fn wants_message(&self) -> bool {
        self.message.is_done() && self.closing.is_none() && !self.is_over
    }

    /// Sends a frame as one binary message. A server's segments are written from where they lie;
    /// a client's are masked into a buffer that is used again and again.
    ///
    /// # Errors
    /// Gives the frame back when [`wants_message`](Self::wants_message) is false.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if !self.wants_message() {
            return Err(frame);
        }
        self.encode_waiting();
        match &mut self.keys {
            Some(keys) => self.message.start_masked(&frame, keys.draw()),
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
        let (mut count, mut left) = (0, bytes);
        for (slice, chunk) in slices.iter_mut().zip(chunks.chain(self.message.rest())) {
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
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| count > 0) {
            heartbeat.progressed(now);
        }
        if of_controls > 0 && self.controls_written == self.controls.len() {
            self.controls_sent(now);
        }
        if !self.wants_write() {
            self.encode_waiting();
        }
    }

    fn controls_sent(&mut self, now: Instant) {
        self.controls.clear();
        self.controls_written = 0;
        if std::mem::take(&mut self.pinging)
            && let Some(heartbeat) = &mut self.heartbeat
        {
            heartbeat.ping_sent(now);
        }
        if let Some(closing) = &mut self.closing {
            closing.written = closing.encoded;
        }
    }

    /// Takes in what the reading half found: answers a ping, answers the peer's close, tells the
    /// peer of its error. It counts as a sign of life at `now`.
    pub fn handle(&mut self, now: Instant, control: Control) {
        if self.is_over {
            return;
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received(now);
        }
        if self.closing.is_none() {
            self.waiting.pong = control.ping.or(self.waiting.pong.take());
        }
        match control.end {
            None => {}
            Some(Ending::Lost) => self.give_up(),
            Some(Ending::Closed(code)) => self.close_for_peer(now, code, ""),
            Some(Ending::Failed { code, reason }) => self.close_for_peer(now, code, &reason),
        }
        if !self.wants_write() {
            self.encode_waiting();
        }
    }

    fn close_for_peer(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.close(now, code, reason);
        if let Some(closing) = &mut self.closing {
            closing.peer_is_done = true;
        }
    }

    /// Closes the session: a close frame goes out behind the message that is being written, and
    /// nothing after it. The reason is cut to 123 bytes. Go on reading and writing until
    /// [`is_finished`](Self::is_finished).
    ///
    /// A code that may not be sent ([`CloseCode::may_be_sent`]) leaves the frame without code and
    /// reason. When the session is being closed already, this does nothing.
    pub fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        if self.closing.is_some() || self.is_over {
            return;
        }
        self.waiting.close = Some(close::payload(code, reason));
        self.closing = Some(Closing {
            deadline: now.checked_add(self.close_timeout),
            encoded: false,
            written: false,
            peer_is_done: false,
        });
        if !self.wants_write() {
            self.encode_waiting();
        }
    }

    /// Whether the session is over in this direction: both close frames went, the peer's was
    /// answered, its error was told, or the connection is given up. Shut the stream down for
    /// writing then; reading on until it ends, for a moment, keeps the last bytes from being lost.
    pub fn is_finished(&self) -> bool {
        let is_closed =
            self.closing.as_ref().is_some_and(|closing| closing.written && closing.peer_is_done);
        self.is_over || is_closed
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It changes with every
    /// other call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_finished() {
            return None;
        }
        match &self.closing {
            Some(closing) => closing.deadline,
            None => self.heartbeat.as_ref()?.deadline(),
        }
    }

    /// Does what is due at `now`: sends a ping, or finds that the peer is gone. Read what has
    /// arrived first: after a long pause of this process, it may hold the sign of life.
    ///
    /// # Errors
    /// [`Error::Unresponsive`] or [`Error::CloseTimeout`], once: the session is over, drop the
    /// connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.is_finished() {
            return Ok(());
        }
        if let Some(closing) = &self.closing {
            if closing.deadline.is_none_or(|deadline| deadline > now) {
                return Ok(());
            }
            self.give_up();
            return Err(Error::CloseTimeout { timeout: self.close_timeout });
        }
        let Some(heartbeat) = &mut self.heartbeat else {
            return Ok(());
        };
        match heartbeat.due(now) {
            None => {}
            Some(Due::Ping) => {
                self.waiting.ping = true;
                if !self.wants_write() {
                    self.encode_waiting();
                }
            }
            Some(Due::Dead) => {
                let silence = heartbeat.timeout();
                self.give_up();
                return Err(Error::Unresponsive { silence });
            }
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.is_over = true;
        self.controls.clear();
        self.controls_written = 0;
        self.message.clear();
        self.waiting = Waiting::default();
    }

    /// Puts the control frames that wait behind the encoded ones. This happens only when nothing
    /// is being written, or right before a message: what was once given to be written keeps its
    /// place.
    fn encode_waiting(&mut self) {
        let Waiting { pong, ping, close } = std::mem::take(&mut self.waiting);
        if let Some(payload) = pong {
            self.put(ControlOpcode::Pong, &payload);
        }
        if ping {
            self.put(ControlOpcode::Ping, &[]);
            self.pinging = true;
        }
        if let (Some(payload), Some(closing)) = (close, &mut self.closing) {
            closing.encoded = true;
            self.put(ControlOpcode::Close, &payload);
        }
    }

    fn put(&mut self, kind: ControlOpcode, payload: &[u8]) {
        let key = self.keys.as_mut().map(Keys::draw);
        head::put_control(&mut self.controls, kind, payload, key);
    }
}
