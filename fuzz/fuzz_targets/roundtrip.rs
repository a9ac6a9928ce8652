//! A decoded message is encoded and decoded again: the same message, and from then on the same
//! bytes.
#![no_main]

use chiral_fuzz::decode_whole_and_cut;
use chiral_proto::wire::{Frame, Limits, Message};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(message) = decode_whole_and_cut(data, Message::decode, Message::encode) else {
        return;
    };
    let written = message.encode();
    let limits = Limits::default();
    let read = Message::decode(&written, &limits).expect("what is written can be read");
    assert_eq!(format!("{read:?}"), format!("{message:?}"));
    let again = read.encode().to_bytes();
    assert_eq!(again, written.to_bytes());

    let received = Frame::parse(again.clone(), &limits).expect("what is written is a frame");
    let read = Message::decode(&received, &limits).expect("what is written can be read");
    assert_eq!(read.encode().to_bytes(), again);
});
