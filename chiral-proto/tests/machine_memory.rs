//! What the two machines cost in memory, counted by the allocator: a few allocations a round, and
//! nothing that stays.

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use chiral_proto::client::{self, Client, Event, Lossy};
use chiral_proto::server::{self, Answer, Server};
use chiral_proto::testing::{Happening, Link, Pair};
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Observation, Rate};

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
fn a_round_of_the_stream_takes_eight_allocations() {
    let mut client = Client::new(client::Config::default());
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
            // The head, its sharing, and the list of the payload's segments.
            assert_eq!(asked.count_total, 3, "{asked:?}");
            // The head, its sharing, the payload's list, the cameras, and the observation.
            assert_eq!(heard.count_total, 5, "{heard:?}");
            assert!(heard.bytes_total < 16 << 10, "{heard:?}");
            assert_eq!(slept.count_total, 0);
        }
    }
}

#[test]
fn a_tick_of_the_dispatch_allocates_the_frame_and_the_timestamps() {
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

#[test]
fn a_round_of_the_server_takes_five_allocations() {
    let now = start();
    let mut server = Server::new(now, server::Config::default());
    let request = received(&ClientMessage::Observe.encode());
    for round in 0..1000 {
        let (told, heard) = counted(|| {
            server.handle_message(now, request.clone());
            server.poll_event()
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
            Happening::Client(Event::Streamed(seen)) => assert_eq!(*seen, observation(1)),
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
fn a_day(config: client::Config, loss: f64) -> AllocationInfo {
    let config = client::Config { max_age: Some(Duration::from_secs(50)), ..config };
    let mut pair = Pair::new(start(), config, server::Config::default());
    pair.to_server = Link::default().latency(ms(15)).loss(loss, 1);
    pair.to_client = Link::default().latency(ms(15)).loss(loss, 2);
    let hertz = Rate::hz(1.0).unwrap();
    pair.client.start_obs_stream(pair.now(), hertz).unwrap();
    pair.client.start_action_dispatch(pair.now(), hertz).unwrap();
    live(&mut pair, 60);
    let ((), allocated) = counted(|| live(&mut pair, 24 * 60));
    let stats = pair.client.stats(pair.now());
    assert!(stats.observations.count() > 70_000 && stats.actions.count() > 60_000, "{stats}");
    assert!(stats.actions_expired > 10_000 && stats.actions_dropped > 10_000, "{stats}");
    assert!(stats.requests_timed_out > 2000, "{stats}");
    allocated
}

#[test]
fn a_day_of_streaming_leaves_nothing_behind() {
    let day = a_day(client::Config::default(), 0.0);
    assert_eq!((day.count_current, day.bytes_current), (0, 0), "{day:?}");
    assert!(day.bytes_max < 64 << 10, "{day:?}");
}

#[test]
fn nor_does_a_day_on_a_lossy_line() {
    let timeout = Some(Duration::from_secs(5));
    let day = a_day(
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
