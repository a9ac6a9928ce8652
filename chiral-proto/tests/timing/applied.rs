//! Which action was the last one when an observation was taken, and who is told.

use std::time::Duration;

use chiral_proto::client::Config;
use chiral_proto::server::{self, ActionQueue, Event};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, Map, Observation, Sent};

use super::link::Link;
use super::support::*;

fn in_order() -> Link {
    let action_queue = ActionQueue::InOrder { capacity: 64 };
    Link::new(Config::default(), server::Config { action_queue, ..server::Config::default() })
}

/// The last action, as an observation says that is taken now.
fn applied(link: &mut Link) -> Option<u64> {
    Some(link.observe(Duration::ZERO, Duration::ZERO).timing()?.applied)
}

#[test]
fn an_observation_says_which_action_was_the_last_that_the_robot_was_given() {
    let mut link = in_order();
    assert_eq!(applied(&mut link), Some(0), "none yet");
    for number in 1..=3 {
        link.send(action(number));
    }
    assert_eq!(applied(&mut link), Some(0), "they wait");
    for number in 1..=3 {
        assert_eq!(link.robot_is_given().sent.map(|sent| sent.seq), Some(number));
        assert_eq!(applied(&mut link), Some(number));
    }
}

#[test]
fn a_dropped_action_counts_once_those_before_it_are_done() {
    let mut link = in_order();
    link.send(action(1));
    link.send([f32::NAN].into());
    link.send(action(3));
    assert_eq!(applied(&mut link), Some(0));
    link.robot_is_given();
    assert_eq!(applied(&mut link), Some(2), "the second is refused, the third waits");
    link.robot_is_given();
    link.send([f32::NAN].into());
    assert_eq!(applied(&mut link), Some(4), "what is dropped holds nothing up");

    // Superseded ones are dropped too.
    let mut link = Link::default();
    for number in 1..=5 {
        link.send(action(number));
    }
    assert_eq!(applied(&mut link), Some(4));
    link.robot_is_given();
    assert_eq!(applied(&mut link), Some(5));
}

#[test]
fn an_action_behind_a_reset_does_not_count_before_it_is_answered() {
    let mut link = Link::default();
    link.send(action(1));
    link.robot_is_given();
    link.client.request_reset(link.now(), None).unwrap();
    let request = link.policy_sends();
    link.robot_hears(&request);
    link.send(action(2));
    let Some(Event::Reset(reply)) = link.server.poll_event(link.now()) else { panic!("a reset") };
    link.server.reply_reset(reply, reset(0)).unwrap();
    // It is given before the answer leaves, and the observation is of before.
    link.robot_is_given();
    let answer = link.robot_sends();
    link.policy_hears(&answer);
    let latest = link.client.latest_observation().unwrap();
    assert_eq!(latest.observation.timing().unwrap().applied, 1);
    assert_eq!(applied(&mut link), Some(2));
}

#[test]
fn a_policy_that_numbers_nothing_never_sees_the_key() {
    let mut link =
        Link::new(Config { timing: false, ..Config::default() }, server::Config::default());
    let seen = link.observe(ms(1), ms(1));
    for number in 0..3 {
        link.client.put_chunk(link.now(), &seen, [action(number)]).unwrap();
        link.send(action(number));
        let given = link.robot_is_given();
        assert_eq!(given.sent, None);
        assert_eq!(given.obs_timestamps.unwrap().snap(), None);
        assert!(link.observe(ms(1), ms(1)).extra.is_empty());
    }
    // To the byte what was sent before there was an extension.
    let frame = ClientMessage::ApplyAction(action(7)).encode();
    link.client.send_action(link.now(), action(7).decided_on(&Observation::default())).unwrap();
    assert_eq!(link.policy_sends().to_bytes(), frame.to_bytes());
}

#[test]
fn what_the_application_says_is_kept() {
    let extra = Map::new().with("task", "fold").with("chiral", "mine");
    for numbers in [false, true] {
        let mut link =
            Link::new(Config { timing: numbers, ..Config::default() }, server::Config::default());
        link.send(action(1));
        link.robot_is_given();
        link.client.request_step(link.now(), action(2), None).unwrap();
        let request = link.policy_sends();
        link.robot_hears(&request);
        let Some(Event::Step(_, reply)) = link.server.poll_event(link.now()) else { panic!() };
        let mut result = step(1);
        result.observation.extra = extra.clone();
        link.server.reply_step(reply, result).unwrap();
        let answer = ServerMessage::decode(&link.robot_sends(), &Limits::default());
        let Ok(ServerMessage::Step(result)) = answer else { panic!("{answer:?}") };
        let found = &result.observation.extra;
        assert_eq!((found.len(), found.get("task")), (2, Some("fold".into())));
        assert_eq!(found.get("chiral") == Some("mine".into()), !numbers);
        assert_eq!(result.observation.timing().is_some(), numbers);
    }
}

#[test]
fn a_number_that_is_not_higher_than_those_before_says_nothing() {
    let mut link = in_order();
    let hear = |link: &mut Link, seq| {
        let sent = Some(Sent { seq, hold: Some(ms(1)) });
        let obs_timestamps = Some(stamped(0));
        let message = ClientMessage::ApplyAction(Action { sent, obs_timestamps, ..action(1) });
        link.robot_hears(&message.encode());
    };
    for (seq, taken, last) in [
        (0, None, Some(0)),
        (5, Some(5), Some(5)),
        (5, None, Some(5)),
        (3, None, Some(5)),
        (9, Some(9), Some(9)),
        (u64::MAX, Some(u64::MAX), Some(u64::MAX)),
        (1, None, Some(u64::MAX)),
    ] {
        hear(&mut link, seq);
        assert_eq!(link.robot_is_given().sent.map(|sent| sent.seq), taken);
        assert_eq!(applied(&mut link), last);
    }
}

#[test]
fn an_observation_is_stamped_when_it_leaves() {
    let mut link = Link::default();
    link.send(action(1));
    link.robot_is_given();
    link.client.request_observation(link.now(), None).unwrap();
    let request = link.policy_sends();
    link.robot_hears(&request);
    // The transport is busy, and the robot acts meanwhile.
    link.wait(ms(70));
    link.send(action(2));
    link.robot_is_given();
    let answer = link.robot_sends();
    link.policy_hears(&answer);
    let timing = link.client.latest_observation().unwrap().observation.timing().unwrap();
    assert_eq!((timing.applied, timing.snap), (2, ms(70)));
}

#[test]
fn a_policy_that_has_sent_no_action_is_told_too() {
    let mut link = Link::default();
    link.capture("cam");
    link.wait(ms(30));
    let first = link.observe(ms(10), ms(20));
    let timing = first.timing().expect("the request was numbered");
    assert_eq!((timing.applied, timing.snap, timing.last), (0, ms(40), None));
}

#[test]
fn a_robot_that_knows_no_numbers_reads_the_same_request() {
    let mut link = Link::default();
    for actions in [0, 1, 300] {
        for number in 0..actions {
            link.send(action(number));
        }
        link.client.request_observation(link.now(), None).unwrap();
        let frame = link.policy_sends();
        let request = ClientMessage::decode(&frame, &Limits::default());
        assert_eq!(request, Ok(ClientMessage::Observe));
        link.robot_hears(&frame);
        link.robot_sends();
    }
}
