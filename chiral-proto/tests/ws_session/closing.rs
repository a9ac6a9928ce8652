//! The closing handshake, and what is written in which order.

use std::io::IoSlice;

use chiral_proto::ws::{CloseCode, Config, Error, Role};

use crate::support::{
    BINARY, CLIENT, CLOSE, FIN, Ours, PING, PONG, close_payload, frame, message, raw, seconds,
};

fn server() -> Ours {
    Ours::new(Role::Server, &Config::default())
}

const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

#[test]
fn a_close_frame_follows_the_message_being_written_and_is_last() {
    for role in [CLIENT, Role::Server] {
        let mut ours = Ours::new(role, &Config::default());
        let mask = if role == Role::Server { KEY } else { None };
        ours.session.writer.push(frame(1000)).expect("nothing is being written");
        ours.write_some(10);
        ours.session.writer.close(ours.now, CloseCode::NORMAL, "done");
        ours.session.writer.close(ours.now, CloseCode::INTERNAL, "the first one counts");
        assert!(!ours.session.writer.wants_message());
        assert!(ours.session.writer.push(frame(4)).is_err());
        ours.receive(&raw(PING, b"too late", mask));
        let close = (CLOSE, close_payload(1000, "done"));
        assert_eq!(ours.written(), [(FIN | BINARY, message(1000).to_vec()), close]);

        // What the peer had sent before it saw the close frame still counts.
        ours.receive(&raw(FIN | BINARY, b"last words", mask));
        assert_eq!(ours.messages, ["last words"]);
        assert!(!ours.session.writer.is_finished());
        ours.receive(&raw(CLOSE, &close_payload(1000, ""), mask));
        assert!(ours.session.writer.is_finished());
        assert_eq!(ours.session.writer.poll_timeout(), None);
        assert_eq!(ours.written(), []);
    }
}

#[test]
fn a_close_from_the_peer_is_echoed_after_the_message_being_written() {
    let mut ours = server();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    ours.write_some(10);
    ours.receive(&raw(CLOSE, &close_payload(4001, "enough"), KEY));
    ours.receive(&raw(FIN | BINARY, b"ignored", KEY));
    let end = Error::Closed { code: CloseCode(4001), reason: "enough".into() };
    assert_eq!((ours.end.take(), ours.messages.len()), (Some(end), 0));
    assert!(!ours.session.writer.is_finished());
    let close = (CLOSE, close_payload(4001, ""));
    assert_eq!(ours.written(), [(FIN | BINARY, message(1000).to_vec()), close]);
    assert!(ours.session.writer.is_finished());
}

#[test]
fn simultaneous_closes_complete() {
    let mut ours = server();
    ours.session.writer.close(ours.now, CloseCode::GOING_AWAY, "");
    ours.receive(&raw(CLOSE, &close_payload(1000, ""), KEY));
    assert!(!ours.session.writer.is_finished(), "our own frame has not gone yet");
    assert_eq!(ours.written(), [(CLOSE, close_payload(1001, ""))]);
    assert!(ours.session.writer.is_finished());
}

#[test]
fn the_session_finishes_only_after_the_close_reply_is_written() {
    let mut ours = server();
    ours.receive(&raw(PING, b"12345678", KEY));
    ours.write_some(4);
    ours.receive(&raw(CLOSE, &close_payload(1000, ""), KEY));
    ours.write_some(6);
    assert!(!ours.session.writer.is_finished());
    ours.write_some(3);
    assert!(!ours.session.writer.is_finished());
    ours.write_some(1);
    assert!(ours.session.writer.is_finished());
    assert_eq!(ours.written(), [(PONG, b"12345678".to_vec()), (CLOSE, close_payload(1000, ""))]);
}

#[test]
fn an_unanswered_close_times_out() {
    let mut ours = server();
    ours.session.writer.close(ours.now, CloseCode::NORMAL, "");
    ours.write();
    let deadline = ours.now + seconds(5);
    assert_eq!(ours.session.writer.poll_timeout(), Some(deadline));
    assert_eq!(ours.session.writer.handle_timeout(ours.now + seconds(4)), Ok(()));
    assert!(!ours.session.writer.is_finished());
    let error = Error::CloseTimeout { timeout: seconds(5) };
    assert_eq!(ours.session.writer.handle_timeout(deadline), Err(error));
    assert!(ours.session.writer.is_finished());
    assert_eq!(ours.session.writer.handle_timeout(deadline + seconds(9)), Ok(()));
}

