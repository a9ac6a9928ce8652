use bytes::Bytes;
use tungstenite::protocol::frame::coding::{Control as ControlOpcode, Data, OpCode};

use super::assembly::Assembly;
use super::close::CloseCode;
use super::control::Control;
use super::error::Error;
use super::head::Head;
use super::mask::{self, Key};
use super::stage::Stage;
use super::{Config, Role};
use crate::pool::BufferPool;

/// Bytes of the staging buffer: messages that fit are copied out of it, longer ones are read
/// straight into a buffer of their own.
const STAGE: usize = 16 << 10;
/// The rest of a frame that is worth a read of its own; a shorter one is read together with what
/// comes behind it.
const DIRECT: usize = 4 << 10;
/// The room for what stands between a message's large fragments, a header and seldom a control
/// frame: what is read beyond that is copied.
const BETWEEN: usize = 64;
/// Fragments from this length on are large.
const LARGE: usize = 64 << 10;
/// No buffer can be longer, whatever the limit says; sums of lengths stay below `usize::MAX`.
const MAX_LIMIT: usize = isize::MAX as usize / 2;

/// What a [`Reader`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole binary message: one chiral frame, for
    /// [`Frame::parse`](crate::wire::Frame::parse).
    ///
    /// A message over 16 KiB lies in a recycled buffer, its chiral payload at a 64-byte boundary;
    /// the buffer is used again when the last handle to it goes.
    Message(Bytes),
    /// To be handed to [`Writer::handle`](super::Writer::handle).
    Control(Control),
    /// The session is over; nothing comes after this.
    End(Error),
}

/// The reading half of a session: bytes in, messages out.
///
/// ```
/// use std::io::{self, Read};
/// use chiral_proto::ws::{Incoming, Reader};
///
/// fn read(mut socket: impl Read, mut reader: Reader) -> io::Result<()> {
///     loop {
///         let count = socket.read(reader.read_buf())?;
///         reader.bytes_read(count);
///         while let Some(incoming) = reader.poll() {
///             match incoming {
///                 Incoming::Message(message) => println!("{} bytes", message.len()),
///                 Incoming::Control(control) => { /* goes to the writing half */ }
///                 Incoming::End(reason) => return Err(io::Error::other(reason)),
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Reader {
    peer_masks: bool,
    limit: usize,
    pool: BufferPool,
    stage: Stage,
    /// The message of which at least one frame has begun outside the stage.
    assembly: Option<Assembly>,
    /// The frame whose payload is arriving for the assembly.
    body: Option<Body>,
    /// The payload of the assembly's latest frame, if that is over, in bytes.
    last_fragment: usize,
    /// The length of the last message that was no small one: the next one is likely as long.
    usual_len: usize,
    granted: Granted,
    /// Bytes arrived of which the writing half does not know yet.
    alive: bool,
    lifecycle: Lifecycle,
}

/// The payload of a data frame that is arriving.
#[derive(Debug)]
struct Body {
    mask: Option<Key>,
    arrived: usize,
    remaining: usize,
    is_final: bool,
}

/// The place that the last `read_buf` gave away, and its length.
#[derive(Debug, Clone, Copy)]
enum Granted {
    Nothing,
    Stage(usize),
    Assembly(usize),
}

/// How far the receiving direction is from its end.
///
/// ```text
///           end of stream                    its bytes are used up
///   Open ───────────────────► StreamEnded ──────────────────────────► Ending ────────► Ended
///     └───────── close frame, violation ─────┴─────────────────────────►│  told to the caller
/// ```
#[derive(Debug)]
enum Lifecycle {
    /// Bytes are taken.
    Open,
    /// The stream has ended; what arrived before is still to be looked at.
    StreamEnded,
    /// The writing half was told why, the caller not yet.
    Ending(Error),
    /// The caller was told. Nothing comes any more.
    Ended,
}

impl Reader {
    /// A reader that has received `surplus` already: what came behind the opening handshake.
    pub(super) fn new(role: Role, config: &Config, surplus: &[u8]) -> Self {
        Self {
            peer_masks: matches!(role, Role::Server),
            limit: config.limits.frame_len.min(MAX_LIMIT),
            pool: config.memory.pool(config.recycled_buffers),
            stage: Stage::new(STAGE, surplus),
            assembly: None,
            body: None,
            last_fragment: 0,
            usual_len: 0,
            granted: Granted::Nothing,
            alive: !surplus.is_empty(),
            lifecycle: Lifecycle::Open,
        }
    }

