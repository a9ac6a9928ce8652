//! Both roles against tungstenite's own `WebSocket`.

use bytes::Bytes;
use chiral_proto::ws::{CloseCode, Config, Error, Role};
use tungstenite::protocol::frame::Frame as RawFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role as TheirRole, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::support::{CLIENT, OBSERVATION, Ours, Theirs, frame, message};

const ROLES: [Role; 2] = [CLIENT, Role::Server];

fn connect(role: Role, step: usize) -> (Ours, WebSocket<Theirs>) {
    let mut ours = Ours::new(role, &Config::default());
    ours.step = step;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let their_role = match role {
        Role::Client { .. } => TheirRole::Server,
        Role::Server => TheirRole::Client,
    };
    let theirs = WebSocket::from_raw_socket(ours.theirs(), their_role, Some(config));
    (ours, theirs)
}

/// Everything that tungstenite can read.
fn read(theirs: &mut WebSocket<Theirs>) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match theirs.read() {
            Ok(message) => messages.push(message),
            Err(tungstenite::Error::Io(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                return messages;
            }
            Err(tungstenite::Error::ConnectionClosed) => return messages,
            Err(error) => panic!("tungstenite does not accept what we sent: {error}"),
        }
    }
}

fn binary(bytes: Bytes) -> Message {
    Message::Binary(bytes)
}

#[test]
fn messages_of_every_length_encoding_arrive_in_both_directions() {
    for role in ROLES {
        let (mut ours, mut theirs) = connect(role, usize::MAX);
        for len in [0, 1, 4, 125, 126, 127, 16383, 16384, 16385, 65535, 65536, OBSERVATION] {
            theirs.send(binary(message(len))).expect("memory takes all bytes");
            ours.read();
            assert!(ours.messages.pop().is_some_and(|received| received == message(len)));
            if len >= 4 {
                ours.session.writer.push(frame(len)).expect("nothing is being written");
                ours.write();
                assert!(read(&mut theirs) == [binary(message(len))], "{len} bytes as {role:?}");
            }
        }
        assert!(ours.messages.is_empty() && ours.end.is_none());
    }
}

#[test]
fn byte_by_byte_delivery_gives_the_same_messages() {
    for role in ROLES {
        let (mut ours, mut theirs) = connect(role, 1);
        for len in [4, 5, 125, 126, 16384, 16385, 65535, 65536] {
            theirs.send(binary(message(len))).expect("memory takes all bytes");
            theirs.send(Message::Ping(message(len.min(125)))).expect("memory takes all bytes");
            ours.read();
            assert!(ours.messages.pop().is_some_and(|received| received == message(len)));
            ours.session.writer.push(frame(len)).expect("nothing is being written");
            ours.write();
            let expected = [Message::Pong(message(len.min(125))), binary(message(len))];
            assert!(read(&mut theirs) == expected, "{len} bytes as {role:?}");
        }
    }
}

#[test]
fn large_fragmented_messages_arrive_with_pings_between_their_fragments() {
    for role in ROLES {
        let (mut ours, mut theirs) = connect(role, usize::MAX);
        let whole = message(OBSERVATION);
        for fragment in [1_000_003, 65_536, 9_999_999] {
            let mut start = 0;
            while start < whole.len() {
                let end = whole.len().min(start + fragment);
                let kind = if start == 0 { Data::Binary } else { Data::Continue };
                let is_last = end == whole.len();
                let raw = RawFrame::message(whole.slice(start..end), OpCode::Data(kind), is_last);
                theirs.send(Message::Frame(raw)).expect("memory takes all bytes");
                if !is_last {
                    theirs.send(Message::Ping(message(7))).expect("memory takes all bytes");
                    ours.read();
                    ours.write();
                    assert!(read(&mut theirs) == [Message::Pong(message(7))]);
                    assert!(ours.messages.is_empty());
                }
                start = end;
            }
            ours.read();
            assert!(ours.messages.pop().is_some_and(|received| received == whole));
        }
    }
}

#[test]
fn our_ping_is_answered() {
    for role in ROLES {
        let (mut ours, mut theirs) = connect(role, usize::MAX);
        let due = ours.session.writer.poll_timeout().expect("keepalive is on");
        ours.now = due;
        assert_eq!(ours.session.writer.handle_timeout(due), Ok(()));
        ours.write();
        assert_eq!(read(&mut theirs), [Message::Ping(Bytes::new())]);
        assert!(!ours.wire.borrow().to_ours.is_empty());
        ours.read();
        let next = ours.session.writer.poll_timeout().expect("keepalive is on");
        assert_eq!(next, due + Config::default().keepalive.expect("on by default").interval);
    }
}

#[test]
fn either_side_can_close() {
    for role in ROLES {
        let (mut ours, mut theirs) = connect(role, usize::MAX);
        ours.session.writer.close(ours.now, CloseCode::GOING_AWAY, "until tomorrow");
        ours.write();
        let close = CloseFrame { code: 1001.into(), reason: "until tomorrow".into() };
        assert_eq!(read(&mut theirs), [Message::Close(Some(close))]);
        assert!(!ours.session.writer.is_finished());
        ours.read();
        assert!(ours.session.writer.is_finished());
        let echo = Error::Closed { code: CloseCode::GOING_AWAY, reason: "until tomorrow".into() };
        assert_eq!(ours.end, Some(echo));

        let (mut ours, mut theirs) = connect(role, usize::MAX);
        theirs.close(None).expect("memory takes all bytes");
        ours.read();
        assert!(ours.end.as_ref().is_some_and(Error::is_orderly), "{:?}", ours.end);
        assert!(!ours.session.writer.is_finished());
        ours.write();
        assert!(ours.session.writer.is_finished());
        assert_eq!(read(&mut theirs), [Message::Close(None)]);
        assert!(!theirs.can_read() && !theirs.can_write());
    }
}