#[test]
fn a_blocked_close_reply_times_out() {
    let mut ours = server();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    ours.write_some(10);
    ours.receive(&raw(CLOSE, &[], KEY));
    assert!(ours.session.writer.handle_timeout(ours.now + seconds(5)).is_err());
    assert!(ours.session.writer.is_finished());
    assert_eq!(ours.write_some(usize::MAX), 0);
}

#[test]
fn nothing_is_written_after_the_connection_is_lost() {
    let mut ours = server();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    ours.end_of_stream();
    assert_eq!(ours.end, Some(Error::Lost { inside_message: false }));
    assert!(ours.session.writer.is_finished() && ours.written().is_empty());
}

#[test]
fn pongs_are_sent_between_messages_and_immediately_when_idle() {
    let mut ours = server();
    ours.receive(&raw(PING, b"idle", KEY));
    assert_eq!(ours.written(), [(PONG, b"idle".to_vec())]);

    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    ours.write_some(10);
    ours.receive(&raw(PING, b"busy", KEY));
    assert!(!ours.session.writer.wants_message());
    while !ours.session.writer.wants_message() {
        ours.write_some(10);
    }
    ours.session.writer.push(frame(4)).expect("asked for");
    let messages = [1000, 4].map(|len| (FIN | BINARY, message(len).to_vec()));
    let [long, short] = messages;
    assert_eq!(ours.written(), [long, (PONG, b"busy".to_vec()), short]);
}

#[test]
fn only_the_latest_of_many_pings_is_answered() {
    let mut ours = server();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    for number in 0..1000_u16 {
        ours.receive(&raw(PING, &number.to_be_bytes(), KEY));
    }
    let pong = (PONG, 999_u16.to_be_bytes().to_vec());
    assert_eq!(ours.written(), [(FIN | BINARY, message(1000).to_vec()), pong]);
}

#[test]
fn slices_given_for_writing_stay_valid() {
    let pong = |text: &str| (PONG, text.as_bytes().to_vec());
    let long = (FIN | BINARY, message(8).to_vec());
    for taken in 0..=7 + 10 {
        // Everything happens after `transmit` gave the bytes away and before the stream took them.
        let mut ours = server();
        ours.receive(&raw(PING, b"first", KEY));
        if taken > 7 {
            ours.session.writer.push(frame(8)).expect("nothing is being written");
        }
        let given = given(&ours);
        ours.receive(&raw(PING, b"second", KEY));
        let is_pushed = ours.session.writer.push(frame(8)).is_ok();
        assert_eq!(is_pushed, taken <= 7);
        ours.receive(&raw(PING, b"third", KEY));
        ours.session.writer.bytes_written(ours.now, taken);
        ours.wire.borrow_mut().to_theirs.extend(&given[..taken]);
        if is_pushed {
            assert_eq!(
                ours.written(),
                [pong("first"), pong("second"), long.clone(), pong("third")]
            );
        } else {
            assert_eq!(ours.written(), [pong("first"), long.clone(), pong("third")]);
        }
    }
}

/// What the writer has to write, as far as it shows.
fn given(ours: &Ours) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 8];
    let count = ours.session.writer.transmit(&mut slices);
    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn client_frames_are_masked_with_fresh_keys() {
    let mut ours = Ours::new(CLIENT, &Config::default());
    for _ in 0..3 {
        ours.session.writer.push(frame(100)).expect("nothing is being written");
        ours.write();
    }
    let bytes: Vec<u8> = ours.wire.borrow_mut().to_theirs.drain(..).collect();
    let keys: Vec<_> = bytes.chunks(106).map(|frame| &frame[2..6]).collect();
    assert!(bytes.chunks(106).all(|frame| frame[1] & 0x80 != 0));
    assert!(keys[0] != keys[1] && keys[1] != keys[2]);
}

#[test]
#[should_panic(expected = "5 bytes written beyond what there was to write")]
fn reporting_more_bytes_written_than_offered_panics() {
    let mut ours = server();
    ours.receive(&raw(PING, b"12", KEY));
    ours.session.writer.bytes_written(ours.now, 4 + 5);
}
