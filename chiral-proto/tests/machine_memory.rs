//! What the two machines cost in memory, counted by the allocator: a few allocations a round, and
//! nothing that stays.

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use chiral_proto::client::{self, Client, Event, Lossy};
use chiral_proto::server::{self, ActionQueue, Answer, Server};
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::timeline::{FollowOptions, Merge, Weights};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, ActionSpec, Observation, Rate};

use support::*;

const CAMERAS: u32 = 8;

/// Eight cameras, in buffers that are shared already, as the sensors' are.
fn eight_cameras() -> Observation {
    let one = observation(1).cameras.remove(0);
    let cameras = (0..CAMERAS).map(|number| {
        let bytes = Bytes::from_owner(one.image.bytes().to_vec());
        let image = chiral_proto::Array::new(one.image.dtype(), one.image.shape().clone(), bytes);
        let name = format!("camera_{number}").into();
        chiral_proto::Camera { name, image: image.unwrap(), ..one.clone() }
    });
    Observation { cameras: cameras.collect(), ..observation(1) }
}

/// As a transport's recycled buffer: shared already.
fn received(frame: &chiral_proto::wire::Frame) -> Bytes {
    Bytes::from_owner(frame.to_bytes())
}

fn counted<T>(run: impl FnOnce() -> T) -> (T, AllocationInfo) {
    let mut result = None;
    let allocated = measure(|| result = Some(run()));
    (result.expect("it ran"), allocated)
}

#[test]
fn one_stream_round_takes_eight_allocations() {
    let mut client = Client::new(client::Config {
        camera_stall: None, // the cameras always show the same
        ..client::Config::default()
    });
    let mut now = start();
    client.start_obs_stream(now, Rate::hz(30.0).unwrap()).unwrap();
    let answer = received(&ServerMessage::Observation(eight_cameras()).encode());
    for round in 0..1000 {
        let (request, asked) = counted(|| {
            client.handle_timeout(now);
            client.poll_transmit(now)
        });
        assert!(request.is_some());
        let (told, heard) = counted(|| {
            client.handle_message(now, answer.clone());
            client.poll_event()
        });
        assert!(matches!(told, Some(Event::Streamed(_))));
        let (next, slept) = counted(|| client.poll_timeout());
        now = next.expect("the next tick");
        // In the first rounds the queues grow to their size.
        if round >= 64 {
            // The head, and its sharing.
            assert_eq!(asked.count_total, 2, "{asked:?}");
            // The head, its sharing, the payload's list, the cameras, the observation, and its stamp.
            assert_eq!(heard.count_total, 6, "{heard:?}");
            assert!(heard.bytes_total < 16 << 10, "{heard:?}");
            assert_eq!(slept.count_total, 0);
        }
    }
}

#[test]
fn one_dispatch_tick_allocates_the_frame_and_the_timestamps() {
    const ACTIONS: u32 = 1000;
    let mut client = Client::new(client::Config::default());
    let mut now = start();
    client.request_observation(now, None).unwrap();
    client.poll_transmit(now).unwrap();
    client.handle_message(now, received(&ServerMessage::Observation(eight_cameras()).encode()));
    client.start_action_dispatch(now, Rate::hz(50.0).unwrap()).unwrap();
    for bound in [false, true] {
        for number in 0..ACTIONS / 2 {
            let put = if bound {
                client.put_chunk(now, &eight_cameras(), [action(number)])
            } else {
                client.put_action(now, action(number)).map(drop)
            };
            put.unwrap();
            let (frame, sent) = counted(|| {
                client.handle_timeout(now);
                client.poll_transmit(now)
            });
            assert!(frame.is_some());
            now = client.poll_timeout().expect("the next tick");
            if number >= 64 {
                // The head, its sharing, and the list of the payload's segments; and, stamped
                // when it leaves, the timestamps: collected, and shared.
                let timestamps = if bound { 0 } else { 2 };
                assert_eq!(sent.count_total, 3 + timestamps, "{sent:?}");
            }
        }
    }
}

/// A chunk of 64 rows of 32 elements, in the place of as many.
#[test]
fn one_chunk_allocates_its_rows_and_what_is_averaged() {
    let now = start();
    let mut client = Client::new(client::Config::default());
    client.request_observation(now, None).unwrap();
    client.poll_transmit(now).unwrap();
    client.handle_message(now, received(&ServerMessage::Observation(eight_cameras()).encode()));
    let seen = client.latest_observation().unwrap().observation.clone();
    let rows = vec![Action::from([0.5; 32]); 64];
    for _ in 0..2 {
        client.follow(now, &seen, rows.iter().cloned()).unwrap();
    }
    for (merge, averaged) in [
        (Merge::Replace, 0),
        (Merge::Blend(Weights::Crossfade(8)), 8),
        (Merge::Blend(Weights::Constant(0.7)), 64),
    ] {
        let options = FollowOptions::new().merge(merge);
        let rows = rows.clone();
        let (placed, put) = counted(|| client.follow_with(now, &seen, rows, &options));
        let placement = placed.unwrap();
        assert_eq!((placement.blended, placement.replaced), (averaged, 64 - averaged));
        // The timestamps, collected and shared; of each row that is averaged its elements, and their
        // sharing.
        assert_eq!(put.count_total, 2 + 2 * averaged as u64, "{put:?}");
        assert_eq!(client.queued_actions(), 64);
    }
}

