//! The observation stream.

use std::sync::Arc;

use chiral_proto::client::{Config, Event};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::support::*;
use super::{Policy, hz, untimed};

fn streaming(window: usize) -> Policy {
    let mut policy = Policy::new(Config { stream_window: window, ..untimed() });
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap();
    policy
}

#[test]
fn the_stream_requests_immediately_and_then_on_the_grid() {
    let mut policy = streaming(1);
    assert!(policy.client.is_streaming());
    assert_eq!(policy.sleeps_for(), Some(ms(0)));
    for number in 0..5 {
        assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
        policy.hears(ServerMessage::Observation(observation(number)));
        assert_eq!(policy.events(), [Event::Streamed(Arc::new(observation(number)))]);
        assert_eq!(policy.sends(), None);
        assert_eq!(policy.sleeps_for(), Some(ms(10)));
        policy.wait(ms(10));
    }
}

#[test]
fn early_or_repeated_wake_ups_send_no_extra_request() {
    let mut policy = streaming(4);
    assert_eq!(policy.sends_all().len(), 1);
    policy.wait(ms(9));
    policy.wait(ms(0));
    assert_eq!(policy.sends_all().len(), 0);
    policy.wait(ms(1));
    policy.wait(ms(0));
    assert_eq!(policy.sends_all().len(), 1);
}

#[test]
fn a_full_window_delays_the_tick_until_the_reply() {
    let mut policy = streaming(1);
    assert_eq!(policy.sends_all().len(), 1);
    policy.wait(ms(10));
    assert_eq!(policy.sends(), None);
    policy.wait(ms(4));
    policy.hears(ServerMessage::Observation(observation(1)));
    assert_eq!(policy.sends_all().len(), 1, "the tick that waited fires");
    assert_eq!(policy.client.stats(policy.now).stream_ticks_missed, 0);
    assert_eq!(policy.sleeps_for(), Some(ms(6)), "and the grid stays where it was");
}

#[test]
fn a_window_of_n_allows_n_requests_in_flight() {
    let mut policy = streaming(3);
    for in_flight in 1..=3 {
        assert_eq!(policy.sends_all().len(), 1, "request {in_flight}");
        policy.wait(ms(10));
    }
    assert_eq!(policy.sends(), None);
    for number in 0..3 {
        policy.hears(ServerMessage::Observation(observation(number)));
    }
    assert_eq!(policy.sends_all().len(), 1, "one tick waited");
    // Nobody polled in between: the newest counts.
    assert_eq!(policy.events(), [Event::Streamed(Arc::new(observation(2)))]);
}

#[test]
fn a_slow_robot_lowers_the_stream_rate_without_a_backlog() {
    let mut policy = streaming(1);
    let mut sent = policy.sends_all().len();
    for number in 0..10 {
        // The answer takes three and a half periods.
        for _ in 0..7 {
            policy.wait(ms(5));
            assert_eq!(policy.sends(), None);
        }
        policy.hears(ServerMessage::Observation(observation(number)));
        sent += policy.sends_all().len();
    }
    assert_eq!(sent, 11);
    // 36 ticks, from 0 to 350 ms: 11 were sent, the rest is missed.
    assert_eq!(policy.client.stats(policy.now).stream_ticks_missed, 25);
}

#[test]
fn missed_ticks_are_skipped_not_caught_up() {
    let mut policy = streaming(8);
    policy.sends_all();
    policy.wait(ms(1005));
    assert_eq!(policy.sends_all().len(), 1);
    assert_eq!(policy.client.stats(policy.now).stream_ticks_missed, 99);
    assert_eq!(policy.sleeps_for(), Some(ms(5)));
}

#[test]
fn stream_replies_and_request_replies_are_not_mixed_up() {
    let mut policy = streaming(1);
    policy.sends_all();
    let asked = policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Observation(observation(1)));
    policy.hears(ServerMessage::Observation(observation(2)));
    assert_eq!(
        policy.events(),
        [
            Event::Streamed(Arc::new(observation(1))),
            Event::Observation { id: asked, observation: Arc::new(observation(2)) },
        ]
    );
}

#[test]
fn a_user_request_is_sent_before_a_stream_tick() {
    let mut policy = streaming(1);
    policy.client.request_reset(policy.now, None).unwrap();
    policy.client.request_metadata(policy.now, None).unwrap();
    assert_eq!(
        policy.sends_all(),
        [ClientMessage::Reset, ClientMessage::Metadata, ClientMessage::Observe]
    );
}

#[test]
fn the_stream_respects_the_limit_of_pending_requests() {
    let mut policy = Policy::new(Config { pending_requests: 1, ..untimed() });
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap();
    assert_eq!(policy.sends_all(), [ClientMessage::Metadata]);
    policy.hears(ServerMessage::Metadata(metadata(0)));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
}

#[test]
fn stopping_the_stream_still_delivers_the_reply_in_flight() {
    let mut policy = streaming(1);
    policy.sends_all();
    policy.wait(ms(10));
    policy.client.stop_obs_stream();
    assert!(!policy.client.is_streaming());
    assert_eq!(policy.sleeps_for(), None);
    policy.hears(ServerMessage::Observation(observation(1)));
    assert_eq!(policy.events(), [Event::Streamed(Arc::new(observation(1)))]);
    assert_eq!(policy.sends(), None);
}

#[test]
fn restarting_the_stream_uses_the_new_rate_on_a_new_grid() {
    let mut policy = streaming(2);
    policy.sends_all();
    policy.wait(ms(3));
    policy.client.start_obs_stream(policy.now, hz(50.0)).unwrap();
    assert_eq!(policy.sends_all().len(), 1);
    assert_eq!(policy.sleeps_for(), Some(ms(20)));
}

#[test]
fn every_stream_tick_is_counted_as_sent_missed_or_waiting() {
    let mut policy = streaming(1);
    let mut sent = policy.sends_all().len() as u64;
    policy.wait(ms(25)); // 2 ticks: 1 missed, 1 waiting for the answer
    policy.client.stop_obs_stream(); // which will not come to anything
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap(); // 1 tick, waiting
    policy.client.handle_timeout(policy.now);
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap(); // 1 tick instead
    policy.hears(ServerMessage::Observation(observation(1)));
    sent += policy.sends_all().len() as u64;
    assert_eq!((sent, policy.client.stats(policy.now).stream_ticks_missed), (2, 3));
}
