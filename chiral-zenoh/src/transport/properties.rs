//! What anybody on the network can send to a connection.

use std::collections::VecDeque;
use std::time::Duration;

use chiral_proto::wire::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use zenoh::bytes::ZBytes;
use zenoh::key_expr::KeyExpr;
use zenoh::sample::{Sample, SampleBuilder};

use super::TransportState;
use crate::config::RobotName;
use crate::keys;

/// Bytes of the longest message that is let through.
const LONGEST: usize = 64;
/// Messages that may wait.
const MOST: usize = 4096;

#[derive(Debug, Clone)]
enum Step {
    /// A message comes, in these pieces.
    Message(Vec<Vec<u8>>),
    /// So many empty messages come.
    Flood(usize),
    /// A close message comes.
    Close(Vec<u8>),
    Subscription(bool),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = || vec(any::<u8>(), 0..40);
    prop_oneof![
        8 => vec(piece(), 0..4).prop_map(Step::Message),
        1 => (0..2 * MOST).prop_map(Step::Flood),
        1 => piece().prop_map(Step::Close),
        1 => any::<bool>().prop_map(Step::Subscription),
        6 => Just(Step::Take),
    ]
}

fn sample(pieces: &[Vec<u8>]) -> Sample {
    let mut payload = ZBytes::writer();
    pieces.iter().for_each(|piece| payload.append(ZBytes::from(piece.clone())));
    let key = KeyExpr::try_from("chiral/c2s").expect("a key");
    SampleBuilder::put(key, payload.finish()).into()
}

fn take(state: &TransportState) -> Option<Vec<u8>> {
    Some(state.receive_timeout(Duration::ZERO)?.into_bytes().to_vec())
}

/// A message comes; `waiting` is what should wait to be taken.
fn receive(state: &TransportState, waiting: &mut VecDeque<Vec<u8>>, pieces: &[Vec<u8>]) {
    let was_ended = state.is_ended();
    state.receive(&sample(pieces));
    let message = pieces.concat();
    let len: usize = waiting.iter().map(Vec::len).sum();
    let fits = message.len() <= LONGEST
        && len + message.len() <= 2 * LONGEST
        && waiting.len() < MOST
        && !was_ended;
    assert_eq!(state.is_ended(), !fits);
    waiting.extend(fits.then_some(message));
}

proptest! {
    #[test]
    fn messages_come_out_as_they_were_sent_until_the_connection_ends(steps in vec(step(), 0..60)) {
        let state = TransportState::new(Limits { frame_len: LONGEST, ..Limits::default() });
        let mut waiting = VecDeque::new();
        for step in steps {
            match step {
                Step::Message(pieces) => receive(&state, &mut waiting, &pieces),
                Step::Flood(count) if !state.is_ended() => {
                    let empty = sample(&[]);
                    (0..count).for_each(|_| state.receive(&empty));
                    let fits = count.min(MOST - waiting.len());
                    prop_assert_eq!(state.is_ended(), fits < count);
                    waiting.extend(vec![Vec::new(); fits]);
                }
                Step::Flood(_) => {}
                Step::Close(bytes) => {
                    state.receive_close(&sample(&[bytes]));
                    prop_assert!(state.is_ended());
                }
                Step::Subscription(is_subscribed) => {
                    state.subscription_reported(is_subscribed, "peer");
                }
                Step::Take => prop_assert_eq!(take(&state), waiting.pop_front()),
            }
        }
        for message in waiting {
            prop_assert_eq!(take(&state), Some(message));
        }
        prop_assert_eq!(take(&state), None);
    }

    #[test]
    fn a_token_tells_its_robot(name in "[a-zA-Z0-9._-]{4,20}", node in "[^/]{0,10}", text in ".{0,40}") {
        let found = keys::robot_of_token(&keys::robot_token(&name, &node));
        prop_assert_eq!(found.as_ref().map(RobotName::as_str), Some(&name[..]));
        for key in [text.clone(), format!("chiral/{text}")] {
            if let Some(name) = keys::robot_of_token(&key) {
                let start = format!("chiral/{name}");
                prop_assert!(key.starts_with(&start));
            }
        }
    }
}