#[test]
fn one_server_round_takes_five_allocations() {
    let now = start();
    let mut server = Server::new(now, server::Config::default());
    let request = received(&ClientMessage::Observe.encode());
    for round in 0..1000 {
        let (told, heard) = counted(|| {
            server.handle_message(now, request.clone());
            server.poll_event(now)
        });
        let Some(server::Event::Observe(reply)) = told else { panic!("{told:?}") };
        let answer = Answer::from(eight_cameras());
        let (sent, answered) = counted(|| {
            server.reply_observation(reply, answer).unwrap();
            server.poll_transmit(now)
        });
        assert!(sent.is_some());
        if round >= 64 {
            // The request's head, and the place of its answer.
            assert_eq!(heard.count_total, 2, "{heard:?}");
            // The head, its sharing, and the list of the payload's segments.
            assert_eq!(answered.count_total, 3, "{answered:?}");
        }
    }
}

#[test]
fn a_contract_is_checked_without_an_allocation() {
    let plain = ActionSpec::vector(7);
    let contract = plain.clone().bounds([-1.0; 7], [1.0; 7]).max_step([0.1; 7]);
    let contract = contract.rate(Rate::hz(50.0).unwrap()).stop_after(20);
    let [plain, judged] = [plain, contract].map(|action_spec| {
        let mut server =
            Server::new(start(), server::Config { action_spec, ..server::Config::default() });
        let action = received(&ClientMessage::ApplyAction([0.5; 7].into()).encode());
        let mut allocations = Vec::new();
        for _ in 0..100 {
            let (told, heard) = counted(|| {
                server.handle_message(start(), action.clone());
                server.poll_event(start())
            });
            assert!(matches!(told, Some(server::Event::Action(_))), "{told:?}");
            allocations.push(heard.count_total);
        }
        allocations.split_off(64)
    });
    assert_eq!(judged, plain);
}

/// An action of one float whose header is filled up with a key that nobody knows.
fn action_with_junk(junk: usize) -> Bytes {
    let mut header = vec![0x85];
    for text in ["type", "apply_action", "dtype", "float32", "junk"] {
        header.push(0xa0 | text.len() as u8);
        header.extend_from_slice(text.as_bytes());
    }
    header.push(0xc6); // a binary of
    header.extend_from_slice(&(junk as u32).to_be_bytes());
    header.resize(header.len() + junk, 0);
    header.extend_from_slice(b"\xa5shape\x91\x01\xaeobs_timestamps\x81\xa3cam\xcb");
    header.extend_from_slice(&1_f64.to_be_bytes());
    let payload = 0.5_f32.to_le_bytes();
    [&(header.len() as u32).to_le_bytes()[..], &header, &payload].concat().into()
}

#[test]
fn a_queued_action_does_not_retain_its_frame() {
    let action_queue = ActionQueue::InOrder { capacity: 64 };
    let limits = Limits { header_len: 1 << 20, ..server::Config::default().limits };
    let config = server::Config { action_queue, limits, ..server::Config::default() };
    let mut server = Server::new(start(), config);
    let frame = action_with_junk(900 << 10);
    let ((), waiting) = counted(|| {
        for _ in 0..64 {
            server.handle_message(start(), frame.clone());
        }
    });
    assert_eq!(server.error(), None);
    assert!(waiting.bytes_current < 64 << 10, "{waiting:?}");
    let Some(server::Event::Action(action)) = server.poll_motion(start()) else {
        panic!("it is next")
    };
    assert_eq!(*action.to_f32(), [0.5]);
    assert_eq!(action.obs_timestamps, Some(stamped(1)));
}

