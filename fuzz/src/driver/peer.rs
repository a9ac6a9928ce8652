//! What a peer of the driver sends and reads: handshakes, WebSocket frames, chiral messages.

use arbitrary::Arbitrary;
use tungstenite::handshake::derive_accept_key;

use super::stream::{End, Remote};
use crate::machines::{Hostile, Kind};

/// First bytes of frames: the last of its message, and the opcode.
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
const START: u8 = 0x02;
const LAST: u8 = 0x80;

/// What the peer of a stream does, whichever side it is.
#[derive(Debug, Arbitrary)]
pub enum PeerOp {
    Ping(u8),
    Pong(u8),
    Close(u16),
    Hostile(Hostile),
    /// Any frame: its first byte and its payload, with the mask as it should be or not.
    Frame(u8, Vec<u8>, bool),
    Bytes(Vec<u8>),
    EndReads(End),
    EndWrites(End),
    /// How much the driver may write from now on; `None` for all.
    Room(Option<u8>),
    /// How much a read and a write move at the most.
    Steps(u8, u8),
    WakeEarly(bool),
}

/// What a peer knows of its connection.
pub struct Peer {
    pub remote: Remote,
    /// Whether the peer masks: it is a client.
    masks: bool,
    /// Everything that was sent is what a correct peer sends.
    pub is_honest: bool,
    /// The driver can write all it has.
    pub has_room: bool,
}

impl Peer {
    pub fn new(remote: Remote, masks: bool) -> Self {
        Self { remote, masks, is_honest: true, has_room: true }
    }

    /// `honest` makes the valid messages that are corrupted.
    pub fn does(&mut self, op: PeerOp, honest: impl FnOnce(Kind) -> chiral_proto::wire::Frame) {
        match op {
            PeerOp::Ping(len) => self.send_frame(PING, &[7; 125][..usize::from(len).min(125)]),
            PeerOp::Pong(len) => self.send_frame(PONG, &[7; 125][..usize::from(len).min(125)]),
            PeerOp::Close(code) => {
                self.is_honest = false;
                self.send_frame(CLOSE, &code.to_be_bytes());
            }
            PeerOp::Hostile(hostile) => {
                self.is_honest = false;
                self.send_frame(BINARY, &hostile.message(honest));
            }
            PeerOp::Frame(first, payload, masks) => {
                self.is_honest = false;
                self.remote.send(&frame(first, &payload, masks));
            }
            PeerOp::Bytes(bytes) => {
                self.is_honest &= bytes.is_empty();
                self.remote.send(&bytes);
            }
            PeerOp::EndReads(end) => {
                self.is_honest = false;
                self.remote.end_reads(end);
            }
            PeerOp::EndWrites(end) => {
                self.is_honest = false;
                self.remote.end_writes(end);
            }
            PeerOp::Room(room) => {
                self.has_room = room.is_none();
                self.remote.set_room(room.map_or(usize::MAX, usize::from));
            }
            PeerOp::Steps(read, write) => {
                let unlimited = |step: u8| if step == u8::MAX { usize::MAX } else { step.into() };
                self.remote.set_steps(unlimited(read), unlimited(write));
            }
            PeerOp::WakeEarly(reads) => self.remote.wake_early(reads),
        }
    }

    /// Sends a message, in two frames if it is cut.
    pub fn send_message(&mut self, message: &[u8], cut: Option<u8>) {
        match cut {
            None => self.send_frame(BINARY, message),
            Some(cut) => {
                let (first, rest) = message.split_at(usize::from(cut).min(message.len()));
                self.send_frame(START, first);
                self.send_frame(LAST, rest);
            }
        }
    }

    fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.remote.send(&frame(first, payload, self.masks));
    }

    /// What the driver has written, as [`read_written`] reads it.
    pub fn read(&self) -> Written {
        read_written(self.remote.written(), !self.masks)
    }
}

/// What one side has written, read as HTTP and WebSocket; `masks` says whether it is a client.
///
/// # Panics
/// When it cannot be read: a finding.
pub fn read_written(bytes: Vec<u8>, masks: bool) -> Written {
    let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Written { head: bytes, ..Written::default() };
    };
    let head = bytes[..end + 4].to_vec();
    let mut written = Written { head, is_open: true, ..Written::default() };
    if written.head.starts_with(b"HTTP/1.1 ") && !written.head.starts_with(b"HTTP/1.1 101") {
        written.is_open = false;
        return written;
    }
    let mut rest = &bytes[end + 4..];
    let mut message: Option<Vec<u8>> = None;
    while let Some((first, payload)) = split_frame(&mut rest, masks) {
        assert!(!written.is_closed, "a frame behind the close");
        match first & 0x0f {
            2 => assert!(message.replace(payload).is_none(), "a message within a message"),
            0 => message.as_mut().expect("a continuation of nothing").extend(payload),
            8 => written.is_closed = true,
            9 | 10 => assert!(payload.len() <= 125 && first & 0x80 != 0),
            _ => panic!("a frame that begins with {first:#x}"),
        }
        if first & 0x88 == 0x80 {
            written.messages.push(message.take().expect("the end of a message"));
        }
    }
    assert!(!written.is_closed || rest.is_empty(), "bytes behind the close");
    written
}

/// What the driver has written.
#[derive(Default)]
pub struct Written {
    /// The handshake, or what there is of it.
    pub head: Vec<u8>,
    /// The handshake is complete and no refusal.
    pub is_open: bool,
    /// Whole messages.
    pub messages: Vec<Vec<u8>>,
    /// A close came last.
    pub is_closed: bool,
}

/// A frame as RFC 6455 defines it.
pub fn frame(first: u8, payload: &[u8], masks: bool) -> Vec<u8> {
    let mask = if masks { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(mask + len as u8),
        len @ 126..65536 => {
            out.push(mask + 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(mask + 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = if masks { [0xa5, 1, 0, 0xff] } else { [0; 4] };
    out.extend(masks.then_some(key).iter().flatten());
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Takes a frame off the front, if it is there as a whole.
fn split_frame(rest: &mut &[u8], masks: bool) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*rest.first()?, *rest.get(1)?);
    assert_eq!(first & 0x70, 0, "a reserved bit");
    assert_eq!(second & 0x80 != 0, masks, "a mask where none belongs, or none where one does");
    let (len, mut at) = match second & 0x7f {
        126 => (u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?), 10),
        len => (len.into(), 2),
    };
    let mut key = [0; 4];
    if masks {
        key = rest.get(at..at + 4)?.try_into().ok()?;
        at += 4;
    }
    let end = at + usize::try_from(len).expect("a sensible length");
    let payload = rest.get(at..end)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    *rest = &rest[end..];
    Some((first, payload))
}

/// A client's handshake.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8765\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// A server's answer to a client's handshake.
///
/// # Panics
/// When that has no key: a finding.
pub fn response_to(request: &[u8]) -> Vec<u8> {
    let request = std::str::from_utf8(request).expect("a handshake is text");
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
    });
    let accept = derive_accept_key(key.expect("a handshake has a key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// A handshake with a byte changed, or cut off.
#[derive(Debug, Arbitrary)]
pub enum Bend {
    Byte { at: u16, to: u8 },
    Cut(u16),
    Insert { at: u16, bytes: Vec<u8> },
}

impl Bend {
    pub fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Byte { at, to } => {
                let at = usize::from(at) % bytes.len();
                bytes[at] = to;
            }
            Self::Cut(len) => bytes.truncate(len.into()),
            Self::Insert { at, bytes: inserted } => {
                let at = usize::from(at) % bytes.len();
                bytes.splice(at..at, inserted);
            }
        }
    }
}
