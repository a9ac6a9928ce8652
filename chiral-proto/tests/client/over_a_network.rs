//! The client against a real server, over a network that takes its time.

use std::time::Duration;

use chiral_proto::client::{Config, Lossy};
use chiral_proto::server;
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::{ConnectionError, client};

use super::support::*;
use super::{hz, untimed};

const MINUTE: Duration = Duration::from_secs(60);

fn pair(client: Config) -> Pair {
    Pair::new(start(), client, server::Config::default())
}

/// A robot that answers at once; every event of the client goes to `told`.
fn run(pair: &mut Pair, time: Duration, mut told: impl FnMut(&Pair, client::Event)) {
    let until = pair.now() + time;
    let mut seen = 0;
    while let Some(happening) = pair.next(until) {
        match happening {
            Happening::Client(event) => told(pair, event),
            Happening::Server(server::Event::Observe(reply)) => {
                seen += 1;
                pair.server.reply_observation(reply, observation(seen)).unwrap();
            }
            Happening::Server(server::Event::Reset(reply)) => {
                pair.server.reply_reset(reply, reset(0)).unwrap();
            }
            Happening::Server(server::Event::Metadata(reply)) => {
                pair.server.reply_metadata(reply, metadata(0)).unwrap();
            }
            Happening::Server(server::Event::Step(_, reply)) => {
                pair.server.reply_step(reply, step(0)).unwrap();
            }
            Happening::Server(_) => {}
        }
    }
}

#[test]
fn dispatch_at_50_hz_is_exact() {
    let mut pair = pair(Config::default());
    pair.to_client = Network::default().latency(ms(3));
    pair.to_server = Network::default().latency(ms(3));
    pair.client.start_obs_stream(pair.now(), hz(50.0)).unwrap();
    pair.client.start_action_dispatch(pair.now(), hz(50.0)).unwrap();
    pair.client.put_chunk(pair.now(), &observation(0), (0..1000).map(action)).unwrap();
    run(&mut pair, Duration::from_secs(10) + ms(6), |_, _| {});
    for stats in [pair.client.stats(pair.now()).observations, pair.server.stats().actions] {
        assert_eq!(stats.count(), 501);
        assert!((stats.hz().unwrap() - 50.0).abs() < 1e-9, "{stats}");
    }
}

#[test]
fn a_round_trip_longer_than_the_period_limits_the_rate() {
    let mut pair = pair(Config::default());
    pair.to_client = Network::default().latency(ms(40));
    pair.client.start_obs_stream(pair.now(), hz(50.0)).unwrap();
    run(&mut pair, MINUTE, |_, _| {});
    assert_eq!(pair.client.stats(pair.now()).observations.count(), 1500);
}

#[test]
fn a_window_of_three_hides_the_round_trip() {
    let mut pair = pair(Config { stream_window: 3, ..Config::default() });
    pair.to_client = Network::default().latency(ms(40));
    pair.client.start_obs_stream(pair.now(), hz(50.0)).unwrap();
    run(&mut pair, MINUTE + ms(40), |_, _| {});
    assert_eq!(pair.client.stats(pair.now()).observations.count(), 3001);
    assert_eq!(pair.client.stats(pair.now()).stream_ticks_missed, 0);
}

#[test]
fn actions_keep_their_rate_on_a_low_bandwidth_link() {
    let mut pair = pair(Config { stream_window: 8, timing: false, ..Config::default() });
    let observation_len =
        chiral_proto::wire::ServerMessage::Observation(observation(1)).encode().len();
    // Five observations a second fit through, although fifty are asked for.
    pair.to_client = Network::default().bytes_per_second(5.0 * observation_len as f64);
    pair.client.start_obs_stream(pair.now(), hz(50.0)).unwrap();
    pair.client.start_action_dispatch(pair.now(), hz(50.0)).unwrap();
    pair.client.put_chunk(pair.now(), &observation(0), (0..1000).map(action)).unwrap();
    run(&mut pair, Duration::from_secs(19), |pair, _| {
        assert!(pair.to_client.in_flight() <= 8);
    });
    assert_eq!(pair.server.stats().actions.count(), 951);
    let observations = pair.client.stats(pair.now()).observations.count();
    assert!((90..=95).contains(&observations), "{observations}");
}

#[test]
fn a_lossy_client_survives_a_blocked_link() {
    let mut pair = pair(Config { lossy: Some(Lossy::default()), ..Config::default() });
    // A request takes three seconds to write: longer than the client waits before it asks again.
    let request_len = chiral_proto::wire::ClientMessage::Observe.encode().len();
    pair.to_server = Network::default().bytes_per_second(request_len as f64 / 3.0);
    pair.client.start_obs_stream(pair.now(), hz(10.0)).unwrap();
    run(&mut pair, MINUTE, |_, _| {});
    assert!(pair.client.stats(pair.now()).observations.count() > 5);
}

