//! Transports that may lose or repeat messages.

use std::sync::Arc;
use std::time::Duration;

use chiral_proto::ConnectionError;
use chiral_proto::client::{Config, Event, Lossy};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::support::*;
use super::{Policy, cancelled, hz, timed_out, untimed};

fn lossy() -> Policy {
    lossy_with(Lossy { retry_after: ms(100), linger: ms(500) })
}

fn lossy_with(lossy: Lossy) -> Policy {
    let timeout = Some(ms(2000));
    let config = Config { request_timeout: timeout, motion_timeout: timeout, ..untimed() };
    Policy::new(Config { lossy: Some(lossy), ..config })
}

fn sees(number: u32) -> ServerMessage {
    ServerMessage::Observation(observation(number))
}

#[test]
fn metadata_and_observe_requests_are_retried_until_answered() {
    let mut policy = lossy();
    let told = policy.client.request_metadata(policy.now, None).unwrap();
    let seen = policy.client.request_observation(policy.now, None).unwrap();
    let both = [ClientMessage::Metadata, ClientMessage::Observe];
    assert_eq!(policy.sends_all(), both);
    for _ in 0..3 {
        assert_eq!(policy.sleeps_for(), Some(ms(100)));
        policy.wait(ms(99));
        assert_eq!(policy.sends(), None);
        policy.wait(ms(1));
        assert_eq!(policy.sends_all(), both);
    }
    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.hears(sees(2));
    assert_eq!(
        policy.events(),
        [
            Event::Metadata { id: told, metadata: metadata(1) },
            Event::Observation { id: seen, observation: Arc::new(observation(2)) },
        ]
    );
    assert_eq!(policy.sleeps_for(), None);
    let stats = policy.client.stats(policy.now);
    assert_eq!(stats.retries, 6);
    assert_eq!(stats.round_trip.count(), 0, "of which sending the answers are, nobody knows");
}

#[test]
fn the_stream_retries_and_resumes_after_the_linger_time() {
    let mut policy = lossy();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    policy.wait(ms(100));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe], "once more, not once for the tick");
    policy.hears(sees(1));
    assert_eq!(policy.events(), [Event::Streamed(Arc::new(observation(1)))]);
    // One more answer may come, and must not be taken for that of the next tick.
    policy.wait(ms(499));
    assert_eq!(policy.sends(), None);
    assert_eq!(policy.sleeps_for(), Some(ms(1)));
    policy.wait(ms(1));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
}

#[test]
fn resets_and_steps_are_never_retried() {
    let mut policy = lossy();
    let reset_id = policy.client.request_reset(policy.now, None).unwrap();
    let stepped = policy.client.request_step(policy.now, action(0), None).unwrap();
    assert_eq!(policy.sends_all().len(), 2);
    for _ in 0..19 {
        policy.wait(ms(100));
        assert_eq!(policy.sends(), None);
    }
    assert_eq!(policy.sleeps_for(), Some(ms(100)), "the default deadline");
    policy.wait(ms(100));
    assert_eq!(policy.sends(), None);
    assert_eq!(policy.events(), [timed_out(reset_id)]);
    policy.wait(ms(2000)); // The step was behind the reset until then.
    assert_eq!(policy.events(), [timed_out(stepped)]);
    policy.wait(ms(5000));
    assert_eq!(policy.sends(), None);
}

#[test]
fn actions_are_never_retried() {
    let mut policy = lossy();
    policy.client.put_action(policy.now, action(0)).unwrap();
    policy.client.start_action_dispatch(policy.now, hz(10.0)).unwrap();
    assert_eq!(policy.sends_all().len(), 1);
    for _ in 0..50 {
        policy.wait(ms(100));
        assert_eq!(policy.sends(), None);
    }
}

#[test]
fn an_explicit_deadline_overrides_the_default() {
    let mut policy = lossy();
    let deadline = Some(policy.now + ms(3000));
    let id = policy.client.request_reset(policy.now, deadline).unwrap();
    policy.sends_all();
    policy.wait(ms(2999));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    assert_eq!(policy.events(), [timed_out(id)]);
}

#[test]
fn duplicate_and_stale_replies_are_ignored() {
    let mut policy = lossy();
    policy.hears(ServerMessage::Metadata(metadata(1))); // to somebody else's probe
    let id = policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(2)));
    policy.hears(ServerMessage::Metadata(metadata(2)));
    policy.hears(ServerMessage::Reset(reset(3)));
    policy.hears(ServerMessage::Step(step(4)));
    policy.hears(sees(5));
    assert_eq!(policy.events(), [Event::Metadata { id, metadata: metadata(2) }]);
    assert_eq!(policy.client.latest_observation(), None);
    assert_eq!(policy.client.stats(policy.now).strays, 5);
    assert_eq!(policy.client.error(), None);
}

#[test]
fn replies_may_overtake_lost_replies_of_another_kind() {
    let mut policy = lossy();
    policy.client.request_reset(policy.now, None).unwrap();
    let seen = policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(sees(1)); // The reset, or its answer, was lost.
    assert_eq!(
        policy.events(),
        [Event::Observation { id: seen, observation: Arc::new(observation(1)) }]
    );
    assert_eq!(policy.client.error(), None);
}