    /// Where the next bytes of the stream go; never empty. What stands in it is arbitrary.
    ///
    /// # Panics
    /// When [`poll`](Self::poll) was not called until it gave `None` after earlier bytes, and
    /// there is no room left.
    pub fn read_buf(&mut self) -> &mut [u8] {
        let is_between =
            self.assembly.is_some() && self.body.is_none() && self.last_fragment >= LARGE;
        let place = match (&mut self.assembly, &self.body) {
            (Some(assembly), Some(body))
                if body.remaining >= DIRECT && assembly.is_placed() && self.stage.is_empty() =>
            {
                let room = assembly.room(body.remaining);
                self.granted = Granted::Assembly(room.len());
                room
            }
            _ => {
                let room = self.stage.room();
                let len = if is_between { room.len().min(BETWEEN) } else { room.len() };
                self.granted = Granted::Stage(len);
                &mut room[..len]
            }
        };
        assert!(!place.is_empty(), "call `poll` until it gives `None` before reading more");
        place
    }

    /// The stream put `count` bytes at the start of the last [`read_buf`](Self::read_buf); 0 says
    /// that it has ended, be it by an error.
    ///
    /// # Panics
    /// When `count` is more than that had room for.
    pub fn bytes_read(&mut self, count: usize) {
        if count == 0 {
            if let Lifecycle::Open = self.lifecycle {
                self.lifecycle = Lifecycle::StreamEnded;
            }
            return;
        }
        let granted = std::mem::replace(&mut self.granted, Granted::Nothing);
        let room = match granted {
            Granted::Nothing => 0,
            Granted::Stage(room) | Granted::Assembly(room) => room,
        };
        assert!(count <= room, "{count} bytes read into room for {room}");
        if !matches!(self.lifecycle, Lifecycle::Open) {
            return; // nobody will look at them
        }
        self.alive = true;
        match (granted, &mut self.assembly, &mut self.body) {
            (Granted::Assembly(_), Some(assembly), Some(body)) => {
                body.take(assembly.fill(count));
            }
            _ => self.stage.fill(count),
        }
    }

    /// What the bytes so far amount to, one thing at a time; `None` when more bytes are needed.
    pub fn poll(&mut self) -> Option<Incoming> {
        match std::mem::replace(&mut self.lifecycle, Lifecycle::Ended) {
            Lifecycle::Ending(error) => return Some(Incoming::End(error)),
            Lifecycle::Ended => return None,
            receiving => self.lifecycle = receiving,
        }
        let found = loop {
            match self.step() {
                Ok(Step::Done) => {}
                Ok(Step::Found(found)) => break Some(found),
                Ok(Step::Starved) => match self.lifecycle {
                    Lifecycle::Open => break None,
                    _ => break Some(self.finish(Error::Lost { inside_message: self.is_inside() })),
                },
                Err(error) => break Some(self.finish(error)),
            }
        };
        match found {
            None if self.alive => {
                self.alive = false;
                Some(Incoming::Control(Control::alive()))
            }
            Some(Incoming::Control(control)) => {
                self.alive = false; // every control is a sign of life
                Some(Incoming::Control(control))
            }
            other => other,
        }
    }

    /// Ends the session: the writing half is told first.
    fn finish(&mut self, error: Error) -> Incoming {
        let control = Control::end(&error);
        self.lifecycle = Lifecycle::Ending(error);
        self.stage.clear();
        self.assembly = None;
        self.body = None;
        Incoming::Control(control)
    }

    fn is_inside(&self) -> bool {
        self.assembly.is_some() || !self.stage.is_empty()
    }

    fn step(&mut self) -> Result<Step, Error> {
        if self.body.is_some() {
            return Ok(self.continue_body());
        }
        let Some(head) = Head::parse(self.stage.filled(), self.peer_masks)? else {
            return Ok(Step::Starved);
        };
        match head.opcode {
            OpCode::Control(kind) => self.control(&head, kind),
            OpCode::Data(kind) => self.data(&head, kind),
        }
    }

