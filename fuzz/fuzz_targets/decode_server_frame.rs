//! Any bytes as a server's frame: `Ok` or a typed error, in any segments.
#![no_main]

use chiral_fuzz::{decode_whole_and_cut, look_at_map, look_at_observation};
use chiral_proto::wire::ServerMessage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match decode_whole_and_cut(data, ServerMessage::decode, ServerMessage::encode) {
        Some(ServerMessage::Metadata(data)) => look_at_map(&data),
        Some(ServerMessage::Observation(observation)) => look_at_observation(&observation),
        Some(ServerMessage::Reset(reset)) => {
            look_at_observation(&reset.observation);
            look_at_map(&reset.info);
        }
        Some(ServerMessage::Step(step)) => {
            look_at_observation(&step.observation);
            look_at_map(&step.info);
        }
        Some(other) => panic!("a {} is not known here", other.message_type()),
        None => {}
    }
});
