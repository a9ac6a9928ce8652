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
fn without_a_watchdog_there_is_no_timeout() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    assert_eq!(robot.sleeps_for(), None);
}

#[test]
fn the_watchdog_is_armed_from_the_start() {
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
fn the_watchdog_also_advances_with_messages_and_transmits() {
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
fn the_watchdog_fires_once_per_silence() {
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
fn only_an_action_restarts_the_watchdog() {
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
fn a_reset_pauses_the_watchdog_until_its_reply_is_sent() {
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
fn the_watchdog_stays_paused_until_all_resets_are_answered() {
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
fn a_rejected_action_does_not_restart_the_watchdog() {
    let mut robot = watched();
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.wait(ms(60));
    robot.hears(ClientMessage::ApplyAction([f32::NAN].into()));
    assert!(matches!(robot.is_told(), Some(Event::ActionsDropped { .. })));
    assert_eq!(robot.sleeps_for(), Some(ms(40)));
}

#[test]
fn a_maximum_watchdog_timeout_means_never() {
    let mut robot = Robot::new(Config { watchdog: Some(Duration::MAX), ..Config::default() });
    robot.hears_action(1);
    robot.wait(Duration::from_secs(3600 * 24 * 365));
    assert_eq!(robot.is_told_to_act(), [1]);
}

#[test]
fn a_watchdog_event_is_delivered_before_requests() {
    let mut robot = watched();
    robot.hears_action(1);
    robot.hears(ClientMessage::Observe);
    robot.wait(ms(100));
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    is_alarmed_after(&mut robot, ms(100));
    drop(robot.is_told_to_observe());
}

#[test]
fn a_new_action_cancels_an_undelivered_watchdog_event() {
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
fn the_watchdog_is_paused_during_a_reset_and_queued_actions_come_first() {
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
fn a_step_arms_the_watchdog_when_its_reply_is_sent() {
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
