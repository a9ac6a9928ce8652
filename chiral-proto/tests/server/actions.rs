//! Actions: told the moment they arrive, but not across a reset.

use chiral_proto::ConnectionError;
use chiral_proto::server::{Config, Event};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::Robot;
use super::support::*;

#[test]
fn an_action_is_told_before_requests_that_came_earlier() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    robot.hears(ClientMessage::Observe);
    robot.hears_action(1);
    robot.hears_action(2);
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 2));
    drop((robot.is_asked_for_metadata(), robot.is_told_to_observe()));
}

#[test]
fn an_action_is_told_while_answers_wait_to_be_given_and_to_leave() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.server.reply_observation(first, observation(1)).unwrap();
    robot.hears_action(2);
    assert_eq!(robot.is_told_to_act(), [2]);
    robot.server.reply_observation(second, observation(2)).unwrap();
    assert!(robot.sends().is_some());
}

#[test]
fn actions_are_told_with_the_timestamps_that_they_carry() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::ApplyAction(action(1).decided_on(&observation(3))));
    let Some(Event::Action(told)) = robot.is_told() else { panic!("the action is next") };
    assert_eq!(told.obs_timestamps, Some(stamped(3)));
}

#[test]
fn a_reset_is_a_barrier_between_the_actions_before_and_after_it() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    robot.hears_action(2);
    robot.hears(ClientMessage::Observe);

    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let told = robot.is_asked_for_metadata();
    let reply = robot.is_told_to_reset();
    robot.hears_action(3);
    assert!(robot.is_told().is_none(), "held back until the reset is over");
    robot.server.reply_metadata(told, metadata(0)).unwrap();
    assert!(robot.is_told().is_none(), "another answer does not end it");
    robot.server.reply_reset(reply, reset(0)).unwrap();

    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 2));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 3));
    drop(robot.is_told_to_observe());
}

#[test]
fn two_resets_are_two_barriers() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    robot.hears_action(2);
    let first = robot.is_told_to_reset();
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(first, reset(1)).unwrap();
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let second = robot.is_told_to_reset();
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(second, reset(2)).unwrap();
    assert_eq!(robot.is_told_to_act(), [2]);
}

#[test]
fn a_step_keeps_its_place_among_the_actions_but_holds_only_requests_back() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    robot.hears(ClientMessage::Step(action(2)));
    robot.hears_action(3);
    robot.hears(ClientMessage::Observe);
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let Some(Event::Step(stepped, reply)) = robot.is_told() else { panic!("the step is next") };
    assert_eq!(number_of(&stepped), 2);
    assert_eq!(robot.is_told_to_act(), [3]);
    robot.server.reply_step(reply, step(0)).unwrap();
    let reply = robot.is_told_to_observe();
    robot.server.reply_observation(reply, observation(1)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Step(step(0))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
}

#[test]
fn a_full_backlog_drops_the_oldest_and_counts() {
    let mut robot = Robot::new(Config { action_backlog: 3, ..Config::default() });
    for number in 0..10 {
        robot.hears_action(number);
    }
    assert_eq!(robot.is_told_to_act(), [7, 8, 9]);
    assert_eq!(robot.server.stats().actions_dropped, 7);
    assert_eq!(robot.server.stats().actions.count(), 10);
}

#[test]
fn a_backlog_of_none_still_tells_the_newest() {
    let mut robot = Robot::new(Config { action_backlog: 0, ..Config::default() });
    robot.hears_action(1);
    robot.hears_action(2);
    assert_eq!(robot.is_told_to_act(), [2]);
}

#[test]
fn the_backlog_is_bounded_behind_a_reset_too() {
    let mut robot = Robot::new(Config { action_backlog: 3, ..Config::default() });
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    for number in 0..10 {
        robot.hears_action(number);
    }
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!(robot.is_told_to_act(), [7, 8, 9]);
}

#[test]
fn actions_held_back_by_a_reset_are_void_when_the_client_goes() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    let _reply = robot.is_told_to_reset();
    robot.hears_action(1);
    robot.server.handle_disconnect(robot.now, ConnectionError::Lost("cable".to_owned()));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
    assert_eq!(robot.server.stats().actions_dropped, 1);
}

#[test]
fn actions_that_arrived_before_the_end_are_told_but_none_behind_a_reset() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    robot.hears(ClientMessage::Step(action(2)));
    robot.hears_action(3);
    robot.hears(ClientMessage::Reset);
    robot.hears_action(4);
    robot.server.handle_disconnect(robot.now, ConnectionError::Lost("cable".to_owned()));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 3));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
    assert!(robot.is_told().is_none());
    let stats = robot.server.stats();
    assert_eq!((stats.actions.count(), stats.actions_dropped), (4, 2), "the step's is one of them");
}
