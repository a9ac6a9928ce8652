//! A server from which nothing comes.

use std::time::Duration;

use chiral_proto::client::{Config, Event};
use chiral_proto::wire::ServerMessage;

use super::support::*;
use super::{Policy, hz, untimed};

fn policy() -> Policy {
    Policy::new(Config { silence: Some(ms(2000)), ..untimed() })
}

fn silent(millis: u64) -> Event {
    Event::Silent { silent_for: ms(millis) }
}

fn resumed(millis: u64) -> Event {
    Event::Resumed { silent_for: ms(millis) }
}

#[test]
fn silence_is_reported_once_while_a_reply_is_pending() {
    let mut policy = policy();
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    assert_eq!(policy.sleeps_for(), Some(ms(2000)));
    policy.wait(ms(1999));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    assert_eq!(policy.events(), [silent(2000)]);
    assert_eq!(policy.sleeps_for(), None);
    policy.wait(ms(60_000));
    assert_eq!(policy.events(), []);
    assert_eq!(policy.client.stats(policy.now).silences, 1);
}

#[test]
fn any_message_ends_the_silence_and_the_next_is_reported_again() {
    let mut policy = policy();
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(5000));
    assert_eq!(policy.events(), [silent(5000)]);
    policy.client.note_activity(policy.now); // a pong, or a part of an image
    assert_eq!(policy.events(), [resumed(5000)]);
    policy.wait(ms(1999));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    assert_eq!(policy.events(), [silent(2000)]);
    policy.hears(ServerMessage::Observation(observation(1)));
    let events = policy.events();
    assert_eq!(events[0], resumed(2000));
    assert!(matches!(events[1..], [Event::Observation { .. }]));
}

#[test]
fn a_slowly_arriving_image_is_not_silence() {
    let mut policy = policy();
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    for _ in 0..100 {
        policy.wait(ms(1500));
        policy.client.note_activity(policy.now);
    }
    assert_eq!(policy.events(), []);
}

#[test]
fn without_pending_requests_there_is_no_silence() {
    let mut policy = policy();
    policy.client.send_action(policy.now, action(1)).unwrap();
    policy.sends_all();
    policy.wait(ms(60_000));
    assert_eq!((policy.events(), policy.sleeps_for()), (vec![], None));

    // The wait begins with the request, however long nothing has come before.
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.wait(ms(60_000));
    assert_eq!(policy.events(), [], "it is not sent yet");
    policy.sends_all();
    policy.wait(ms(1999));
    assert_eq!(policy.events(), []);
}

#[test]
fn a_robot_at_a_reset_or_a_step_may_be_silent() {
    for is_reset in [true, false] {
        let mut policy = policy();
        policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
        policy.sends_all();
        if is_reset {
            policy.client.request_reset(policy.now, None).unwrap();
        } else {
            policy.client.request_step(policy.now, action(1), None).unwrap();
        }
        policy.sends_all();
        policy.wait(ms(60_000));
        assert_eq!(policy.events(), []);
    }
}

#[test]
fn the_stream_waits_for_answers_too() {
    let mut policy = policy();
    policy.client.start_obs_stream(policy.now, hz(25.0)).unwrap();
    for number in 0..300 {
        policy.sends_all();
        policy.hears(ServerMessage::Observation(observation(number)));
        policy.wait(ms(40));
    }
    assert!(policy.events().iter().all(|event| matches!(event, Event::Streamed(_))));
    policy.sends_all();
    policy.wait(ms(2000));
    assert_eq!(policy.events(), [silent(2000)]);
}

#[test]
fn unread_messages_are_not_counted_as_silence() {
    let mut policy = policy();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.now += Duration::from_secs(60); // the process was stopped
    policy.hears(ServerMessage::Metadata(metadata(1)));
    assert!(matches!(policy.events()[..], [Event::Metadata { .. }]));
}

#[test]
fn the_end_of_an_unreported_silence_is_not_reported() {
    let mut policy = policy();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    for _ in 0..100 {
        policy.wait(ms(2000));
        policy.client.note_activity(policy.now);
    }
    assert_eq!(policy.events(), [], "events that nobody takes do not pile up");
}

#[test]
fn a_frozen_camera_shows_in_the_statistics() {
    let mut policy = Policy::default();
    assert_eq!(policy.client.stats(policy.now).observation_age, None);
    for (number, wait) in [(1, 100), (2, 100), (2, 100), (2, 100)] {
        policy.client.request_observation(policy.now, None).unwrap();
        policy.sends_all();
        policy.hears(ServerMessage::Observation(observation(number)));
        policy.wait(ms(wait));
    }
    let stats = policy.client.stats(policy.now);
    assert_eq!(stats.observation_age, Some(ms(100)));
    let [camera] = &stats.cameras[..] else { panic!("{stats}") };
    assert_eq!((&*camera.name, camera.timestamp, camera.frames), ("cam", 2.0, 2));
    assert_eq!(camera.unchanged_for, ms(300));
    assert!(stats.to_string().contains("cam: 2 frames, the last 300.0ms ago"), "{stats}");
}

#[test]
fn silence_behind_a_step_that_is_given_up_counts_from_then() {
    let mut policy = policy();
    let deadline = policy.now + ms(10_000);
    policy.client.request_step(policy.now, action(1), Some(deadline)).unwrap();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(10_000));
    assert!(matches!(policy.events()[..], [Event::Failed { .. }]));
    assert_eq!(policy.sleeps_for(), Some(ms(2000)));
    policy.wait(ms(2000));
    assert_eq!(policy.events(), [silent(2000)]);
}
