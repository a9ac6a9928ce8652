//! What the two machines cost beside reading and writing frames.
//! `cargo bench -p chiral-proto --bench machines`.
//!
//! How many allocations that makes is counted in `tests/machine_memory.rs`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::{self, Client};
use chiral_proto::server::{self, Answer, Server};
use chiral_proto::timeline::{FollowOptions, Merge, Weights};
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use chiral_proto::{Action, ActionSpec, Array, Camera, Dtype, Map, Observation, Rate};
use divan::{Bencher, black_box};
use nalgebra::{Matrix3, Matrix4};

fn main() {
    divan::main();
}

#[expect(clippy::disallowed_methods, reason = "a benchmark needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).expect("a sensible rate")
}

/// Eight RGB-D cameras of 640 × 480, in buffers that are shared already, as the sensors' are.
fn eight_cameras() -> Observation {
    let array = |dtype: Dtype, shape: &[usize]| {
        let len = shape.iter().product::<usize>() * dtype.size();
        Array::new(dtype, shape, Bytes::from_owner(vec![1; len])).expect("of this size")
    };
    let cameras = (0..8).map(|index| Camera {
        name: format!("camera_{index}").into(),
        timestamp: 12.25,
        intrinsics: Matrix3::identity(),
        extrinsics: Matrix4::identity(),
        image: array(Dtype::U8, &[480, 640, 3]),
        depth: Some(array(Dtype::F32, &[480, 640])),
    });
    Observation { timestamp: 12.5, cameras: cameras.collect(), ..Observation::default() }
}

fn received(frame: &Frame) -> Bytes {
    Bytes::from_owner(frame.to_bytes())
}

const PENDING: [usize; 3] = [1, 16, 64];

/// A client with as many metadata requests in flight, less one.
fn client_with(pending: usize, now: Instant) -> Client {
    let config = client::Config { pending_requests: pending, ..client::Config::default() };
    let mut client = Client::new(config);
    for _ in 1..pending {
        client.request_metadata(now, Some(now + Duration::from_secs(3600))).expect("there is room");
        client.poll_transmit(now).expect("the request");
    }
    client
}

/// A request with a deadline, sent, and the answer to the oldest one, matched and told; the wire
/// messages are the smallest there are.
#[divan::bench(args = PENDING)]
fn round_of_a_request(bencher: Bencher<'_, '_>, pending: usize) {
    let now = start();
    let mut client = client_with(pending, now);
    let answer = received(&ServerMessage::Metadata(Map::new()).encode());
    bencher.bench_local(|| {
        let deadline = now + Duration::from_secs(3600);
        client.request_metadata(now, Some(deadline)).expect("there is room");
        let sent = client.poll_transmit(now).expect("the request");
        client.handle_message(now, answer.clone());
        let told = client.poll_event().expect("the answer");
        (sent, told, client.poll_timeout())
    });
}

/// A tick of the stream, sent, and its observation of 8 cameras, read, matched and told.
#[divan::bench]
fn round_of_the_stream(bencher: Bencher<'_, '_>) {
    let mut client = Client::new(client::Config::default());
    let mut now = start();
    client.start_obs_stream(now, hz(30.0)).expect("connected");
    let answer = received(&ServerMessage::Observation(eight_cameras()).encode());
    bencher.bench_local(|| {
        client.handle_timeout(now);
        let sent = client.poll_transmit(now).expect("the tick's request");
        client.handle_message(now, answer.clone());
        let told = client.poll_event().expect("the observation");
        now = client.poll_timeout().expect("the next tick");
        (sent, told)
    });
}

/// A tick of the dispatch: an action of 7 joints is queued, stamped with the latest observation of
/// 8 cameras and sent.
#[divan::bench]
fn tick_of_the_dispatch(bencher: Bencher<'_, '_>) {
    let mut client = Client::new(client::Config::default());
    let mut now = start();
    client.request_observation(now, None).expect("connected");
    client.poll_transmit(now).expect("the request");
    client.handle_message(now, received(&ServerMessage::Observation(eight_cameras()).encode()));
    client.start_action_dispatch(now, hz(50.0)).expect("connected");
    let action = Action::from([0.5; 7]);
    bencher.bench_local(|| {
        client.put_action(now, action.clone()).expect("there is room");
        client.handle_timeout(now);
        let sent = client.poll_transmit(now).expect("the action");
        now = client.poll_timeout().expect("the next tick");
        sent
    });
}

