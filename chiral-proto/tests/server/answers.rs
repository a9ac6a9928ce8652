//! Requests, their answers, and the order in which these leave.

use std::sync::{Arc, Mutex};

use chiral_proto::server::{Answer, Event};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::Robot;
use super::support::*;

#[test]
fn each_request_type_is_delivered_and_answered() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    robot.hears(ClientMessage::Reset);
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Step(action(4)));

    let reply = robot.is_asked_for_metadata();
    robot.server.reply_metadata(reply, metadata(1)).unwrap();
    let reply = robot.is_told_to_reset();
    robot.server.reply_reset(reply, reset(2)).unwrap();
    let reply = robot.is_told_to_observe();
    robot.server.reply_observation(reply, observation(3)).unwrap();
    let Some(Event::Step(stepped, reply)) = robot.is_told() else { panic!("the step is next") };
    assert_eq!(number_of(&stepped), 4);
    robot.server.reply_step(reply, step(5)).unwrap();

    assert_eq!(robot.sends(), Some(ServerMessage::Metadata(metadata(1))));
    assert_eq!(robot.sends(), Some(ServerMessage::Reset(reset(2))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(3))));
    assert_eq!(robot.sends(), Some(ServerMessage::Step(step(5))));
    assert_eq!(robot.sends(), None);
    assert!(robot.is_told().is_none());
}

#[test]
fn replies_given_in_any_order_are_sent_in_request_order() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    for _ in 0..3 {
        robot.hears(ClientMessage::Observe);
    }
    let told = robot.is_asked_for_metadata();
    let [first, second, third] = [(); 3].map(|()| robot.is_told_to_observe());

    robot.server.reply_observation(third, observation(3)).unwrap();
    robot.server.reply_observation(first, observation(1)).unwrap();
    assert_eq!(robot.sends(), None, "the metadata is due first");
    robot.server.reply_metadata(told, metadata(0)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Metadata(metadata(0))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
    assert_eq!(robot.sends(), None, "the second is due next");
    robot.server.reply_observation(second, observation(2)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(2))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(3))));
}

#[test]
fn a_deferred_reply_is_evaluated_when_it_is_sent() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    let taken_at = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&taken_at);
    let snapshot = Answer::when_sent(move |now| {
        *noted.lock().unwrap() = Some(now);
        observation(7)
    });
    robot.server.reply_observation(reply, snapshot).unwrap();
    robot.wait(ms(30));
    assert!(robot.is_told().is_none());
    assert_eq!(*taken_at.lock().unwrap(), None, "the transport is still busy");
    robot.wait(ms(20));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(7))));
    assert_eq!(*taken_at.lock().unwrap(), Some(robot.now));
}

#[test]
fn a_deferred_reply_is_not_evaluated_before_earlier_replies_are_sent() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    let count = Arc::new(Mutex::new(0));
    let snapshot = || {
        let count = Arc::clone(&count);
        Answer::when_sent(move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            observation(*count)
        })
    };
    robot.server.reply_observation(second, snapshot()).unwrap();
    assert_eq!(robot.sends(), None);
    robot.server.reply_observation(first, snapshot()).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(2))));
}

#[test]
fn statistics_count_frames_in_and_out() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Metadata);
    robot.hears_action(1);
    robot.hears(ClientMessage::Step(action(2)));
    let received = [
        ClientMessage::Observe,
        ClientMessage::Metadata,
        ClientMessage::ApplyAction(action(1)),
        ClientMessage::Step(action(2)),
    ];
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    let seen = robot.is_told_to_observe();
    let told = robot.is_asked_for_metadata();
    let Some(Event::Step(_, stepped)) = robot.is_told() else { panic!("the step is next") };
    robot.server.reply_observation(seen, observation(1)).unwrap();
    robot.server.reply_metadata(told, metadata(2)).unwrap();
    robot.server.reply_step(stepped, step(3)).unwrap();
    robot.wait(ms(40));
    while robot.sends().is_some() {}

    let sent = [
        ServerMessage::Observation(observation(1)),
        ServerMessage::Metadata(metadata(2)),
        ServerMessage::Step(step(3)),
    ];
    let stats = robot.server.stats();
    assert_eq!((stats.frames_received, stats.frames_sent), (4, 3));
    let bytes: u64 = received.iter().map(|message| message.encode().len() as u64).sum();
    assert_eq!(stats.bytes_received, bytes);
    let bytes: u64 = sent.iter().map(|message| message.encode().len() as u64).sum();
    assert_eq!(stats.bytes_sent, bytes);
    assert_eq!((stats.actions.count(), stats.observations.count()), (2, 2));
    assert_eq!((stats.response_time.count(), stats.response_time.max()), (3, ms(40)));
    assert_eq!((stats.actions_dropped.total(), stats.watchdog_alarms), (0, 0));
    assert!(stats.to_string().contains("4 frames"), "{stats}");
}
