//! Arbitrary messages and arbitrary bytes through the wire: what is written is read back to the
//! bit, whatever liberties its writer took, and what is no message is refused with a reason.

mod loose;
mod rng;
mod same;
mod strategies;

use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage, WireError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use loose::Loose;
use same::{same_client_message, same_server_message};
use strategies::{client_message, server_message, value};

fn from_client(frame: &Frame) -> Result<ClientMessage, WireError> {
    ClientMessage::decode(frame, &Limits::default())
}

fn from_server(frame: &Frame) -> Result<ServerMessage, WireError> {
    ServerMessage::decode(frame, &Limits::default())
}

fn parse(bytes: Bytes) -> Result<Frame, WireError> {
    Frame::parse(bytes, &Limits::default())
}

/// The frame, cut in pieces at the given places.
fn parse_cut(bytes: &Bytes, cuts: &[Index]) -> Result<Frame, WireError> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    let segments = at.windows(2).map(|ends| bytes.slice(ends[0]..ends[1]));
    Frame::parse_segments(segments, &Limits::default())
}

proptest! {
    #[test]
    fn client_messages_round_trip(message in client_message(), cuts in vec(any::<Index>(), 0..5)) {
        let sent = message.encode();
        let bytes = sent.to_bytes();
        prop_assert_eq!(sent.len(), bytes.len());
        for frame in [parse(bytes.clone()).unwrap(), parse_cut(&bytes, &cuts).unwrap(), sent] {
            let received = from_client(&frame).unwrap();
            prop_assert!(same_client_message(&received, &message), "{:?}", received);
            prop_assert_eq!(received.encode().to_bytes(), bytes.clone());
        }
    }

    #[test]
    fn server_messages_round_trip(message in server_message(), cuts in vec(any::<Index>(), 0..5)) {
        let sent = message.encode();
        let bytes = sent.to_bytes();
        prop_assert_eq!(sent.len(), bytes.len());
        for frame in [parse(bytes.clone()).unwrap(), parse_cut(&bytes, &cuts).unwrap(), sent] {
            let received = from_server(&frame).unwrap();
            prop_assert!(same_server_message(&received, &message), "{:?}", received);
            prop_assert_eq!(received.encode().to_bytes(), bytes.clone());
        }
    }

    #[test]
    fn client_messages_decode_from_any_valid_encoding(message in client_message(), seed: u64) {
        let written = Loose::new(seed).client_message(&message);
        let received = from_client(&parse(written.into()).unwrap()).unwrap();
        prop_assert!(same_client_message(&received, &message), "{:?}", received);
    }

    #[test]
    fn server_messages_decode_from_any_valid_encoding(
        message in server_message(),
        seed: u64,
        cuts in vec(any::<Index>(), 0..5),
    ) {
        let written = Bytes::from(Loose::new(seed).server_message(&message));
        for frame in [parse(written.clone()), parse_cut(&written, &cuts)] {
            let received = from_server(&frame.unwrap()).unwrap();
            prop_assert!(same_server_message(&received, &message), "{:?}", received);
        }
    }

    #[test]
    fn arbitrary_bytes_decode_or_fail(bytes in vec(any::<u8>(), 0..400), cuts: [Index; 2]) {
        check(&bytes.into(), &cuts)?;
    }

    #[test]
    fn arbitrary_headers_decode_or_fail(
        fields in vec((known_key(), value_of_a_field()), 0..14),
        payload in vec(any::<u8>(), 0..40),
        cuts: [Index; 2],
    ) {
        let mut header = Vec::new();
        let fields = rmpv::Value::Map(fields.into_iter().map(|(k, v)| (k.into(), v)).collect());
        rmpv::encode::write_value(&mut header, &fields).unwrap();
        let prefix = (header.len() as u32).to_le_bytes();
        check(&[&prefix[..], &header, &payload].concat().into(), &cuts)?;
    }

    #[test]
    fn corrupted_frames_decode_or_fail(
        (from, other) in (any_frame(), any_frame()),
        damages in vec(damage(), 1..6),
        cuts: [Index; 2],
    ) {
        let mut bytes = from;
        damages.iter().for_each(|damage| damage.apply(&mut bytes, &other));
        check(&bytes.into(), &cuts)?;
    }
}

