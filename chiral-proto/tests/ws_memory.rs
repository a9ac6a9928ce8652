//! What the WebSocket session allocates: no more than a small constant of what arrived from a
//! hostile peer, and nothing for pixels in the steady state. Counted per thread by an allocator.

use std::io::IoSlice;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::{Config, Incoming, Reader, Role, Writer, session};

/// Bytes held at the most during `run`, beyond what was held before.
fn peak(run: impl FnOnce()) -> usize {
    allocation_counter::measure(run).bytes_max as usize
}

/// Bytes allocated during `run`, whether or not they are freed again.
fn allocated(run: impl FnOnce()) -> usize {
    allocation_counter::measure(run).bytes_total as usize
}

#[expect(clippy::disallowed_methods, reason = "an instant has no other origin")]
fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

const CLIENT: Role = Role::Client { seed: [1; 32] };
/// Staging buffer, buffer for an announced message, and odds and ends.
const CONSTANT: usize = (1 << 20) + (64 << 10);
const OBSERVATION: usize = 17_203_200;

fn open(role: Role) -> (Reader, Writer) {
    session(epoch(), role, &Config::default(), &[])
}

/// Feeds bytes, and gives everything that comes out to `found`.
fn feed(reader: &mut Reader, mut bytes: &[u8], mut found: impl FnMut(Incoming)) {
    while !bytes.is_empty() {
        let room = reader.read_buf();
        let count = room.len().min(bytes.len()).min(64 << 10);
        room[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        reader.bytes_read(count);
        while let Some(incoming) = reader.poll() {
            found(incoming);
        }
    }
}

fn header(first: u8, len: u64) -> Vec<u8> {
    match len {
        0..126 => vec![first, len as u8],
        126..65536 => [&[first, 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 127][..], &len.to_be_bytes()].concat(),
    }
}

/// A pseudo-random byte sequence (an LCG's upper bits).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

#[test]
fn an_announced_length_allocates_nothing() {
    for len in [1 << 20, OBSERVATION as u64, 256 << 20, 257 << 20, u64::MAX >> 1] {
        let bytes = [header(0x82, len), vec![0; 100]].concat();
        let peak = peak(|| {
            let (mut reader, mut writer) = open(CLIENT);
            feed(&mut reader, &bytes, |found| {
                if let Incoming::Control(control) = found {
                    writer.handle(epoch(), control);
                }
            });
            reader.read_buf();
        });
        assert!(peak < CONSTANT, "{len} announced, {peak} allocated");
    }
}

#[test]
fn memory_grows_with_received_bytes() {
    let (mut reader, _writer) = open(CLIENT);
    let announced = header(0x82, 200 << 20);
    let piece = vec![3; 1 << 20];
    let (mut arrived, mut held) = (0, 0);
    feed(&mut reader, &announced, |_| {});
    for _ in 0..40 {
        let counted = allocation_counter::measure(|| feed(&mut reader, &piece, |_| {}));
        arrived += piece.len();
        let peak = held + counted.bytes_max.cast_signed();
        held += counted.bytes_current;
        assert!(peak < (CONSTANT + 4 * arrived).cast_signed() as i64, "{peak} held for {arrived}");
    }
}

#[test]
fn tiny_fragments_pings_and_empty_frames_do_not_accumulate() {
    let fragments = [vec![0x02, 0x00], [0x00, 0x01, 0x07].repeat(20_000)].concat();
    let pings = [0x89, 0x02, 0x00, 0x01].repeat(20_000);
    let empty = [vec![0x02, 0x00], [0x00, 0x00].repeat(20_000)].concat();
    for bytes in [fragments, pings, empty] {
        let peak = peak(|| {
            let (mut reader, mut writer) = open(CLIENT);
            // The socket takes nothing all the while.
            feed(&mut reader, &bytes, |found| {
                if let Incoming::Control(control) = found {
                    writer.handle(epoch(), control);
                }
            });
        });
        assert!(peak < CONSTANT + 2 * bytes.len(), "{peak} for {}", bytes.len());
    }
}

#[test]
fn small_fragmented_messages_do_not_retain_large_buffers() {
    let message = [&[0x02, 0x01, 0x05][..], &[0x80, 0x64], &[6; 100]].concat();
    let large = [header(0x82, OBSERVATION as u64), vec![0; OBSERVATION]].concat();
    let (mut reader, _writer) = open(CLIENT);
    feed(&mut reader, &large, |_| {});
    let mut kept = Vec::with_capacity(1000);
    let allocated = allocated(|| {
        for _ in 0..1000 {
            feed(&mut reader, &message, |found| {
                if let Incoming::Message(message) = found {
                    kept.push(message);
                }
            });
        }
        // The large buffer was not given away with one of them.
        feed(&mut reader, &large, |_| {});
    });
    assert_eq!(kept.len(), 1000);
    assert!(allocated < 1000 * 500, "{allocated}");
}

#[test]
fn a_large_message_is_read_in_place() {
    let (mut reader, _writer) = open(Role::Server);
    let mut direct = 0;
    for round in 0..2 {
        // Masked by a key of zeros, which changes nothing but the work.
        let mut bytes = header(0x82, OBSERVATION as u64);
        bytes[1] |= 0x80;
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + OBSERVATION, 7);
        let mut rest = &bytes[..];
        let mut places = Vec::new();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let room = reader.read_buf();
            places.push((room.as_ptr().addr(), room.len()));
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            reader.bytes_read(count);
            messages.extend(std::iter::from_fn(|| reader.poll()));
        }
        let [.., Incoming::Message(message), Incoming::Control(_)] = &messages[..] else {
            panic!("one message: {messages:?}")
        };
        let memory = message.as_ptr().addr()..message.as_ptr().addr() + message.len();
        direct = places
            .iter()
            .filter(|(start, len)| memory.start <= *start && start + len <= memory.end)
            .map(|(_, len)| len)
            .sum();
        if round == 1 {
            assert_eq!(places.len(), 2, "the staged start, then all the rest: {places:?}");
        }
    }
    assert!(direct >= OBSERVATION - (16 << 10), "{direct} bytes were not copied");
}

