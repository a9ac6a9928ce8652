//! A WebSocket session carries observations in memory: one copy, as the kernel would make it, from
//! the writing half to the reading half, and what the session adds to that.

use std::io::IoSlice;
use std::time::Instant;

use bytes::Bytes;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::{Config, Role, Session};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

/// Bytes of observations with one camera and with eight of 640x480 RGB-D, and of many small ones.
const SIZES: [usize; 3] = [10_000, 2_150_400, 17_203_200];

/// A frame in segments, as sensors give them.
fn frame(len: usize) -> Frame {
    let mut message = vec![7; len];
    message[..4].copy_from_slice(&1000_u32.to_le_bytes());
    let message = Bytes::from(message);
    let segments = (0..17).map(|part| message.slice(part * len / 17..(part + 1) * len / 17));
    Frame::parse_segments(segments, &Limits::default()).expect("a frame")
}

fn carry(now: Instant, from: &mut Session, to: &mut Session) -> Bytes {
    loop {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = from.writer.transmit(&mut slices);
        let room = to.reader.read_buf();
        let mut moved = 0;
        for slice in &slices[..count] {
            let len = slice.len().min(room.len() - moved);
            room[moved..moved + len].copy_from_slice(&slice[..len]);
            moved += len;
        }
        from.writer.bytes_written(now, moved);
        to.reader.bytes_read(moved);
        if let Some(Ok(message)) = to.poll(now) {
            return message;
        }
    }
}

#[divan::bench(args = SIZES)]
fn robot_to_policy(bencher: Bencher<'_, '_>, len: usize) {
    #[expect(clippy::disallowed_methods, reason = "a session begins at some instant")]
    let now = Instant::now();
    let mut robot = Session::new(now, Role::Server, &Config::default(), &[]);
    let mut policy = Session::new(now, Role::Client { seed: [7; 32] }, &Config::default(), &[]);
    let frame = frame(len);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        robot.writer.push(frame.clone()).expect("the one before it is written");
        carry(now, &mut robot, &mut policy)
    });
}

#[divan::bench(args = SIZES)]
fn copy_alone(bencher: Bencher<'_, '_>, len: usize) {
    let (from, mut to) = (vec![7_u8; len], vec![0_u8; len]);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        to.copy_from_slice(divan::black_box(&from));
        divan::black_box(&mut to).len()
    });
}
