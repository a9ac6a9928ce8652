//! However the bytes are cut, the result is the same; and whatever they are, nothing panics.

use bytes::Bytes;
use chiral_proto::wire::Limits;
use chiral_proto::ws::{Config, Incoming, Role, session};
use proptest::prelude::*;

use crate::support::{BINARY, CLIENT, CONTINUE, FIN, Ours, PING, PONG, epoch, frame, message, raw};

/// A message as the lengths of its fragments, and whether a ping follows each.
fn messages() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let len = prop_oneof![3 => 0..200_usize, 1 => 4000..20_000_usize, 1 => 60_000..90_000_usize];
    let fragments = prop::collection::vec((len, any::<bool>()), 1..5);
    prop::collection::vec(fragments, 1..8)
}

/// Sizes of reads or writes, used in turn.
fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..20_usize, 1000..70_000_usize], 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading(script in messages(), steps in steps(), is_server: bool, key: [u8; 4]) {
        let role = if is_server { Role::Server } else { CLIENT };
        let mask = is_server.then_some(key);
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut pings = 0_u32;
        for fragments in &script {
            let whole = message(fragments.iter().map(|(len, _)| len).sum());
            let mut start = 0;
            for (index, &(len, is_pinged)) in fragments.iter().enumerate() {
                let kind = if index == 0 { BINARY } else { CONTINUE };
                let last = if index + 1 == fragments.len() { FIN } else { 0 };
                stream.extend(raw(kind | last, &whole[start..start + len], mask));
                start += len;
                if is_pinged {
                    pings += 1;
                    stream.extend(raw(PING, &pings.to_be_bytes(), mask));
                }
            }
            expected.push(whole);
        }
        let mut ours = Ours::new(role, &Config::default());
        let mut rest = &stream[..];
        for step in steps.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*step));
            ours.receive(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(ours.end.is_none());
        prop_assert!(ours.messages == expected);
        for received in ours.messages.iter().filter(|received| received.len() > 20_000) {
            prop_assert_eq!(payload_address(received) % 16, 0);
        }
        if pings > 0 {
            let last = ours.written().pop();
            prop_assert_eq!(last, Some((PONG, pings.to_be_bytes().to_vec())));
        }
    }

    #[test]
    fn writing(lens in prop::collection::vec(4..100_000_usize, 1..6), steps in steps(), is_server: bool) {
        let mut ours = Ours::new(if is_server { Role::Server } else { CLIENT }, &Config::default());
        let mask = is_server.then_some([5, 6, 7, 8]);
        let (mut messages, mut pongs) = (Vec::new(), Vec::new());
        let mut steps = steps.iter().cycle();
        for (index, len) in lens.iter().enumerate() {
            ours.session.writer.push(frame(*len)).expect("asked for");
            ours.write_some(*steps.next().expect("endless"));
            ours.receive(&raw(PING, &[index as u8], mask));
            while !ours.session.writer.wants_message() {
                ours.write_some(*steps.next().expect("endless"));
            }
            messages.push((FIN | BINARY, message(*len).to_vec()));
            pongs.push((PONG, vec![index as u8]));
        }
        // A pong goes behind the message, or in front of it if that has not begun.
        let (answers, others): (Vec<_>, Vec<_>) =
            ours.written().into_iter().partition(|(first, _)| *first == PONG);
        prop_assert!(answers == pongs && others == messages);
    }

    #[test]
    fn anything(bytes in prop::collection::vec(any::<u8>(), 0..2000), steps in steps(), is_server: bool) {
        let limits = Limits { frame_len: 1 << 20, ..Limits::default() };
        let config = Config { limits, ..Config::default() };
        let mut ours = Ours::new(if is_server { Role::Server } else { CLIENT }, &config);
        let mut rest = &bytes[..];
        for step in steps.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*step));
            ours.receive(piece);
            ours.write();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        ours.end_of_stream();
        prop_assert!(ours.end.is_some());
        ours.write();
        prop_assert!(ours.session.writer.is_finished());
    }
}

fn payload_address(message: &Bytes) -> usize {
    let header = message.first_chunk().expect("longer than four bytes");
    message.as_ptr().addr().wrapping_add(4).wrapping_add(u32::from_le_bytes(*header) as usize)
}

#[test]
fn handshake_surplus_of_any_length_is_read_first() {
    for len in [0, 10, 16_384, 200_000] {
        let bytes = raw(FIN | BINARY, &message(len), None);
        for cut in [0, 1, bytes.len() / 2, bytes.len()] {
            let (surplus, rest) = bytes.split_at(cut);
            let (mut reader, _) = session(epoch(), CLIENT, &Config::default(), surplus);
            let mut messages = Vec::new();
            let mut rest = rest;
            loop {
                while let Some(found) = reader.poll() {
                    if let Incoming::Message(message) = found {
                        messages.push(message);
                    }
                }
                if rest.is_empty() {
                    break;
                }
                let room = reader.read_buf();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                reader.bytes_read(count);
            }
            assert!(messages == [message(len)], "{len} bytes cut at {cut}");
        }
    }
}
