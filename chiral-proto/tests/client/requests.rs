//! Requests and their answers.

use std::sync::Arc;

use chiral_proto::ConnectionError;
use chiral_proto::client::{Config, Event, Misuse};
use chiral_proto::wire::{ClientMessage, MessageType, ServerMessage};

use super::support::*;
use super::{Policy, untimed};

#[test]
fn each_request_type_gets_its_reply_type() {
    let mut policy = Policy::default();
    let now = policy.now;
    let told = policy.client.request_metadata(now, None).unwrap();
    let reset_id = policy.client.request_reset(now, None).unwrap();
    let seen = policy.client.request_observation(now, None).unwrap();
    let stepped = policy.client.request_step(now, action(4), None).unwrap();
    let sent = policy.sends_all();
    assert_eq!(
        sent.iter().map(|message| message.message_type().name()).collect::<Vec<_>>(),
        ["metadata", "reset", "obs_request", "action"]
    );

    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.hears(ServerMessage::Reset(reset(2)));
    policy.hears(ServerMessage::Observation(observation(3)));
    policy.hears(ServerMessage::Step(step(4)));
    assert_eq!(
        policy.events(),
        [
            Event::Metadata { id: told, metadata: metadata(1) },
            Event::Reset { id: reset_id, result: reset(2) },
            Event::Observation { id: seen, observation: Arc::new(observation(3)) },
            Event::Step { id: stepped, result: step(4) },
        ]
    );
    assert_eq!(policy.client.error(), None);
}

#[test]
fn a_request_is_sent_once_and_sets_no_timer() {
    let mut policy = Policy::default();
    policy.client.request_reset(policy.now, None).unwrap();
    assert_eq!(policy.sleeps_for(), None);
    assert_eq!(policy.sends(), Some(ClientMessage::Reset));
    assert_eq!(policy.sends(), None);
    assert_eq!(policy.sleeps_for(), None);
}

#[test]
fn replies_are_matched_in_order_within_a_kind() {
    let mut policy = Policy::default();
    let now = policy.now;
    let first = policy.client.request_observation(now, None).unwrap();
    let second = policy.client.request_observation(now, None).unwrap();
    assert_ne!(first, second);
    policy.sends_all();
    policy.hears(ServerMessage::Observation(observation(1)));
    policy.hears(ServerMessage::Observation(observation(2)));
    assert_eq!(
        policy.events(),
        [
            Event::Observation { id: first, observation: Arc::new(observation(1)) },
            Event::Observation { id: second, observation: Arc::new(observation(2)) },
        ]
    );
}

#[test]
fn every_reply_with_an_observation_updates_the_latest() {
    let mut policy = Policy::default();
    let now = policy.now;
    assert_eq!(policy.client.latest_observation(), None);
    policy.client.request_reset(now, None).unwrap();
    policy.client.request_observation(now, None).unwrap();
    policy.client.request_step(now, action(0), None).unwrap();
    policy.client.request_metadata(now, None).unwrap();
    policy.sends_all();
    let answers = [
        (ServerMessage::Reset(reset(1)), 1),
        (ServerMessage::Observation(observation(2)), 2),
        (ServerMessage::Step(step(3)), 3),
        (ServerMessage::Metadata(metadata(4)), 3),
    ];
    for (answer, latest) in answers {
        policy.hears(answer);
        assert_eq!(*policy.client.latest_observation().unwrap().observation, observation(latest));
    }
}

#[test]
fn a_step_is_stamped_with_the_latest_observation_when_sent() {
    let mut policy = Policy::default();
    policy.client.request_reset(policy.now, None).unwrap();
    policy.client.request_step(policy.now, action(0), None).unwrap();
    assert_eq!(policy.sends(), Some(ClientMessage::Reset));
    policy.hears(ServerMessage::Reset(reset(9)));
    let Some(ClientMessage::Step(sent)) = policy.sends() else { panic!("the step is next") };
    assert_eq!(sent.obs_timestamps, Some(stamped(9)));
}

#[test]
fn an_unexpected_reply_ends_the_connection() {
    let unexpected = |found, expected| ConnectionError::UnexpectedReply { found, expected };

    let mut policy = Policy::default();
    policy.hears(ServerMessage::Metadata(metadata(0)));
    assert_eq!(policy.client.error(), Some(&unexpected(MessageType::MetadataResponse, None)));

    // Asked for, but after something else.
    let mut policy = Policy::default();
    policy.client.request_reset(policy.now, None).unwrap();
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Observation(observation(0)));
    assert_eq!(
        policy.client.error(),
        Some(&unexpected(MessageType::ObservationResponse, Some(MessageType::ResetResponse)))
    );
    assert_eq!(policy.client.latest_observation(), None);

    // Asked for, but not sent yet: nobody can have answered it.
    let mut policy = Policy::default();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.hears(ServerMessage::Metadata(metadata(0)));
    assert_eq!(policy.client.error(), Some(&unexpected(MessageType::MetadataResponse, None)));
}

#[test]
fn a_request_over_the_limit_is_refused_and_the_connection_continues() {
    let mut policy = Policy::new(Config { pending_requests: 2, ..untimed() });
    let now = policy.now;
    policy.client.request_metadata(now, None).unwrap();
    policy.client.request_metadata(now, None).unwrap();
    let misuse = policy.client.request_metadata(now, None).unwrap_err();
    assert_eq!(misuse, Misuse::TooManyRequests { limit: 2 });
    policy.sends_all();
    // On the wire they still wait.
    assert_eq!(policy.client.request_reset(now, None).unwrap_err(), misuse);
    policy.hears(ServerMessage::Metadata(metadata(0)));
    policy.client.request_reset(now, None).unwrap();
}

#[test]
fn the_round_trip_is_measured_from_sending_to_reply() {
    let mut policy = Policy::default();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.wait(ms(70));
    policy.sends_all();
    policy.wait(ms(30));
    policy.hears(ServerMessage::Metadata(metadata(0)));
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.round_trip.count(), stats.round_trip.max()), (1, ms(30)));
    assert_eq!((stats.frames_sent, stats.frames_received), (1, 1));
    assert_eq!(stats.bytes_sent, ClientMessage::Metadata.encode().len() as u64);
    let answer = ServerMessage::Metadata(metadata(0)).encode();
    assert_eq!(stats.bytes_received, answer.len() as u64);
    assert!(stats.to_string().contains("round trip    1 × p50 30.0ms"), "{stats}");
}