#[test]
fn only_one_request_of_a_kind_is_in_flight() {
    let mut policy = lossy();
    let first = policy.client.request_observation(policy.now, None).unwrap();
    let second = policy.client.request_observation(policy.now, None).unwrap();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    policy.hears(sees(1));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    policy.hears(sees(2));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe], "the stream's");
    policy.hears(sees(3));
    assert_eq!(
        policy.events(),
        [
            Event::Observation { id: first, observation: Arc::new(observation(1)) },
            Event::Observation { id: second, observation: Arc::new(observation(2)) },
            Event::Streamed(Arc::new(observation(3))),
        ]
    );
}

#[test]
fn a_reply_to_an_abandoned_request_is_not_matched_to_the_next() {
    let mut policy = lossy();
    let first = policy.client.request_reset(policy.now, Some(policy.now + ms(50))).unwrap();
    policy.sends_all();
    policy.wait(ms(50));
    let second = policy.client.request_reset(policy.now, None).unwrap();
    assert_eq!(policy.sends(), None, "the first one's answer may still come");
    policy.wait(ms(499));
    policy.hears(ServerMessage::Reset(reset(1)));
    assert_eq!(policy.events(), [timed_out(first)]);
    policy.wait(ms(1));
    assert_eq!(policy.sends_all(), [ClientMessage::Reset]);
    policy.hears(ServerMessage::Reset(reset(2)));
    assert_eq!(policy.events(), [Event::Reset { id: second, result: reset(2) }]);
}

#[test]
fn an_unreadable_frame_ends_a_lossy_connection_too() {
    let mut policy = lossy();
    policy.client.handle_message(policy.now, (&b"no"[..]).into());
    assert!(matches!(policy.client.error(), Some(ConnectionError::BadFrame(_))));
}

#[test]
fn the_maximum_duration_means_never() {
    let never = Duration::MAX;
    let timeout = Some(never);
    let mut policy = Policy::new(Config {
        lossy: Some(Lossy { retry_after: never, linger: never }),
        request_timeout: timeout,
        motion_timeout: timeout,
        silence: timeout,
        ..untimed()
    });
    policy.client.request_metadata(policy.now, None).unwrap();
    let given_up = policy.client.request_reset(policy.now, None).unwrap();
    assert_eq!(policy.sends_all().len(), 2);
    assert!(policy.client.cancel(policy.now, given_up));
    policy.client.request_reset(policy.now, None).unwrap();
    policy.wait(Duration::from_secs(3600 * 24 * 365));
    assert_eq!(policy.sends(), None);
    assert_eq!(policy.events(), [cancelled(given_up)]);
}

#[test]
fn poll_timeout_is_never_in_the_past_while_the_transport_is_blocked() {
    let mut policy = lossy();
    let now = policy.now;
    policy.client.request_metadata(now, Some(now + ms(50))).unwrap();
    policy.client.request_observation(now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(50)); // Metadata is quiet until 550 ms,
    policy.client.request_metadata(policy.now, None).unwrap();
    for _ in 0..100 {
        // and the observation's second sending is due at 100 ms. Nothing is taken, though.
        policy.wait(ms(7));
        assert!(policy.sleeps_for().is_none_or(|time| time > ms(0)), "{:?}", policy.client);
    }
    assert_eq!(policy.sends_all(), [ClientMessage::Observe, ClientMessage::Metadata]);
}

#[test]
fn a_zero_retry_interval_does_not_flood_the_transport() {
    let mut policy = lossy_with(Lossy { retry_after: ms(0), ..Lossy::default() });
    policy.client.request_metadata(policy.now, None).unwrap();
    for _ in 0..3 {
        assert_eq!(policy.sends(), Some(ClientMessage::Metadata));
        assert_eq!(policy.sleeps_for(), Some(ms(1)));
        assert_eq!(policy.sends(), None);
        policy.wait(ms(1));
    }
}

#[test]
fn a_duplicate_reply_does_not_end_the_linger_time() {
    let mut policy = lossy();
    let first = policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(100));
    assert_eq!(policy.sends_all().len(), 1); // Asked twice: two answers, 1 and 2, are on the way.
    let second = policy.client.request_observation(policy.now, None).unwrap();
    policy.hears(sees(1));
    policy.hears(sees(1)); // The transport repeated it.
    assert_eq!(policy.sends(), None, "2 is still on the way");
    policy.hears(sees(2));
    policy.wait(ms(500));
    assert_eq!(policy.sends_all().len(), 1);
    policy.hears(sees(3));
    assert_eq!(
        policy.events(),
        [
            Event::Observation { id: first, observation: Arc::new(observation(1)) },
            Event::Observation { id: second, observation: Arc::new(observation(3)) },
        ]
    );
}

#[test]
fn nothing_is_retried_during_a_reset() {
    let mut policy = lossy();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    let deadline = Some(policy.now + Duration::from_secs(60));
    policy.client.request_reset(policy.now, deadline).unwrap();
    policy.client.request_metadata(policy.now, deadline).unwrap();
    assert_eq!(policy.sends_all().len(), 3);
    // The robot answers nothing before the reset: it would only find more to do behind it.
    for _ in 0..300 {
        policy.wait(ms(100));
        assert_eq!(policy.sends(), None);
    }
    policy.hears(ServerMessage::Reset(reset(1)));
    policy.wait(ms(99));
    assert_eq!(policy.sends(), None, "the answers are right behind the reset's");
    policy.wait(ms(1));
    assert_eq!(policy.sends_all(), [ClientMessage::Metadata, ClientMessage::Observe]);
}