/// Both sides' decoders read the bytes or say why not, whole and in segments alike, and what was
/// read is read again from what is written of it.
fn check(bytes: &Bytes, cuts: &[Index]) -> Result<(), TestCaseError> {
    let (whole, cut) = match (parse(bytes.clone()), parse_cut(bytes, cuts)) {
        (Ok(whole), Ok(cut)) => (whole, cut),
        (Err(whole), Err(cut)) => {
            prop_assert_eq!(&whole, &cut);
            return check_error(&whole, bytes.len());
        }
        _ => return Err(TestCaseError::fail("cutting the frame makes a difference")),
    };
    prop_assert_eq!(&whole, &cut);
    match (from_client(&whole), from_client(&cut)) {
        (Ok(whole), Ok(cut)) => {
            let again = from_client(&whole.encode()).unwrap();
            prop_assert!(same_client_message(&whole, &cut) && same_client_message(&whole, &again));
        }
        (whole, cut) => {
            prop_assert_eq!(&whole, &cut);
            check_error(&whole.unwrap_err(), bytes.len())?;
        }
    }
    match (from_server(&whole), from_server(&cut)) {
        (Ok(whole), Ok(cut)) => {
            let again = from_server(&whole.encode()).unwrap();
            prop_assert!(same_server_message(&whole, &cut) && same_server_message(&whole, &again));
        }
        (whole, cut) => {
            prop_assert_eq!(&whole, &cut);
            check_error(&whole.unwrap_err(), bytes.len())?;
        }
    }
    Ok(())
}

/// Whatever is wrong, the error points into the frame and says something, in bounded length.
fn check_error(error: &WireError, frame_len: usize) -> Result<(), TestCaseError> {
    prop_assert!(error.offset() <= frame_len, "{}", error);
    prop_assert!(!error.found_text().is_empty() && !error.expected_text().is_empty(), "{}", error);
    prop_assert!(error.to_string().len() < 600, "{}", error);
    Ok(())
}

fn known_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "type",
        "timestamp",
        "cameras",
        "proprios",
        "extra",
        "info",
        "data",
        "shape",
        "dtype",
        "obs_timestamps",
        "seq",
        "snap",
        "hold",
        "reward",
        "terminated",
        "truncated",
        "unknown",
    ])
}

fn value_of_a_field() -> impl Strategy<Value = rmpv::Value> {
    let text = prop::sample::select(vec![
        "apply_action",
        "action",
        "obs_response",
        "reset_response",
        "step_response",
        "metadata_response",
        "float32",
        "uint8",
    ]);
    prop_oneof![
        4 => text.prop_map(rmpv::Value::from),
        2 => vec(0..4_u8, 0..4).prop_map(|dims| dims.into_iter().map(rmpv::Value::from).collect()),
        3 => value(),
    ]
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let seed = any::<u64>();
    prop_oneof![
        client_message().prop_map(|message| message.encode().to_bytes().into()),
        server_message().prop_map(|message| message.encode().to_bytes().into()),
        (server_message(), seed)
            .prop_map(|(message, seed)| Loose::new(seed).server_message(&message)),
    ]
}

#[derive(Debug, Clone)]
struct Damage {
    /// The damage lies in so many first bytes: a frame is mostly payload and long names, its
    /// structure is at the start.
    within: usize,
    at: Index,
    kind: DamageKind,
}

#[derive(Debug, Clone)]
enum DamageKind {
    FlipBit(u8),
    SetByte(u8),
    Truncate,
    /// So many bytes cut out, and bytes of another frame put in.
    Splice(usize, Index, usize),
    HeaderLen(u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let markers = vec![0xc0, 0xc1, 0xc6, 0xcf, 0xd3, 0xdb, 0xdd, 0xdf, 0xff];
    let kind = prop_oneof![
        4 => (0..8_u8).prop_map(DamageKind::FlipBit),
        3 => prop::sample::select(markers).prop_map(DamageKind::SetByte),
        1 => Just(DamageKind::Truncate),
        3 => (0..30_usize, any::<Index>(), 0..30_usize)
            .prop_map(|(cut, from, len)| DamageKind::Splice(cut, from, len)),
        1 => prop_oneof![any::<u32>(), 0..200_u32].prop_map(DamageKind::HeaderLen),
    ];
    let within = prop::sample::select(vec![60, 400, usize::MAX]);
    (within, any::<Index>(), kind).prop_map(|(within, at, kind)| Damage { within, at, kind })
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        let end = bytes.len();
        let at = self.at.index(end.min(self.within) + 1);
        match &self.kind {
            DamageKind::FlipBit(bit) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            DamageKind::SetByte(value) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *value;
                }
            }
            DamageKind::Truncate => bytes.truncate(at),
            DamageKind::Splice(cut, from, len) => {
                let from = from.index(other.len());
                let piece = &other[from..other.len().min(from + len)];
                bytes.splice(at..end.min(at + cut), piece.iter().copied());
            }
            DamageKind::HeaderLen(len) => {
                bytes.splice(..end.min(4), len.to_le_bytes());
            }
        }
    }
}