#[test]
fn actions_queued_behind_a_reset_respect_the_byte_budget() {
    let limits = Limits { frame_len: 17 << 20, ..server::Config::default().limits };
    for action_queue in [ActionQueue::Latest, ActionQueue::InOrder { capacity: 64 }] {
        let config =
            server::Config { action_queue, limits: limits.clone(), ..server::Config::default() };
        let mut server = Server::new(start(), config);
        server.handle_message(start(), ClientMessage::Reset.encode().to_bytes());
        let Some(server::Event::Reset(_reply)) = server.poll_event(start()) else {
            panic!("the reset")
        };
        let large = chiral_proto::Array::zeros(chiral_proto::Dtype::U8, [16 << 20]).unwrap();
        let small = chiral_proto::Array::zeros(chiral_proto::Dtype::U8, [1 << 20]).unwrap();
        let ((), waiting) = counted(|| {
            for values in [large, small] {
                let action = received(&ClientMessage::ApplyAction(values.clone().into()).encode());
                for _ in 0..64 {
                    server.handle_message(start(), action.clone());
                }
                let step = received(&ClientMessage::Step(values.into()).encode());
                for _ in 0..62 {
                    server.handle_message(start(), step.clone());
                }
            }
        });
        assert!(waiting.bytes_current < 5 << 20, "{waiting:?}");
        assert!(server.error().is_some(), "too many bytes of steps");
    }
}

/// A robot that answers at once.
fn run(pair: &mut Pair, time: Duration) {
    let until = pair.now() + time;
    while let Some(happening) = pair.next(until) {
        match happening {
            Happening::Server(server::Event::Observe(reply)) => {
                pair.server.reply_observation(reply, observation(1)).unwrap();
            }
            Happening::Server(server::Event::Metadata(reply)) => {
                pair.server.reply_metadata(reply, metadata(1)).unwrap();
            }
            Happening::Server(server::Event::Reset(reply)) => {
                pair.server.reply_reset(reply, reset(1)).unwrap();
            }
            Happening::Server(server::Event::Step(_, reply)) => {
                pair.server.reply_step(reply, step(1)).unwrap();
            }
            Happening::Server(server::Event::Action(action)) => {
                assert!(number_of(&action) < 90);
                assert_eq!(action.obs_timestamps, Some(stamped(1)));
            }
            Happening::Client(Event::Streamed(seen)) => {
                assert_eq!(seen.cameras, observation(1).cameras);
            }
            Happening::Client(Event::Disconnected(error)) => panic!("{error}"),
            _ => {}
        }
    }
}

/// Streams and acts, and asks for everything once a minute, half of it too impatiently.
fn live(pair: &mut Pair, minutes: u32) {
    for minute in 0..minutes {
        let now = pair.now();
        let soon = (minute % 2 == 0).then(|| now + ms(20));
        pair.client.request_metadata(now, soon).unwrap();
        pair.client.request_reset(now, soon).unwrap();
        pair.client.request_step(now, action(0), soon).unwrap();
        pair.client.put_chunk(now, &observation(1), (0..10).map(action)).unwrap();
        let plan = if minute % 3 == 0 { 90 } else { 40 };
        pair.client.replace_actions(now, &observation(1), (0..plan).map(action)).unwrap();
        run(pair, Duration::from_secs(60));
    }
}

/// What stays after a day, and what there is at the most meanwhile.
fn simulate_a_day(config: client::Config, loss: f64) -> AllocationInfo {
    let config = client::Config { max_age: Some(Duration::from_secs(50)), ..config };
    let mut pair = Pair::new(start(), config, server::Config::default());
    pair.to_server = Network::default().latency(ms(15)).loss(loss, 1);
    pair.to_client = Network::default().latency(ms(15)).loss(loss, 2);
    let hertz = Rate::hz(1.0).unwrap();
    pair.client.start_obs_stream(pair.now(), hertz).unwrap();
    pair.client.start_action_dispatch(pair.now(), hertz).unwrap();
    live(&mut pair, 60);
    let ((), allocated) = counted(|| live(&mut pair, 24 * 60));
    let stats = pair.client.stats(pair.now());
    assert!(stats.observations.count() > 70_000 && stats.actions.count() > 60_000, "{stats}");
    assert!(stats.actions_expired > 10_000 && stats.actions_dropped > 10_000, "{stats}");
    assert!(stats.requests_timed_out > 2000, "{stats}");
    assert!(stats.latency.robot_queue.count() > 10_000, "{stats}");
    allocated
}

#[test]
fn a_simulated_day_of_streaming_does_not_leak() {
    let day = simulate_a_day(client::Config::default(), 0.0);
    assert_eq!((day.count_current, day.bytes_current), (0, 0), "{day:?}");
    assert!(day.bytes_max < 64 << 10, "{day:?}");
}

#[test]
fn a_simulated_day_on_a_lossy_link_does_not_leak() {
    let timeout = Some(Duration::from_secs(5));
    let day = simulate_a_day(
        client::Config {
            lossy: Some(Lossy::default()),
            request_timeout: timeout,
            motion_timeout: timeout,
            ..client::Config::default()
        },
        0.2,
    );
    // It may end in the middle of something.
    assert!(day.bytes_current.abs() < 8 << 10, "{day:?}");
    assert!(day.bytes_max < 64 << 10, "{day:?}");
}