#[test]
fn a_one_minute_reset_does_not_exceed_the_request_limit_in_lossy_mode() {
    let mut pair = pair(Config { lossy: Some(Lossy::default()), ..Config::default() });
    let deadline = pair.now() + 2 * MINUTE;
    pair.client.start_obs_stream(pair.now(), hz(30.0)).unwrap();
    pair.client.request_reset(pair.now(), Some(deadline)).unwrap();
    let Some(Happening::Server(server::Event::Reset(reply))) = pair.next(deadline) else {
        panic!("the reset goes first")
    };
    let until = pair.now() + MINUTE;
    assert!(pair.next(until).is_none(), "nothing but the reset");
    pair.server.reply_reset(reply, reset(0)).unwrap();
    run(&mut pair, MINUTE, |_, _| {});
    assert_eq!(pair.client.error(), None);
    // Those of the reset, of the request behind it, of the tick that waited, and of a minute.
    assert_eq!(pair.client.stats(pair.now()).observations.count(), 3 + 60 * 30);
}

#[test]
fn an_hour_with_an_empty_queue_is_simulated() {
    let mut pair = pair(Config::default());
    pair.client.start_action_dispatch(pair.now(), hz(50.0)).unwrap();
    run(&mut pair, 60 * MINUTE, |_, event| panic!("{event:?}"));
    assert_eq!(pair.client.stats(pair.now()).starvations, 180_001);
}

#[test]
fn disconnecting_the_link_drops_frames_in_flight() {
    let mut pair = pair(Config::default());
    pair.to_server = Network::default().latency(ms(50));
    pair.client.request_metadata(pair.now(), None).unwrap();
    let until = pair.now() + ms(10);
    assert!(pair.next(until).is_none());
    assert_eq!(pair.to_server.in_flight(), 1);
    pair.cut();
    assert_eq!(pair.to_server.in_flight(), 0);
    let until = pair.now() + MINUTE;
    let told: Vec<_> = std::iter::from_fn(|| pair.next(until)).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(pair.client.error().is_some() && pair.server.error().is_some());
}

#[test]
fn a_close_arrives_after_everything_sent_before_it() {
    let mut pair = pair(Config::default());
    pair.to_server = Network::default().latency(ms(50));
    pair.client.put_action(pair.now(), action(1)).unwrap();
    pair.client.start_action_dispatch(pair.now(), hz(10.0)).unwrap();
    let until = pair.now() + ms(10);
    assert!(pair.next(until).is_none());
    pair.client.close(pair.now());
    let mut told = Vec::new();
    let until = pair.now() + MINUTE;
    while let Some(happening) = pair.next(until) {
        told.push((pair.elapsed(), happening));
    }
    let [
        (_, Happening::Client(_)),
        (acted, Happening::Server(first)),
        (ended, Happening::Server(last)),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(matches!(first, server::Event::Action(told) if number_of(told) == 1));
    assert!(matches!(last, server::Event::Disconnected(ConnectionError::ClosedByPeer { .. })));
    assert_eq!((*acted, *ended), (ms(50), ms(60)));
}

#[test]
fn network_delay_is_latency_plus_transmission_time() {
    let mut pair = pair(untimed());
    let frame_len = chiral_proto::wire::ClientMessage::Metadata.encode().len() as f64;
    pair.to_server = Network::default().latency(ms(30)).bytes_per_second(frame_len / 0.1);
    for _ in 0..3 {
        pair.client.request_metadata(pair.now(), None).unwrap();
    }
    let mut arrivals = Vec::new();
    let mut handles = Vec::new();
    let until = pair.now() + MINUTE;
    while let Some(happening) = pair.next(until) {
        arrivals.push(pair.elapsed());
        handles.push(happening);
    }
    assert_eq!(arrivals, [ms(130), ms(230), ms(330)]);
}

#[test]
fn network_loss_and_duplication_match_the_configured_rates() {
    let told = |network: Network| {
        let mut pair = pair(untimed());
        pair.to_server = network;
        pair.client.start_action_dispatch(pair.now(), hz(100.0)).unwrap();
        pair.client.put_chunk(pair.now(), &observation(0), (0..1000).map(action)).unwrap();
        let mut numbers = Vec::new();
        let until = pair.now() + MINUTE;
        while let Some(happening) = pair.next(until) {
            if let Happening::Server(server::Event::Action(action)) = happening {
                numbers.push(number_of(&action));
            }
        }
        assert!(numbers.is_sorted());
        // Of two that come at once the robot gets the later one.
        let received = pair.server.stats().actions.count();
        (numbers, pair.to_server.lost, received)
    };
    let (numbers, lost, received) = told(Network::default().loss(0.25, 1));
    assert_eq!(numbers.len() as u64 + lost, 1000);
    assert!((200..300).contains(&lost), "{lost} of 1000");
    let again = told(Network::default().loss(0.25, 1));
    assert_eq!(again, (numbers.clone(), lost, received), "always the same");
    assert_ne!(told(Network::default().loss(0.25, 2)).0, numbers, "unless the seed is another");

    let (_, lost, received) = told(Network::default().repetition(0.25));
    assert_eq!(lost, 0);
    assert!((1200..1300).contains(&received), "{received} of 1000");
}
