//! The watchdog over the policy's actions.

use std::time::Duration;

use chiral_proto::server::{Config, Event};
use chiral_proto::wire::ClientMessage;

use super::support::*;
use super::{EVERY_ACTION, Robot};

fn watched() -> Robot {
    let (watchdog, action_queue) = (Some(ms(100)), EVERY_ACTION);
    Robot::new(Config { watchdog, action_queue, ..Config::default() })
}

fn is_alarmed_after(robot: &mut Robot, silence: Duration) {
    match robot.is_told() {
        Some(Event::Watchdog { silent_for }) => assert_eq!(silent_for, silence),
        other => panic!("{other:?} instead of the watchdog"),
    }
}

#[test]
fn without_one_nothing_wakes_the_robot() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    assert_eq!(robot.sleeps_for(), None);
}

#[test]
fn it_is_armed_from_the_connection_on() {
    let mut robot = watched();
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
    robot.hears(ClientMessage::Metadata);
    robot.hears(ClientMessage::Observe);
    let _handles = (robot.is_asked_for_metadata(), robot.is_told_to_observe());
    robot.wait(ms(100));
    is_alarmed_after(&mut robot, ms(100));
    assert_eq!(robot.sleeps_for(), None);
    robot.hears_action(1);
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
}

#[test]
fn messages_and_transmits_let_its_time_pass_too() {
    let passes: [fn(&mut Robot); 2] =
        [|robot| robot.hears(ClientMessage::Observe), |robot| drop(robot.sends())];
    for passes in passes {
        let mut robot = watched();
        robot.hears_action(1);
        assert_eq!(robot.is_told_to_act(), [1]);
        robot.now += ms(100); // and nobody calls `handle_timeout`
        passes(&mut robot);
        is_alarmed_after(&mut robot, ms(100));
    }
}

#[test]
fn it_fires_once_until_the_next_action_arms_it_again() {
    let mut robot = watched();
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.wait(ms(99));
    assert!(robot.is_told().is_none());
    assert_eq!(robot.sleeps_for(), Some(ms(1)));
    robot.wait(ms(3));
    is_alarmed_after(&mut robot, ms(102));
    assert_eq!(robot.sleeps_for(), None);
    robot.wait(ms(1000));
    assert!(robot.is_told().is_none());
    robot.hears_action(2);
    assert_eq!(robot.is_told_to_act(), [2]);
    robot.wait(ms(100));
    is_alarmed_after(&mut robot, ms(100));
    assert_eq!(robot.server.stats().watchdog_alarms, 2);
}

#[test]
fn every_action_restarts_it_and_other_requests_do_not() {
    let mut robot = watched();
    robot.hears_action(1);
    robot.wait(ms(60));
    robot.hears_action(2);
    robot.wait(ms(60));
    assert_eq!(robot.is_told_to_act(), [1, 2]);
    robot.hears(ClientMessage::Observe);
    let _reply = robot.is_told_to_observe();
    assert_eq!(robot.sleeps_for(), Some(ms(40)));
    robot.wait(ms(40));
    is_alarmed_after(&mut robot, ms(100));
}

#[test]
fn a_reset_pauses_it_until_its_answer_leaves() {
    let mut robot = watched();
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    assert_eq!(robot.sleeps_for(), None);
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    let reply = robot.is_told_to_reset();
    robot.wait(ms(1000));
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(reply, reset(0)).unwrap();
    robot.wait(ms(1000));
    assert!(robot.is_told().is_none(), "the policy does not know yet that it can act");
    assert!(robot.sends().is_some());
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
    robot.wait(ms(100));
    is_alarmed_after(&mut robot, ms(100));
}

#[test]
fn the_answer_of_one_of_two_resets_does_not_arm_it() {
    let mut robot = watched();
    robot.hears(ClientMessage::Reset);
    robot.hears(ClientMessage::Reset);
    let first = robot.is_told_to_reset();
    robot.server.reply_reset(first, reset(0)).unwrap();
    assert!(robot.sends().is_some());
    assert_eq!(robot.sleeps_for(), None);
    let second = robot.is_told_to_reset();
    robot.server.reply_reset(second, reset(0)).unwrap();
    assert!(robot.sends().is_some());
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
}

#[test]
fn an_action_that_is_not_taken_does_not_restart_it() {
    let mut robot = watched();
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.wait(ms(60));
    robot.hears(ClientMessage::ApplyAction([f32::NAN].into()));
    assert!(matches!(robot.is_told(), Some(Event::ActionsDropped { .. })));
    assert_eq!(robot.sleeps_for(), Some(ms(40)));
}

#[test]
fn the_longest_timeout_means_never() {
    let mut robot = Robot::new(Config { watchdog: Some(Duration::MAX), ..Config::default() });
    robot.hears_action(1);
    robot.wait(Duration::from_secs(3600 * 24 * 365));
    assert_eq!(robot.is_told_to_act(), [1]);
}

#[test]
fn an_alarm_is_told_before_requests() {
    let mut robot = watched();
    robot.hears_action(1);
    robot.hears(ClientMessage::Observe);
    robot.wait(ms(100));
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    is_alarmed_after(&mut robot, ms(100));
    drop(robot.is_told_to_observe());
}

#[test]
fn an_alarm_that_a_new_action_overtakes_is_not_told() {
    let mut robot = watched();
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.wait(ms(100)); // It fires, but before the robot is told
    robot.hears_action(2); // the policy is back.
    assert_eq!(robot.is_told_to_act(), [2], "and nothing that stops the robot behind it");
    assert_eq!(robot.server.stats().watchdog_alarms, 0);
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
}

#[test]
fn during_a_reset_it_is_silent_and_what_was_held_back_is_told_before_it_fires() {
    let mut robot = watched();
    robot.hears(ClientMessage::Reset);
    robot.hears_action(1); // Behind the reset: it arms the watchdog, and is not told yet.
    robot.wait(ms(150));
    let reply = robot.is_told_to_reset();
    robot.wait(ms(150));
    assert!(robot.is_told().is_none(), "hold still, in the middle of a reset?");
    assert_eq!(robot.sleeps_for(), None);
    robot.server.reply_reset(reply, reset(0)).unwrap();
    // The action is old by now; the robot must not go on with it for long.
    robot.wait(ms(0));
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    is_alarmed_after(&mut robot, ms(300));
}

#[test]
fn a_step_arms_it_when_its_answer_leaves() {
    let mut robot = watched();
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.hears(ClientMessage::Step(action(2)));
    let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("the step is next") };
    // The policy cannot act before it has the answer.
    robot.wait(ms(500));
    assert!(robot.is_told().is_none());
    robot.server.reply_step(reply, step(0)).unwrap();
    robot.wait(ms(500));
    assert!(robot.is_told().is_none());
    assert!(robot.sends().is_some());
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
    robot.wait(ms(100));
    is_alarmed_after(&mut robot, ms(100));
}
