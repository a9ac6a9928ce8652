//! Requests that are given up: by their deadline or by the caller.

use std::sync::Arc;

use chiral_proto::client::{Config, Event, Misuse};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::support::*;
use super::{Policy, cancelled, timed_out, untimed};

#[test]
fn the_earliest_deadline_is_the_next_wake_up() {
    let mut policy = Policy::default();
    let now = policy.now;
    policy.client.request_metadata(now, None).unwrap();
    let late = policy.client.request_reset(now, Some(now + ms(300))).unwrap();
    policy.sends_all();
    let early = policy.client.request_metadata(now, Some(now + ms(100))).unwrap();

    assert_eq!(policy.sleeps_for(), Some(ms(100)));
    policy.wait(ms(99));
    assert_eq!(policy.events(), []);
    assert_eq!(policy.sleeps_for(), Some(ms(1)));
    policy.wait(ms(1));
    assert_eq!(policy.events(), [timed_out(early)]);
    assert_eq!(policy.sleeps_for(), Some(ms(200)));
    policy.wait(ms(200));
    assert_eq!(policy.events(), [timed_out(late)]);
    assert_eq!(policy.sleeps_for(), None);
    assert_eq!(policy.client.stats(policy.now).requests_timed_out, 2);
}

#[test]
fn a_request_that_expires_in_the_queue_is_never_sent() {
    let mut policy = Policy::default();
    let now = policy.now;
    let expired = policy.client.request_reset(now, Some(now + ms(10))).unwrap();
    policy.client.request_metadata(now, None).unwrap();
    policy.wait(ms(10));
    assert_eq!(policy.sends_all(), [ClientMessage::Metadata]);
    assert_eq!(policy.events(), [timed_out(expired)]);
}

#[test]
fn a_past_deadline_fails_the_request_immediately() {
    let mut policy = Policy::default();
    let id = policy.client.request_metadata(policy.now, Some(policy.now)).unwrap();
    assert_eq!(policy.sends(), None);
    assert_eq!(policy.events(), [timed_out(id)]);
    assert_eq!(policy.sleeps_for(), None);
}

#[test]
fn a_late_reply_is_dropped_and_not_matched_to_the_next_request() {
    let mut policy = Policy::default();
    let now = policy.now;
    let first = policy.client.request_observation(now, Some(now + ms(10))).unwrap();
    let second = policy.client.request_observation(now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(10));
    assert_eq!(policy.events(), [timed_out(first)]);

    policy.hears(ServerMessage::Observation(observation(1)));
    assert_eq!(policy.events(), []);
    // Nobody waits for it, but it is what the robot saw last.
    assert_eq!(*policy.client.latest_observation().unwrap().observation, observation(1));
    assert_eq!(policy.client.error(), None);

    policy.hears(ServerMessage::Observation(observation(2)));
    let observation = Arc::new(observation(2));
    assert_eq!(policy.events(), [Event::Observation { id: second, observation }]);
}

#[test]
fn late_replies_of_every_kind_are_dropped() {
    let mut policy = Policy::default();
    let (now, deadline) = (policy.now, Some(policy.now + ms(10)));
    let ids = [
        policy.client.request_metadata(now, deadline).unwrap().key(),
        policy.client.request_reset(now, deadline).unwrap().key(),
        policy.client.request_step(now, action(0), deadline).unwrap().key(),
    ];
    policy.sends_all();
    policy.wait(ms(10));
    assert_eq!(policy.events(), ids.map(timed_out));
    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.hears(ServerMessage::Reset(reset(2)));
    policy.hears(ServerMessage::Step(step(3)));
    assert_eq!(policy.events(), []);
    assert_eq!(*policy.client.latest_observation().unwrap().observation, observation(3));
    assert_eq!(policy.client.error(), None);
}

#[test]
fn a_reply_exactly_at_the_deadline_is_late() {
    let mut policy = Policy::default();
    let id = policy.client.request_metadata(policy.now, Some(policy.now + ms(10))).unwrap();
    policy.sends_all();
    policy.now += ms(10);
    policy.hears(ServerMessage::Metadata(metadata(1)));
    assert_eq!(policy.events(), [timed_out(id)]);
}

#[test]
fn an_expired_request_stays_pending_until_its_reply_arrives() {
    let mut policy = Policy::new(Config { pending_requests: 1, ..untimed() });
    policy.client.request_metadata(policy.now, Some(policy.now + ms(10))).unwrap();
    policy.sends_all();
    policy.wait(ms(10));
    // Otherwise a server that never answers would make the ledger grow for ever.
    let misuse = Misuse::TooManyRequests { limit: 1 };
    assert_eq!(policy.client.request_metadata(policy.now, None), Err(misuse));
    policy.hears(ServerMessage::Metadata(metadata(1)));
    assert!(policy.client.request_metadata(policy.now, None).is_ok());
}

#[test]
fn an_answered_request_cannot_be_cancelled_or_expire() {
    let mut policy = Policy::default();
    let id = policy.client.request_metadata(policy.now, Some(policy.now + ms(10))).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(1)));
    assert_eq!(policy.sleeps_for(), None);
    assert!(!policy.client.cancel(policy.now, id));
    policy.wait(ms(10));
    assert_eq!(policy.events(), [Event::Metadata { id, metadata: metadata(1) }]);
}

#[test]
fn a_cancelled_request_fails_immediately_and_its_reply_is_dropped() {
    let mut policy = Policy::default();
    let now = policy.now;
    let on_the_wire = policy.client.request_reset(now, Some(now + ms(50))).unwrap();
    policy.sends_all();
    let queued = policy.client.request_metadata(now, None).unwrap();

    assert!(policy.client.cancel(now, queued));
    assert!(policy.client.cancel(now, on_the_wire));
    assert_eq!(policy.events(), [cancelled(queued), cancelled(on_the_wire)]);
    assert_eq!(policy.client.stats(policy.now).requests_timed_out, 0);
    assert!(!policy.client.cancel(now, queued), "it is over already");
    assert!(!policy.client.cancel(now, on_the_wire), "it is over already");
    assert_eq!(policy.sleeps_for(), None);

    assert_eq!(policy.sends(), None);
    policy.hears(ServerMessage::Reset(reset(1)));
    assert_eq!(policy.events(), []);
    assert_eq!(policy.client.error(), None);
}

#[test]
fn cancelling_reports_other_requests_that_have_expired() {
    let mut policy = Policy::default();
    let deadline = Some(policy.now + ms(10));
    let expired = policy.client.request_metadata(policy.now, deadline).unwrap();
    let given_up = policy.client.request_reset(policy.now, None).unwrap();
    policy.now += ms(20);
    assert!(policy.client.cancel(policy.now, given_up));
    assert_eq!(policy.events(), [timed_out(expired), cancelled(given_up)]);
}