    /// Moves what the stage holds of the current frame's payload to the message.
    fn continue_body(&mut self) -> Step {
        let (Some(body), Some(assembly)) = (&mut self.body, &mut self.assembly) else {
            return Step::Starved;
        };
        let staged = self.stage.filled();
        let count = staged.len().min(body.remaining);
        let bytes = &mut staged[..count];
        body.take(bytes);
        assembly.append(bytes);
        self.stage.consume(count);
        if body.remaining > 0 {
            return Step::Starved;
        }
        let is_final = body.is_final;
        self.last_fragment = body.arrived;
        self.body = None;
        match self.assembly.take_if(|_| is_final) {
            Some(assembly) => {
                self.usual_len = assembly.len();
                Step::message(assembly.finish(self.stage.capacity()))
            }
            None => Step::Done,
        }
    }

    fn control(&mut self, head: &Head, kind: ControlOpcode) -> Result<Step, Error> {
        let Some(payload) = self.staged_payload(head) else {
            return Ok(Step::Starved);
        };
        let control = match kind {
            ControlOpcode::Ping => Control::ping(payload),
            ControlOpcode::Close => return Err(closed(payload)),
            // A pong is no more than any other sign of life.
            ControlOpcode::Pong | ControlOpcode::Reserved(_) => Control::alive(),
        };
        self.stage.consume(head.size + head.len as usize);
        Ok(Step::Found(Incoming::Control(control)))
    }

    fn data(&mut self, head: &Head, kind: Data) -> Result<Step, Error> {
        match (kind, &self.assembly) {
            (Data::Continue, None) => return Err(Error::UnexpectedContinuation),
            (Data::Text | Data::Binary, Some(_)) => return Err(Error::ExpectedContinuation),
            (Data::Text, None) => return Err(Error::Text),
            _ => {}
        }
        let assembled = self.assembly.as_ref().map_or(0, Assembly::len);
        let message_len = assembled as u64 + head.len;
        if message_len > self.limit as u64 {
            return Err(Error::TooLong { len: message_len, limit: self.limit });
        }
        let len = head.len as usize;
        let is_whole = head.is_final && self.assembly.is_none();
        if is_whole && len <= self.stage.capacity() - head.size {
            let Some(payload) = self.staged_payload(head) else {
                return Ok(Step::Starved);
            };
            let message = Bytes::copy_from_slice(payload);
            self.stage.consume(head.size + len);
            return Ok(Step::message(message));
        }
        self.stage.consume(head.size);
        let message_len = message_len as usize;
        let likely = Some(self.usual_len).filter(|usual| *usual >= message_len);
        let expected = if head.is_final { Some(message_len) } else { likely };
        let assembly = self
            .assembly
            .get_or_insert_with(|| Assembly::new(&self.pool, expected.unwrap_or(message_len)));
        assembly.expect(expected);
        self.body =
            Some(Body { mask: head.mask, arrived: 0, remaining: len, is_final: head.is_final });
        Ok(Step::Done)
    }

    /// The unmasked payload of the frame that the stage begins with, once it is there whole.
    fn staged_payload(&mut self, head: &Head) -> Option<&[u8]> {
        let payload = self.stage.filled().get_mut(head.size..head.size + head.len as usize)?;
        if let Some(key) = head.mask {
            mask::apply(payload, key, 0);
        }
        Some(payload)
    }
}

impl Body {
    /// Takes in the payload's next bytes, unmasking them.
    fn take(&mut self, bytes: &mut [u8]) {
        if let Some(key) = self.mask {
            mask::apply(bytes, key, self.arrived);
        }
        self.arrived += bytes.len();
        self.remaining -= bytes.len();
    }
}

enum Step {
    /// Something was taken in; there may be more.
    Done,
    Found(Incoming),
    /// More bytes are needed.
    Starved,
}

impl Step {
    fn message(message: Bytes) -> Self {
        Self::Found(Incoming::Message(message))
    }
}

/// What a close frame's payload says.
fn closed(payload: &[u8]) -> Error {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Error::Closed { code: CloseCode::NO_STATUS, reason: String::new() },
            _ => Error::ShortClose,
        };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    match std::str::from_utf8(reason) {
        _ if !code.may_be_sent() => Error::InvalidCloseCode(code.0),
        Ok(reason) => Error::Closed { code, reason: reason.to_owned() },
        Err(error) => Error::InvalidCloseReason { valid_up_to: error.valid_up_to() },
    }
}
