//! Streams that are almost in order, against tungstenite: we deliver nothing that it does not, and
//! stop where it stops or earlier, for a reason of which it knows nothing.

use bytes::Bytes;
use chiral_proto::ws::{Config, Error, Role};
use proptest::prelude::*;
use tungstenite::protocol::Role as TheirRole;
use tungstenite::{Message, WebSocket};

use crate::support::{CLIENT, Ours, close_payload, message, raw};

#[derive(Debug, Clone)]
struct Piece {
    first: u8,
    payload: Bytes,
    is_masked: bool,
}

fn pieces(is_masked: bool) -> impl Strategy<Value = Vec<Piece>> {
    let data = prop_oneof![4 => 0..300_usize, 1 => 16_000..80_000_usize].prop_map(message);
    let control = (0..126_usize).prop_map(message);
    let code = prop_oneof![4 => Just(1000_u16), 1 => 990..1020_u16, 1 => any::<u16>()];
    let close = code.prop_map(|code| Bytes::from(close_payload(code, "bye")));
    let piece = prop_oneof![
        // Messages, whole and in fragments, in an order that is often right.
        6 => (Just(0x82), data.clone()),
        3 => (Just(0x02), data.clone()),
        3 => (prop_oneof![Just(0x00), Just(0x80)], data.clone()),
        3 => (prop_oneof![Just(0x89), Just(0x8a)], control),
        1 => (Just(0x88), prop_oneof![4 => close, 1 => data.clone()]),
        1 => (any::<u8>(), data),
    ];
    let piece =
        (piece, prop::bool::weighted(0.98)).prop_map(move |((first, payload), is_right)| Piece {
            first,
            payload,
            is_masked: is_masked == is_right,
        });
    prop::collection::vec(piece, 0..20)
}

fn run(role: Role, their_role: TheirRole, pieces: &[Piece]) {
    let bytes: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| {
            raw(piece.first, &piece.payload, piece.is_masked.then_some([0xa5, 1, 0, 0xff]))
        })
        .collect();

    let mut ours = Ours::new(role, &Config::default());
    ours.receive(&bytes);

    let twin = Ours::new(role, &Config::default());
    twin.wire.borrow_mut().to_theirs.extend(&bytes);
    let mut theirs = WebSocket::from_raw_socket(twin.theirs(), their_role, None);
    let mut delivered = Vec::new();
    let (mut is_closed, mut is_text) = (false, false);
    let failure = loop {
        match theirs.read() {
            Ok(Message::Binary(message)) => delivered.push(message),
            Ok(Message::Close(_)) => is_closed = true,
            Ok(Message::Text(_)) => is_text = true,
            Ok(_) => {}
            Err(tungstenite::Error::Io(_) | tungstenite::Error::ConnectionClosed) => break None,
            Err(error) => break Some(error),
        }
    };

    assert!(delivered.starts_with(&ours.messages));
    match &ours.end {
        None => {
            assert!(failure.is_none() && !is_closed && !is_text, "{failure:?}");
            assert_eq!(delivered, ours.messages);
        }
        Some(Error::Closed { .. }) => {
            assert!(is_closed, "{failure:?}");
            assert_eq!(delivered, ours.messages);
        }
        // Allowed there, or noticed there only once the message is whole.
        Some(Error::Text | Error::InvalidCloseCode(_)) => {}
        Some(error) => {
            assert!(failure.is_some(), "only we found: {error}");
            assert_eq!(delivered, ours.messages);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_server_session_agrees_with_tungstenite(pieces in pieces(true)) {
        run(Role::Server, TheirRole::Server, &pieces);
    }

    #[test]
    fn the_client_session_agrees_with_tungstenite(pieces in pieces(false)) {
        run(CLIENT, TheirRole::Client, &pieces);
    }
}
