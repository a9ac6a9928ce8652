//! Equality to the bit: NaN equals the same NaN, and zero does not equal minus zero.

use std::time::Duration;

use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, Camera, Observation, Sent, Timestamps};

fn same_floats<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> bool {
    a.into_iter().map(|x| x.to_bits()).eq(b.into_iter().map(|x| x.to_bits()))
}

fn same_camera(a: &Camera, b: &Camera) -> bool {
    a.name == b.name
        && same_floats([&a.timestamp], [&b.timestamp])
        && same_floats(&a.intrinsics, &b.intrinsics)
        && same_floats(&a.extrinsics, &b.extrinsics)
        && a.image == b.image
        && a.depth == b.depth
}

fn same_observation(a: &Observation, b: &Observation) -> bool {
    same_floats([&a.timestamp], [&b.timestamp])
        && a.cameras.len() == b.cameras.len()
        && a.cameras.iter().zip(&b.cameras).all(|(a, b)| same_camera(a, b))
        && a.proprios == b.proprios
        && a.extra == b.extra
}

/// An action that was not stamped goes out with no timestamps, and comes in with none.
fn same_action(a: &Action, b: &Action) -> bool {
    fn timestamps(action: &Action) -> Vec<(&str, u64)> {
        let timestamps = action.obs_timestamps.iter().flat_map(Timestamps::iter);
        timestamps.map(|(name, at)| (name.as_str(), at.to_bits())).collect()
    }
    a.values == b.values && timestamps(a) == timestamps(b)
}

/// What an action that leaves says of itself. Without a number it says nothing.
fn same_sending(a: &Action, b: &Action) -> bool {
    fn sending(action: &Action) -> Option<(Sent, Option<Duration>)> {
        Some((action.sent?, action.obs_timestamps.as_ref().and_then(Timestamps::snap)))
    }
    sending(a) == sending(b)
}

pub(crate) fn same_client_message(a: &ClientMessage, b: &ClientMessage) -> bool {
    use ClientMessage::{ApplyAction, Metadata, Observe, Reset, Step};
    match (a, b) {
        (Metadata, Metadata) | (Reset, Reset) | (Observe, Observe) => true,
        (ApplyAction(a), ApplyAction(b)) => same_action(a, b) && same_sending(a, b),
        (Step(a), Step(b)) => same_action(a, b),
        _ => false,
    }
}

pub(crate) fn same_server_message(a: &ServerMessage, b: &ServerMessage) -> bool {
    match (a, b) {
        (ServerMessage::Metadata(a), ServerMessage::Metadata(b)) => a == b,
        (ServerMessage::Observation(a), ServerMessage::Observation(b)) => same_observation(a, b),
        (ServerMessage::Reset(a), ServerMessage::Reset(b)) => {
            same_observation(&a.observation, &b.observation) && a.info == b.info
        }
        (ServerMessage::Step(a), ServerMessage::Step(b)) => {
            same_observation(&a.observation, &b.observation)
                && same_floats([&a.reward], [&b.reward])
                && (a.terminated, a.truncated) == (b.terminated, b.truncated)
                && a.info == b.info
        }
        _ => false,
    }
}
