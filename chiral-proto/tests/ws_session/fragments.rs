//! Long messages in fragments, and what passes between them.

use chiral_proto::ws::{CloseCode, Config, Role};

use crate::support::{
    BINARY, CLIENT, CLOSE, CONTINUE, FIN, OBSERVATION, Ours, PING, PONG, close_payload, frame,
    message, raw, seconds,
};

const FRAGMENT: usize = 256 << 10;
const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

fn server() -> Ours {
    Ours::new(Role::Server, &Config::default())
}

fn mask_of(role: Role) -> Option<[u8; 4]> {
    if role == Role::Server { KEY } else { None }
}

#[test]
fn messages_over_256_kib_are_fragmented() {
    for role in [CLIENT, Role::Server] {
        for len in [FRAGMENT, FRAGMENT + 1, 2 * FRAGMENT, 1_000_000] {
            let mut ours = Ours::new(role, &Config::default());
            ours.session.writer.push(frame(len)).expect("nothing is being written");
            let written = ours.written();
            assert_eq!(written.len(), len.div_ceil(FRAGMENT));
            let last = written.len() - 1;
            for (index, (first, payload)) in written.iter().enumerate() {
                let opcode = if index == 0 { BINARY } else { CONTINUE };
                let fin = if index == last { FIN } else { 0 };
                assert_eq!(*first, opcode | fin);
                assert!(payload.len() <= FRAGMENT && !payload.is_empty());
            }
            let whole: Vec<u8> = written.into_iter().flat_map(|(_, payload)| payload).collect();
            assert_eq!(whole, message(len));
        }
    }
}

#[test]
fn pongs_are_sent_between_fragments() {
    for role in [CLIENT, Role::Server] {
        for written in [0, 1, 5, 14, 100, FRAGMENT, FRAGMENT + 10, FRAGMENT + 50, 3 * FRAGMENT] {
            let mut ours = Ours::new(role, &Config::default());
            ours.session.writer.push(frame(4 * FRAGMENT)).expect("nothing is being written");
            let mut left = written;
            while left > 0 {
                left -= ours.write_some(left);
            }
            ours.receive(&raw(PING, b"now", mask_of(role)));
            let frames = ours.written();
            let pong = frames.iter().position(|one| *one == (PONG, b"now".to_vec()));
            let begun = written.div_ceil(FRAGMENT + 14).max(usize::from(written > 0));
            let pong = pong.expect("it is answered");
            assert!((begun.saturating_sub(1)..=begun + 1).contains(&pong), "{written}: {pong}");
            assert_eq!(frames.len(), 5);
            let data = frames.iter().filter(|(first, _)| *first != PONG);
            let whole: Vec<u8> = data.flat_map(|(_, payload)| payload.clone()).collect();
            assert_eq!(whole, message(4 * FRAGMENT));
        }
    }
}

#[test]
fn a_close_from_the_peer_is_answered_between_fragments() {
    let mut ours = server();
    ours.session.writer.push(frame(OBSERVATION)).expect("nothing is being written");
    ours.write_some(100);
    ours.receive(&raw(CLOSE, &close_payload(1000, ""), KEY));
    let frames = ours.written();
    let firsts: Vec<u8> = frames.iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [BINARY, CLOSE], "who has closed takes no message any more");
    assert!(ours.session.writer.is_finished());
}

#[test]
fn our_close_waits_for_the_end_of_the_message() {
    let mut ours = server();
    ours.session.writer.push(frame(3 * FRAGMENT)).expect("nothing is being written");
    ours.write_some(100);
    ours.session.writer.close(ours.now, CloseCode::GOING_AWAY, "");
    ours.receive(&raw(PING, b"too late", KEY));
    let frames = ours.written();
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[3], (CLOSE, close_payload(1001, "")));
}

#[test]
fn pings_are_sent_between_fragments() {
    let mut ours = server();
    ours.session.writer.push(frame(4 * FRAGMENT)).expect("nothing is being written");
    ours.write_some(FRAGMENT / 2);
    ours.session.writer.probe(ours.now, seconds(1));
    let frames = ours.written();
    assert_eq!((frames[1].0, frames.len()), (PING, 5));
    assert!(ours.session.writer.handle_timeout(ours.now + seconds(1)).is_err());
}

#[test]
fn fragments_are_read_into_one_recycled_buffer() {
    for step in [1500, 65_536, usize::MAX] {
        let (mut robot, mut policy) = (server(), Ours::new(CLIENT, &Config::default()));
        policy.step = step;
        let mut buffers = Vec::new();
        for _ in 0..4 {
            robot.session.writer.push(frame(3_000_000)).expect("nothing is being written");
            robot.write();
            let bytes: Vec<u8> = robot.wire.borrow_mut().to_theirs.drain(..).collect();
            policy.receive(&bytes);
            let received = policy.messages.pop().expect("a message");
            assert_eq!(received, message(3_000_000));
            let header = u32::from_le_bytes(received[..4].try_into().expect("four bytes"));
            assert_eq!((received.as_ptr().addr() + 4 + header as usize) % 64, 0);
            buffers.push(received.as_ptr().addr() / 64);
        }
        assert!(buffers.windows(2).all(|pair| pair[0] == pair[1]), "{buffers:?}");
    }
}