/// What one chunk after another costs: 64 rows of 32 elements, in the place of as many.
#[divan::bench(args = ["replace", "crossfade 8", "blend"])]
fn merge_of_a_chunk(bencher: Bencher<'_, '_>, merge: &str) {
    let now = start();
    let mut client = Client::new(client::Config::default());
    let merge = match merge {
        "replace" => Merge::Replace,
        "blend" => Merge::Blend(Weights::Constant(0.7)),
        _ => Merge::Blend(Weights::Crossfade(8)),
    };
    let options = FollowOptions::new().merge(merge);
    let rows = vec![Action::from([0.5; 32]); 64];
    client.request_observation(now, None).expect("connected");
    client.poll_transmit(now).expect("the request");
    client.handle_message(now, received(&ServerMessage::Observation(eight_cameras()).encode()));
    let seen = client.latest_observation().expect("it came").observation.clone();
    client.follow(now, &seen, rows.iter().cloned()).expect("there is room");
    bencher.with_inputs(|| rows.clone()).bench_local_values(|rows| {
        client.follow_with(now, &seen, rows, &options).expect("there is room")
    });
}

/// A request for an observation, read and told, and its answer of 8 cameras, taken late and
/// written.
#[divan::bench]
fn round_of_the_server(bencher: Bencher<'_, '_>) {
    let now = start();
    let mut server = Server::new(now, server::Config::default());
    let request = received(&ClientMessage::Observe.encode());
    let observation = eight_cameras();
    bencher.bench_local(|| {
        server.handle_message(now, request.clone());
        let Some(server::Event::Observe(reply)) = server.poll_event(now) else {
            panic!("the request is next")
        };
        let snapshot = observation.clone();
        server.reply_observation(reply, Answer::when_sent(move |_| snapshot)).expect("connected");
        server.poll_transmit(now).expect("the answer")
    });
}

/// Seven joint angles, with bounds and a largest step of their own.
fn contract() -> ActionSpec {
    ActionSpec::vector(7).bounds([-2.9; 7], [2.9; 7]).max_step([0.05; 7])
}

/// Of that contract what a policy's client checks too: all but the step.
#[divan::bench]
fn check_of_an_action(bencher: Bencher<'_, '_>) {
    let (contract, action) = (contract(), Action::from([0.5; 7]));
    bencher.bench_local(|| contract.check(black_box(&action)).expect("it is within the bounds"));
}

/// An action, read, judged and told: of a robot without a contract, and of one with it. The
/// difference is what the contract costs.
#[divan::bench(args = ["no contract", "contract"])]
fn judged_action_to_the_robot(bencher: Bencher<'_, '_>, of: &str) {
    let now = start();
    let action_spec = if of == "contract" { contract() } else { ActionSpec::vector(7) };
    let mut server = Server::new(now, server::Config { action_spec, ..Default::default() });
    let frame = received(&ClientMessage::ApplyAction(Action::from([0.5; 7])).encode());
    bencher.bench_local(|| {
        server.handle_message(now, frame.clone());
        server.poll_event(now).expect("the action")
    });
}

/// An action, read and told, while as many requests wait for their answers.
#[divan::bench(args = [0, 63])]
fn action_to_the_robot(bencher: Bencher<'_, '_>, waiting: usize) {
    let now = start();
    let mut server = Server::new(now, server::Config::default());
    let request = received(&ClientMessage::Observe.encode());
    let mut handles = Vec::new();
    for _ in 0..waiting {
        server.handle_message(now, request.clone());
        handles.extend(server.poll_event(now));
    }
    let stamped = Action::from([0.5; 7]).decided_on(&eight_cameras());
    let frame = received(&ClientMessage::ApplyAction(stamped).encode());
    bencher.bench_local(|| {
        server.handle_message(now, frame.clone());
        server.poll_event(now).expect("the action")
    });
    black_box(handles);
}
