//! The WebSocket session against tungstenite: it delivers no message that tungstenite does not,
//! ends where tungstenite ends or earlier, and tungstenite can read what it writes.
//!
//! The input's first byte is the role, the second how many bytes are moved at once; the rest is the
//! peer's byte stream.
#![no_main]

use std::io::{self, IoSlice, Read, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::{CloseCode, Config, Error, Role, Session};
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const SEED: [u8; 32] = [42; 32];
/// Messages over this are refused on both sides: so that no input takes long, and so that
/// tungstenite, which allocates what is announced up to four times this, stays within the
/// `-malloc_limit_mb` of the README.
const LIMIT: usize = 1 << 17;

fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [flags, step, bytes @ ..] = data else { return };
    let is_server = flags & 1 == 1;
    let step = usize::from(*step).max(1);
    let role = if is_server { Role::Server } else { Role::Client { seed: SEED } };
    let limits = Limits { frame_len: LIMIT, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let mut session = Session::new(epoch(), role, &config, &bytes[..bytes.len().min(step / 2)]);
    let mut now = epoch();

    let (ours, end) = receive(&mut session, &mut now, bytes, step);
    let theirs = tungstenite_receives(is_server, bytes);
    assert!(theirs.delivered.starts_with(&ours), "we delivered what tungstenite did not");
    match &end {
        None => assert!(theirs.failure.is_none() && !theirs.closed && !theirs.text, "{theirs:?}"),
        Some(Error::Closed { .. }) => assert!(theirs.closed, "{theirs:?}"),
        // Tungstenite allows it, or notices it only when the message is complete.
        Some(
            Error::Text
            | Error::InvalidCloseCode(_)
            | Error::LengthNotMinimal(_)
            | Error::TooLong { .. },
        ) => {}
        // We notice it in the frame's header, tungstenite only when the frame is complete.
        Some(error) if theirs.failure.is_none() => {
            let whole = [bytes, &vec![0; 4 * LIMIT + 16]].concat();
            let theirs = tungstenite_receives(is_server, &whole);
            assert!(theirs.failure.is_some(), "only we found: {error}");
        }
        Some(_) => {}
    }
    write_back(&mut session, now, is_server, step, end.is_some());
});

/// Feeds the bytes to our session in small pieces, and collects its messages up to its end.
fn receive(
    session: &mut Session,
    now: &mut Instant,
    bytes: &[u8],
    step: usize,
) -> (Vec<Bytes>, Option<Error>) {
    let mut messages = Vec::new();
    // The beginning was given as surplus of the handshake.
    let mut rest = &bytes[bytes.len().min(step / 2)..];
    loop {
        while let Some(found) = session.poll(*now) {
            match found {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, Some(error)),
            }
        }
        if rest.is_empty() {
            return (messages, None);
        }
        let room = session.reader.read_buf();
        let count = room.len().min(step).min(rest.len());
        room[..count].copy_from_slice(&rest[..count]);
        session.reader.bytes_read(count);
        rest = &rest[count..];
        *now += Duration::from_millis(1);
    }
}

/// A frame, a close, and whatever the peer's bytes called for: tungstenite must be able to read all
/// of it.
fn write_back(session: &mut Session, now: Instant, is_server: bool, step: usize, ended: bool) {
    let message = Bytes::from_static(b"\x00\x00\x00\x00 and some payload");
    let frame = Frame::parse(message.clone(), &Limits::default()).expect("it is a frame");
    let pushed = session.writer.push(frame).is_ok();
    assert!(pushed || ended, "an idle writer takes a frame");
    session.writer.close(now, CloseCode::GOING_AWAY, "the input is at its end");
    let mut written = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = session.writer.transmit(&mut slices);
        let Some(slice) = slices[..count].first() else { break };
        let len = slice.len().min(step);
        assert!(len > 0, "a slice to be written is empty");
        written.extend_from_slice(&slice[..len]);
        session.writer.bytes_written(now, len);
        assert!(written.len() < 10_000, "the writer does not come to an end");
    }
    let read = tungstenite_receives(!is_server, &written);
    assert!(read.failure.is_none(), "tungstenite cannot read ours: {read:?}");
    assert_eq!(read.delivered, if pushed { vec![message] } else { vec![] });
    assert!(read.closed || written.is_empty());
}

/// What tungstenite reads from a stream.
#[derive(Debug, Default)]
struct Theirs {
    delivered: Vec<Bytes>,
    closed: bool,
    text: bool,
    failure: Option<tungstenite::Error>,
}

fn tungstenite_receives(is_server: bool, bytes: &[u8]) -> Theirs {
    let role = if is_server { TheirRole::Server } else { TheirRole::Client };
    // Above this, tungstenite allocates as soon as a length is announced, and may panic.
    let config = WebSocketConfig::default()
        .max_message_size(Some(4 * LIMIT))
        .max_frame_size(Some(4 * LIMIT));
    let mut socket = WebSocket::from_raw_socket(Stream(bytes), role, Some(config));
    let mut found = Theirs::default();
    loop {
        match socket.read() {
            Ok(Message::Binary(message)) => found.delivered.push(message),
            Ok(Message::Close(_)) => found.closed = true,
            Ok(Message::Text(_)) => found.text = true,
            Ok(_) => {}
            Err(tungstenite::Error::Io(_) | tungstenite::Error::ConnectionClosed) => return found,
            Err(error) => {
                found.failure = Some(error);
                return found;
            }
        }
    }
}

/// A stream that yields only these bytes and discards what is written.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
