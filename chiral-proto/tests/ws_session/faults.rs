//! Every way to break the protocol is answered with its code and a reason, and ends the session.

use bytes::Bytes;
use chiral_proto::wire::Limits;
use chiral_proto::ws::{CloseCode, Config, Error, Role};

use crate::support::{
    BINARY, CLIENT, CLOSE, CONTINUE, FIN, Ours, PING, TEXT, close_payload, message, raw,
};

const LIMIT: usize = 100_000;
const KEY: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn open(role: Role) -> Ours {
    let limits = Limits { frame_len: LIMIT, ..Limits::default() };
    Ours::new(role, &Config { limits, ..Config::default() })
}

/// Feeds the bytes, in one piece and in single bytes, behind a good message and before another
/// one, and expects this error.
fn expect(role: Role, bytes: &[u8], error: &Error) {
    let mask = if role == Role::Server { KEY } else { None };
    for step in [usize::MAX, 1] {
        let mut ours = open(role);
        ours.step = step;
        ours.receive(&raw(FIN | BINARY, b"before", mask));
        ours.receive(bytes);
        ours.receive(&raw(FIN | BINARY, b"after", mask));
        assert_eq!(ours.end.as_ref(), Some(error));
        assert_eq!(ours.messages, ["before"], "{error}");
        assert!(!ours.session.writer.is_finished() && !ours.session.writer.wants_message());
        let [(CLOSE, payload)] = &ours.written()[..] else { panic!("one close frame: {error}") };
        let (code, reason) = payload.split_at(2);
        assert_eq!(code, error.close_code().0.to_be_bytes());
        assert!(error.to_string().as_bytes().starts_with(reason) && !reason.is_empty());
        assert!(ours.session.writer.is_finished(), "no answer is awaited after {error}");
        // The rest of the stream is swallowed, the adapter can drain it.
        ours.receive(&vec![0xff; 100_000]);
        assert_eq!(ours.written(), []);
    }
}

#[test]
fn header_bits() {
    for bits in 1..8 {
        let bytes = raw(FIN | BINARY | bits << 4, b"x", None);
        expect(CLIENT, &bytes, &Error::ReservedBits { bits });
    }
    for opcode in (3..8).chain(11..16) {
        expect(CLIENT, &raw(FIN | opcode, b"", None), &Error::ReservedOpcode(opcode));
        expect(Role::Server, &raw(FIN | opcode, b"", KEY), &Error::ReservedOpcode(opcode));
    }
}

#[test]
fn masks() {
    expect(CLIENT, &raw(FIN | BINARY, b"x", KEY), &Error::Masked);
    expect(CLIENT, &raw(PING, b"", KEY), &Error::Masked);
    expect(Role::Server, &raw(FIN | BINARY, b"x", None), &Error::Unmasked);
    expect(Role::Server, &raw(CLOSE, b"", None), &Error::Unmasked);
}

#[test]
fn control_frames() {
    expect(CLIENT, &raw(PING & !FIN, b"", None), &Error::FragmentedControl);
    expect(CLIENT, &raw(CLOSE & !FIN, b"", None), &Error::FragmentedControl);
    expect(CLIENT, &raw(PING, &[0; 126], None), &Error::LongControl(126));
    expect(CLIENT, &raw(CLOSE, &vec![0; 70_000], None), &Error::LongControl(70_000));
}

#[test]
fn fragments() {
    expect(CLIENT, &raw(FIN | CONTINUE, b"x", None), &Error::UnexpectedContinuation);
    expect(CLIENT, &raw(CONTINUE, b"", None), &Error::UnexpectedContinuation);
    for (next, payload) in [(FIN | BINARY, &b"y"[..]), (BINARY, b""), (FIN | TEXT, b"y")] {
        let bytes = [raw(BINARY, b"x", None), raw(next, payload, None)].concat();
        expect(CLIENT, &bytes, &Error::ExpectedContinuation);
    }
}

#[test]
fn lengths() {
    expect(CLIENT, &[0x82, 126, 0, 125], &Error::LengthNotMinimal(125));
    let wide = [&[0x82, 127][..], &65535_u64.to_be_bytes()].concat();
    expect(CLIENT, &wide, &Error::LengthNotMinimal(65535));
    let top = [&[0x82, 127][..], &(1_u64 << 63 | 5).to_be_bytes()].concat();
    expect(CLIENT, &top, &Error::LengthOverflow(1 << 63 | 5));
    let huge = [&[0x82, 127][..], &(u64::MAX >> 1).to_be_bytes()].concat();
    expect(CLIENT, &huge, &Error::TooLong { len: u64::MAX >> 1, limit: LIMIT });
}

#[test]
fn the_message_limit_applies_to_the_sum_of_all_fragments() {
    let over = |len| Error::TooLong { len, limit: LIMIT };
    expect(CLIENT, &raw(FIN | BINARY, &vec![7; LIMIT + 1], None), &over(LIMIT as u64 + 1));
    let half = raw(BINARY, &vec![7; LIMIT / 2], None);
    let sum =
        [half.clone(), raw(CONTINUE, &vec![7; LIMIT / 2], None), raw(FIN, b"x", None)].concat();
    expect(CLIENT, &sum, &over(LIMIT as u64 + 1));
    assert_eq!(over(1).close_code(), CloseCode::TOO_BIG);

    let mut ours = open(CLIENT);
    ours.receive(&half);
    ours.receive(&raw(FIN, &vec![7; LIMIT / 2], None));
    ours.receive(&raw(FIN | BINARY, &vec![7; LIMIT], None));
    assert_eq!(ours.messages, [Bytes::from(vec![7; LIMIT]), Bytes::from(vec![7; LIMIT])]);
}

#[test]
fn text() {
    expect(CLIENT, &raw(FIN | TEXT, b"hello", None), &Error::Text);
    expect(Role::Server, &raw(TEXT, b"hel", KEY), &Error::Text);
    assert_eq!(Error::Text.close_code(), CloseCode::UNSUPPORTED);
}

#[test]
fn close_frames() {
    expect(CLIENT, &raw(CLOSE, &[3], None), &Error::ShortClose);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let bytes = raw(CLOSE, &close_payload(code, "no"), None);
        expect(CLIENT, &bytes, &Error::InvalidCloseCode(code));
    }
    let bytes = raw(CLOSE, b"\x03\xe8why \xff", None);
    let error = Error::InvalidCloseReason { valid_up_to: 4 };
    expect(CLIENT, &bytes, &error);
    assert_eq!(error.close_code(), CloseCode::INVALID_TEXT);
}

#[test]
fn end_of_stream_reports_whether_a_message_was_incomplete() {
    let whole = raw(FIN | BINARY, &message(70_000), None);
    for len in [1, 5, 12, 30_000, whole.len() - 1] {
        let mut ours = open(CLIENT);
        ours.receive(&whole[..len]);
        ours.end_of_stream();
        assert_eq!(ours.end, Some(Error::Lost { inside_message: true }));
        assert!(ours.session.writer.is_finished() && ours.written().is_empty());
    }
    let mut ours = open(CLIENT);
    ours.receive(&whole);
    ours.end_of_stream();
    assert_eq!(ours.messages, [message(70_000)]);
    assert_eq!(ours.end, Some(Error::Lost { inside_message: false }));
}

#[test]
#[should_panic(expected = "call `poll` until it gives `None`")]
fn reading_without_polling_panics() {
    let mut ours = open(CLIENT);
    for _ in 0..20_000 {
        ours.session.reader.read_buf()[0] = 0;
        ours.session.reader.bytes_read(1);
    }
}
