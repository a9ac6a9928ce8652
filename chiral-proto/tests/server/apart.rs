//! Motion and requests polled apart, by a robot with a thread for each.

use chiral_proto::ConnectionError;
use chiral_proto::server::Event;
use chiral_proto::wire::ClientMessage;

use super::Robot;
use super::support::*;

#[test]
fn each_poll_returns_its_own_events_and_has_a_matching_check() {
    let mut robot = Robot::default();
    assert!(!robot.server.has_motion() && !robot.server.has_request());
    robot.hears(ClientMessage::Observe);
    assert!(!robot.server.has_motion() && robot.server.has_request());
    assert!(robot.server.poll_motion(robot.now).is_none());
    robot.hears_action(1);
    assert!(robot.server.has_motion());
    let Some(Event::Observe(_reply)) = robot.server.poll_request() else { panic!() };
    assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Action(_))));
    assert!(!robot.server.has_motion() && !robot.server.has_request());
    robot.server.handle_disconnect(robot.now, ConnectionError::Lost(String::new()));
    assert!(robot.server.has_motion() && !robot.server.has_request());
    assert!(robot.server.poll_request().is_none());
    assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Disconnected(_))));
    assert!(!robot.server.has_motion());
}

#[test]
fn a_reset_is_delivered_after_the_actions_before_it() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    let Some(Event::Observe(_reply)) = robot.server.poll_request() else { panic!() };
    assert!(!robot.server.has_request());
    assert!(robot.server.poll_request().is_none(), "the action is still to be told");
    assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Action(_))));
    assert!(robot.server.has_request());
    drop(robot.is_told_to_reset());
}

#[test]
fn a_step_and_its_preceding_actions_are_delivered_in_order() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    robot.hears(ClientMessage::Step(action(2)));
    robot.hears_action(3);
    assert!(robot.server.poll_request().is_none());
    assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Action(_))));
    assert!(
        robot.server.poll_motion(robot.now).is_none(),
        "the step is an action, and the next one"
    );
    let Some(Event::Step(_, _reply)) = robot.server.poll_request() else { panic!() };
    assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Action(_))));
}

#[test]
fn a_stop_is_told_before_the_reset_or_step_that_comes_after_it() {
    for request in [ClientMessage::Reset, ClientMessage::Step(action(1))] {
        let mut robot = Robot::default();
        robot.server.stop_motion(robot.now);
        robot.server.arm(robot.now);
        robot.hears(ClientMessage::Metadata);
        robot.hears(request);
        let Some(Event::Metadata(_reply)) = robot.server.poll_request() else { panic!() };
        assert!(!robot.server.has_request());
        assert!(robot.server.poll_request().is_none(), "the stop is still to be told");
        assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Stopped(_))));
        assert!(robot.server.has_request());
        let told = robot.server.poll_request();
        assert!(matches!(told, Some(Event::Reset(_) | Event::Step(..))), "{told:?}");
    }
}
