//! Frames by hand, a network in memory, and a session at its end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::{Config, Error, Role, Session};

/// Bytes of an observation with 8 cameras of 640x480 RGB-D.
pub(crate) const OBSERVATION: usize = 17_203_200;

pub(crate) const CLIENT: Role = Role::Client { seed: [42; 32] };

/// Where virtual time begins.
#[expect(clippy::disallowed_methods, reason = "an instant has no other origin")]
pub(crate) fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A message of which every byte tells where it stands; it begins with a chiral header's length.
pub(crate) fn message(len: usize) -> Bytes {
    let mut message: Vec<u8> = (0..len).map(|index| (index ^ index >> 8 ^ len) as u8).collect();
    let header = (len.saturating_sub(4) % 1000) as u32;
    let prefix = len.min(4);
    message[..prefix].copy_from_slice(&header.to_le_bytes()[..prefix]);
    message.into()
}

/// A chiral frame of `len` bytes, at least 4, in several segments.
pub(crate) fn frame(len: usize) -> Frame {
    let message = message(len);
    let segments = (0..10).map(|part| message.slice(part * len / 10..(part + 1) * len / 10));
    Frame::parse_segments(segments, &Limits::default()).expect("a frame")
}

/// What a WebSocket frame's first byte says: the last of its message, and the opcode.
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUE: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A WebSocket frame by the letter of RFC 6455, masked when `mask` says so.
pub(crate) fn raw(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = match payload.len() {
        len @ 0..126 => vec![first, masked + len as u8],
        len @ 126..65536 => vec![first, masked + 126, (len >> 8) as u8, len as u8],
        len => [&[first, masked + 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    bytes.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The frames in a stream of unmasked or masked frames: first byte and payload.
pub(crate) fn parse_raw(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let head = take(&mut bytes, 2);
        let len = match head[1] & 0x7f {
            126 => take(&mut bytes, 2).iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            127 => take(&mut bytes, 8).iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            len => usize::from(len),
        };
        let key = if head[1] & 0x80 == 0 { &[0; 4] } else { take(&mut bytes, 4) };
        let payload = take(&mut bytes, len).iter().zip(key.iter().cycle());
        frames.push((head[0], payload.map(|(byte, key)| byte ^ key).collect()));
    }
    frames
}

/// Bytes under way in both directions.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) to_ours: VecDeque<u8>,
    pub(crate) to_theirs: VecDeque<u8>,
}

/// The other side's end of the wire, as a stream that never blocks. It takes and gives at most
/// `step` bytes at once.
#[derive(Clone)]
pub(crate) struct Theirs {
    pub(crate) wire: Rc<RefCell<Wire>>,
    pub(crate) step: usize,
}

impl Read for Theirs {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        let count = buffer.len().min(self.step);
        match move_bytes(&mut wire.to_theirs, &mut buffer[..count]) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Theirs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.step);
        self.wire.borrow_mut().to_ours.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn move_bytes(from: &mut VecDeque<u8>, to: &mut [u8]) -> usize {
    let mut count = 0;
    while count < to.len() && !from.is_empty() {
        let piece = from.as_slices().0;
        let len = piece.len().min(to.len() - count);
        to[count..count + len].copy_from_slice(&piece[..len]);
        from.drain(..len);
        count += len;
    }
    count
}

/// A session at its end of a wire, which reads and writes at most `step` bytes at once.
pub(crate) struct Ours {
    pub(crate) now: Instant,
    pub(crate) session: Session,
    pub(crate) wire: Rc<RefCell<Wire>>,
    pub(crate) step: usize,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) end: Option<Error>,
}

impl Ours {
    pub(crate) fn new(role: Role, config: &Config) -> Self {
        Self {
            now: epoch(),
            session: Session::new(epoch(), role, config, &[]),
            wire: Rc::default(),
            step: usize::MAX,
            messages: Vec::new(),
            end: None,
        }
    }

    /// The other end of the wire.
    pub(crate) fn theirs(&self) -> Theirs {
        Theirs { wire: Rc::clone(&self.wire), step: self.step }
    }

    /// Reads everything that is under way to this side.
    pub(crate) fn read(&mut self) {
        loop {
            let room = self.session.reader.read_buf();
            let count = room.len().min(self.step);
            match move_bytes(&mut self.wire.borrow_mut().to_ours, &mut room[..count]) {
                0 => return,
                count => self.session.reader.bytes_read(count),
            }
            self.poll();
        }
    }

    pub(crate) fn end_of_stream(&mut self) {
        self.session.reader.bytes_read(0);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(found) = self.session.poll(self.now) {
            assert_eq!(self.end, None, "nothing comes after the end");
            match found {
                Ok(message) => self.messages.push(message),
                Err(error) => self.end = Some(error),
            }
        }
    }

    /// Reads these bytes.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.wire.borrow_mut().to_ours.extend(bytes);
        self.read();
    }

    /// Writes everything that is to be written.
    pub(crate) fn write(&mut self) {
        while self.write_some(self.step) > 0 {}
    }

    /// Writes at most `limit` bytes with one gather write, and returns how many.
    pub(crate) fn write_some(&mut self, limit: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = self.session.writer.transmit(&mut slices);
        assert_eq!(count > 0, self.session.writer.wants_write());
        let mut written = 0;
        for slice in &slices[..count] {
            assert!(!slice.is_empty());
            let len = slice.len().min(limit - written);
            self.wire.borrow_mut().to_theirs.extend(&slice[..len]);
            written += len;
        }
        self.session.writer.bytes_written(self.now, written);
        written
    }

    /// The frames that were written since the last call.
    pub(crate) fn written(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.write();
        let bytes: Vec<u8> = self.wire.borrow_mut().to_theirs.drain(..).collect();
        parse_raw(&bytes)
    }
}

/// A close frame's payload.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}
