//! Any bytes as a client's frame: `Ok` or a typed error, in any segments.
#![no_main]

use chiral_fuzz::{decode_whole_and_cut, look_at_action};
use chiral_proto::wire::ClientMessage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let message = decode_whole_and_cut(data, ClientMessage::decode, ClientMessage::encode);
    if let Some(ClientMessage::ApplyAction(action) | ClientMessage::Step(action)) = message {
        look_at_action(&action);
    }
});