#[test]
fn memory_is_bounded_for_random_input() {
    for seed in 0..300 {
        let (first, masked) =
            [(0x82, 0x80), (0x02, 0x80), (0x82, 0), (0x89, 0x80)][seed as usize % 4];
        // Noise behind a header that is in order, so that more than the first check is met.
        let length = noise(seed).next().unwrap_or_default() & 0x7f;
        let bytes: Vec<u8> =
            [first, masked | length].into_iter().chain(noise(seed).take(20_000)).collect();
        for role in [CLIENT, Role::Server] {
            let peak = peak(|| {
                let (mut reader, mut writer) = open(role);
                feed(&mut reader, &bytes, |found| {
                    if let Incoming::Control(control) = found {
                        writer.handle(epoch(), control);
                    }
                });
            });
            assert!(peak < CONSTANT + 4 * bytes.len(), "{peak}");
        }
    }
}

fn observation(header_len: u32) -> Vec<u8> {
    let mut message = vec![7; OBSERVATION];
    message[..4].copy_from_slice(&header_len.to_le_bytes());
    message
}

#[test]
fn steady_streaming_reuses_its_buffers() {
    for fragments in [1, 5] {
        let (mut reader, _writer) = open(CLIENT);
        let message = observation(2345);
        let mut bytes = Vec::new();
        for (index, part) in message.chunks(OBSERVATION.div_ceil(fragments)).enumerate() {
            let last = if index + 1 == fragments { 0x80 } else { 0 };
            bytes.extend(header(last | if index == 0 { 0x02 } else { 0 }, part.len() as u64));
            bytes.extend(part);
        }
        let mut latest = Bytes::new();
        let mut addresses = Vec::with_capacity(100);
        let mut receive = |latest: &mut Bytes| {
            feed(&mut reader, &bytes, |found| {
                if let Incoming::Message(message) = found {
                    assert_eq!((message.as_ptr().addr() + 4 + 2345) % 16, 0);
                    addresses.push(message.as_ptr().addr());
                    *latest = message; // the one before is let go, as a policy does
                }
            });
        };
        // A policy holds one observation while the next arrives: two buffers, grown in turn.
        (0..4).for_each(|_| receive(&mut latest));
        let allocated = allocated(|| (0..20).for_each(|_| receive(&mut latest)));
        assert!(allocated < 20 * 1000, "{allocated} bytes for 20 observations");
        assert!(latest == message);
        let mut distinct = addresses[4..].to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((addresses.len(), distinct.len()), (24, 2));
    }
}

/// WebSocket frames of an observation.
const FRAGMENTS: usize = OBSERVATION.div_ceil(256 << 10);

#[test]
fn observations_are_written_in_place() {
    let message = Bytes::from(observation(1000));
    let frame = Frame::parse(message.clone(), &Limits::default()).expect("a frame");
    let (_, mut writer) = open(Role::Server);
    writer.push(frame.clone()).expect("nothing is being written");
    writer.bytes_written(epoch(), OBSERVATION + 10 * FRAGMENTS);
    let allocated = allocated(|| {
        writer.push(frame.clone()).expect("nothing is being written");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(writer.transmit(&mut slices), 4);
        assert_eq!(slices[2].as_ptr(), message[1004..].as_ptr());
        writer.bytes_written(epoch(), OBSERVATION + 10 * FRAGMENTS);
    });
    assert!(allocated < 200, "{allocated}");
}

#[test]
fn the_client_reuses_its_masking_buffer() {
    let frame = Frame::parse(observation(1000).into(), &Limits::default()).expect("a frame");
    let (_, mut writer) = open(CLIENT);
    let mut send = || {
        writer.push(frame.clone()).expect("nothing is being written");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(writer.transmit(&mut slices), 4);
        let address = slices[0].as_ptr();
        writer.bytes_written(epoch(), OBSERVATION + 14 * FRAGMENTS);
        address
    };
    let first = send();
    let allocated = allocated(|| (0..5).for_each(|_| assert_eq!(send(), first)));
    assert!(allocated < 1000, "{allocated}");
}
