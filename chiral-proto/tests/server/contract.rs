//! The contract: what is refused or clamped, what missed periods bring about, and what arms the robot.

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Answer, Config, DropReason, Event};
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{
    Action, ActionError, ActionKind, ActionSpec, Arming, ArmingState, Array, ConnectionError,
    Observation, OnViolation, ProprioConfig, Rate, Sent, StopReason, Timestamps,
};

use super::support::*;
use super::{EVERY_ACTION, Robot};

/// Actions of one number from -100 to 100, in steps of at most 10, at 10 Hz.
fn spec() -> ActionSpec {
    let rate = Rate::hz(10).unwrap();
    ActionSpec::vector(1).bounds(-100.0, 100.0).max_step(10.0).rate(rate).stop_after(5)
}

fn robot(action_spec: ActionSpec) -> Robot {
    Robot::new(Config { action_spec, action_queue: EVERY_ACTION, ..Config::default() })
}

impl Robot {
    fn hears_to_move_to(&mut self, target: f32) {
        self.hears(ClientMessage::ApplyAction([target].into()));
    }

    /// Where the robot is told to move; `None` when it is told something else, or nothing.
    fn moves_to(&mut self) -> Option<f32> {
        match self.server.poll_motion(self.now) {
            Some(Event::Action(action)) => Some(action.to_f32()[0]),
            _ => None,
        }
    }

    fn is_refused(&mut self) -> DropReason {
        match self.is_told() {
            Some(Event::ActionsDropped { count: 1, reason }) => reason,
            other => panic!("{other:?} instead of an action dropped"),
        }
    }

    fn state(&self) -> ArmingState {
        self.server.stats().contract.state
    }

    fn resets(&mut self) {
        self.hears(ClientMessage::Reset);
        let reply = self.is_told_to_reset();
        self.server.reply_reset(reply, reset(0)).unwrap();
        self.sends().unwrap();
    }
}

/// What a policy adds that knows the timing extension.
fn numbered() -> Sent {
    Sent { seq: 1, hold: None }
}

fn not_armed(state: ArmingState) -> DropReason {
    DropReason::NotArmed { state }
}

#[test]
fn what_is_out_of_bounds_or_too_far_is_not_executed() {
    let mut robot = robot(spec());
    robot.hears_to_move_to(100.5);
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::OutOfBounds { .. })));
    robot.hears_to_move_to(50.0);
    assert_eq!(robot.moves_to(), Some(50.0), "from where is not known");
    robot.hears_to_move_to(61.0);
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::TooFar { .. })));
    robot.hears_to_move_to(60.0);
    assert_eq!(robot.moves_to(), Some(60.0), "it resumes at the next valid one");
    let status = robot.server.stats().contract;
    assert_eq!((status.refused, status.clamped), (2, 0));
}

#[test]
fn what_exceeds_is_clamped_marked_and_told() {
    let mut robot = robot(spec().on_violation(OnViolation::Clamp));
    for (wanted, expected, marked) in [(95.0, 95.0, false), (150.0, 100.0, true), (0.0, 90.0, true)]
    {
        robot.hears_to_move_to(wanted);
        let Some(Event::Action(action)) = robot.is_told() else { panic!("it is clamped") };
        assert_eq!((action.to_f32()[0], action.clamped), (expected, marked));
    }
    let mut told: Vec<_> = std::iter::from_fn(|| robot.is_told())
        .map(|event| match event {
            Event::ActionsClamped { count, error } => (count, error.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            (
                1,
                "element 0 of the action is 0, expected at most 10 from 100, where it was"
                    .to_owned()
            ),
            (1, "element 0 of the action is 150, expected -100 to 100".to_owned()),
        ]
    );
    robot.hears_to_move_to(f32::NAN);
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::NotFinite { .. })));
    let status = robot.server.stats().contract;
    assert_eq!((status.refused, status.clamped), (1, 2));
}

#[test]
fn a_step_is_measured_from_what_the_robot_was_given_not_from_what_came() {
    let mut robot = Robot::new(Config { action_spec: spec(), ..Config::default() });
    robot.hears_to_move_to(0.0);
    assert_eq!(robot.moves_to(), Some(0.0));
    robot.hears_to_move_to(10.0);
    robot.hears_to_move_to(20.0); // overtakes the one before
    assert_eq!(robot.moves_to(), None);
    robot.hears_to_move_to(10.0);
    assert_eq!(robot.moves_to(), Some(10.0));
}

#[test]
fn the_first_step_is_measured_from_where_the_robot_is() {
    let sensors = Sensors::new([], [ProprioConfig::new("joint_pos", 1)]).unwrap();
    let mut robot = robot(spec().measured_by("joint_pos"));
    robot.server.set_sensors(sensors.clone());
    robot.hears_to_move_to(0.0);
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::NotMeasured { .. })));
    sensors.update_proprio("joint_pos", &[42.0_f32]).unwrap();
    for (target, expected) in [(53.0, None), (31.0, None), (52.0, Some(52.0)), (60.0, Some(60.0))] {
        robot.hears_to_move_to(target);
        assert_eq!(robot.moves_to(), expected, "{target}");
    }
    // After a hold it is where it was told to stay, which is not where it was last sent.
    robot.wait(ms(150));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    for (target, expected) in [(65.0, None), (52.0, Some(52.0))] {
        robot.hears_to_move_to(target);
        assert_eq!(robot.moves_to(), expected, "{target}");
    }
}

#[test]
fn velocities_begin_at_rest_again_after_a_hold() {
    let mut robot = robot(spec().kind(ActionKind::Velocity));
    for (speed, expected) in [(11.0, None), (10.0, Some(10.0)), (20.0, Some(20.0)), (9.0, None)] {
        robot.hears_to_move_to(speed);
        assert_eq!(robot.moves_to(), expected, "{speed}");
    }
    robot.wait(ms(150));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    robot.hears_to_move_to(20.0);
    assert_eq!(robot.moves_to(), None, "the robot stands still now");
}

#[test]
fn missed_periods_hold_the_robot_and_then_stop_it_until_it_is_armed() {
    let mut robot = robot(spec());
    robot.wait(ms(1000));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    assert_eq!(
        robot.state(),
        ArmingState::Armed,
        "a policy may take its time for the first action"
    );
    robot.hears_to_move_to(0.0);
    assert_eq!((robot.moves_to(), robot.state()), (Some(0.0), ArmingState::Moving));

    assert_eq!(robot.sleeps_for(), Some(ms(150)), "the first period is missed");
    robot.wait(ms(150));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    assert_eq!(robot.state(), ArmingState::Holding);
    robot.hears_to_move_to(1.0);
    assert_eq!((robot.moves_to(), robot.state()), (Some(1.0), ArmingState::Moving));

    robot.wait(ms(150));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    assert_eq!(robot.sleeps_for(), Some(ms(400)), "the fifth is missed");
    robot.wait(ms(400));
    let silent_for = ms(550);
    let told = robot.is_told();
    assert!(
        matches!(told, Some(Event::Stopped(reason)) if reason == StopReason::MissedPeriods { silent_for })
    );
    for _ in 0..3 {
        robot.hears_to_move_to(2.0);
        assert_eq!(robot.is_refused(), not_armed(ArmingState::Stopped));
        robot.wait(ms(1000));
        assert!(robot.is_told().is_none(), "it is told once");
    }
    robot.resets();
    assert_eq!(robot.state(), ArmingState::Stopped, "a reset does not arm this robot");

    robot.server.arm(robot.now);
    robot.hears_to_move_to(3.0);
    assert_eq!(robot.moves_to(), Some(3.0));
    let status = robot.server.stats().contract;
    assert_eq!((status.stops, status.not_armed, status.missed), (1, 3, 1 + 5));
}

#[test]
fn a_refused_action_is_no_sign_of_life() {
    let mut robot = robot(spec());
    robot.hears_to_move_to(0.0);
    assert_eq!(robot.moves_to(), Some(0.0));
    let mut told = Vec::new();
    for _ in 0..10 {
        robot.wait(ms(60));
        robot.hears_to_move_to(50.0);
        while let Some(event) = robot.is_told() {
            match event {
                Event::ActionsDropped { .. } => {}
                Event::Watchdog { .. } => told.push("hold"),
                Event::Stopped(_) => told.push("stop"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, ["hold", "stop"]);
}

#[test]
fn actions_that_waited_for_a_robot_that_had_not_moved_are_no_silence() {
    let mut robot = robot(spec());
    for target in 0..10 {
        robot.hears_to_move_to(target as f32);
        robot.wait(ms(100));
    }
    while robot.moves_to() != Some(0.0) {} // told to hold, or given the first
    robot.wait(ms(1));
    assert_eq!(robot.state(), ArmingState::Moving);
    for target in 1..10 {
        assert_eq!(robot.moves_to(), Some(target as f32));
    }
    assert_eq!(robot.server.stats().contract.missed, 0);
    assert_eq!(robot.sleeps_for(), Some(ms(49)), "the last one came 101 ms ago");
    robot.wait(ms(449));
    assert_eq!(robot.state(), ArmingState::Stopped);
}

#[test]
fn a_policy_that_waits_for_the_answer_of_a_reset_is_not_silent() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::Reset);
    robot.hears_to_move_to(1.0); // behind the reset
    let reply = robot.is_told_to_reset();
    robot.wait(ms(2000));
    robot.server.reply_reset(reply, reset(0)).unwrap();
    robot.sends().unwrap();
    assert_eq!(robot.moves_to(), Some(1.0));
    robot.wait(ms(549));
    assert_eq!(robot.state(), ArmingState::Moving);
    robot.wait(ms(1));
    assert_eq!(robot.state(), ArmingState::Stopped);
}

#[test]
fn an_action_given_before_the_answer_of_a_reset_leaves_is_no_silence() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::Reset);
    robot.hears_to_move_to(1.0); // behind the reset
    let reply = robot.is_told_to_reset();
    robot.wait(ms(2000));
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!(robot.moves_to(), Some(1.0));
    robot.wait(ms(2000)); // the transport is busy
    robot.sends().unwrap();
    assert_eq!(robot.server.stats().contract.missed, 0);
    robot.wait(ms(549));
    assert_eq!(robot.state(), ArmingState::Moving);
    robot.wait(ms(1));
    assert_eq!(robot.state(), ArmingState::Stopped);
}

#[test]
fn the_time_of_a_reset_is_no_silence_for_the_action_before_it() {
    let mut robot = robot(spec());
    robot.hears_to_move_to(1.0);
    robot.hears(ClientMessage::Reset);
    assert_eq!(robot.moves_to(), Some(1.0));
    let reply = robot.is_told_to_reset();
    robot.wait(ms(2000));
    robot.hears_to_move_to(2.0); // behind the reset
    robot.server.reply_reset(reply, reset(0)).unwrap();
    robot.sends().unwrap();
    assert_eq!(robot.moves_to(), Some(2.0));
    assert_eq!(robot.server.stats().contract.missed, 0);
}

#[test]
fn a_robot_armed_during_a_reset_is_not_told_to_hold_when_it_is_done() {
    let mut robot = robot(spec().arming(Arming::Manual));
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.server.arm(robot.now);
    robot.wait(ms(2000));
    robot.server.reply_reset(reply, reset(0)).unwrap();
    robot.wait(ms(2000)); // the transport is busy
    assert!(robot.is_told().is_none());
    robot.sends().unwrap();
    robot.wait(ms(149));
    assert!(robot.is_told().is_none());
    robot.wait(ms(1));
    assert!(
        matches!(robot.is_told(), Some(Event::Watchdog { silent_for }) if silent_for == ms(150))
    );
}

#[test]
fn a_refused_action_behind_a_reset_is_no_silence() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.wait(ms(2000));
    robot.hears_to_move_to(1.0);
    robot.hears_to_move_to(50.0);
    robot.server.reply_reset(reply, reset(0)).unwrap();
    robot.wait(ms(100)); // the transport is busy
    assert_eq!(robot.moves_to(), Some(1.0));
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::TooFar { .. })));
    robot.wait(ms(100));
    assert!(robot.is_told().is_none());
    robot.sends().unwrap();
    robot.wait(ms(149));
    assert!(robot.is_told().is_none());
    robot.wait(ms(1));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
}

#[test]
fn a_step_of_before_a_stop_is_not_executed_after_it() {
    for is_resetting in [false, true] {
        let mut robot = robot(spec());
        let reply = is_resetting.then(|| {
            robot.hears(ClientMessage::Reset);
            robot.is_told_to_reset()
        });
        robot.hears(ClientMessage::Step([0.0].into()));
        robot.server.stop_motion(robot.now);
        robot.server.arm(robot.now);
        assert!(matches!(robot.is_told(), Some(Event::Stopped(_))), "it comes first");
        if let Some(reply) = reply {
            assert!(robot.is_told().is_none());
            robot.server.reply_reset(reply, reset(0)).unwrap();
        }
        assert!(robot.is_told().is_none());
        let told = robot.is_told();
        let Some(Event::Disconnected(error)) = told else { panic!("{told:?}") };
        assert_eq!(error, ConnectionError::NotArmed { state: ArmingState::Stopped });
    }
    let mut robot = robot(spec());
    robot.server.stop_motion(robot.now);
    robot.server.arm(robot.now);
    assert!(matches!(robot.is_told(), Some(Event::Stopped(_))));
    robot.hears(ClientMessage::Step([0.0].into()));
    assert!(matches!(robot.is_told(), Some(Event::Step(..))), "one that comes afterwards is");
}

#[test]
fn an_empty_step_changes_nothing_for_the_step_after_it() {
    let mut robot = robot(spec().allow_empty());
    robot.hears_to_move_to(5.0);
    assert_eq!(robot.moves_to(), Some(5.0));
    robot.hears(ClientMessage::Step(Array::from_slice::<f32>([0, 1], &[]).unwrap().into()));
    let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("it is allowed") };
    robot.server.reply_step(reply, step(0)).unwrap();
    robot.sends().unwrap();
    robot.hears_to_move_to(16.0);
    assert!(matches!(robot.is_refused(), DropReason::Refused(ActionError::TooFar { .. })));
    robot.hears_to_move_to(15.0);
    assert_eq!(robot.moves_to(), Some(15.0));
}

#[test]
fn a_silent_policy_is_stopped_also_when_its_action_after_a_step_was_refused() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::Step([0.0].into()));
    let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("it is armed") };
    robot.server.reply_step(reply, step(0)).unwrap();
    robot.sends().unwrap();
    robot.hears_to_move_to(50.0);
    assert!(matches!(robot.is_refused(), DropReason::Refused(_)));
    robot.hears_to_move_to(1.0);
    assert_eq!(robot.moves_to(), Some(1.0));
    robot.wait(ms(550));
    assert_eq!(robot.state(), ArmingState::Stopped);
}

#[test]
fn nothing_that_came_or_was_decided_before_a_stop_is_executed_after_it() {
    let mut robot = robot(spec());
    let decided_at = |millis, target: f32| {
        let timestamps = Timestamps::default().with_snap(Some(ms(millis)));
        let obs_timestamps = Some(timestamps);
        ClientMessage::ApplyAction(Action {
            obs_timestamps,
            sent: Some(numbered()),
            ..[target].into()
        })
    };
    robot.hears_to_move_to(0.0);
    robot.hears_to_move_to(1.0);
    robot.wait(ms(10));
    robot.server.stop_motion(robot.now);
    assert!(matches!(robot.is_told(), Some(Event::Stopped(StopReason::Requested))));
    assert!(matches!(robot.is_told(), Some(Event::ActionsDropped { count: 2, .. })));
    robot.wait(ms(10));
    robot.server.arm(robot.now);
    robot.hears(decided_at(9, 2.0));
    assert_eq!(robot.is_refused(), DropReason::BeforeStop);
    robot.hears(decided_at(11, 3.0));
    assert_eq!(robot.moves_to(), Some(3.0));
}

#[test]
fn an_observation_that_was_handed_over_before_a_stop_is_of_before_it_when_it_leaves() {
    let mut robot = robot(spec());
    let decided_on = |seen: &Observation, target: f32| {
        let snap = seen.timing().map(|timing| timing.snap);
        ClientMessage::ApplyAction(Action {
            obs_timestamps: Some(Timestamps::default().with_snap(snap)),
            sent: Some(Sent { seq: 2, hold: None }),
            ..[target].into()
        })
    };
    let first = Action { sent: Some(numbered()), ..[0.0].into() };
    robot.hears(ClientMessage::ApplyAction(first));
    assert_eq!(robot.moves_to(), Some(0.0));
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [at_hand, late] = [(); 2].map(|()| robot.is_told_to_observe());
    robot.server.reply_observation(at_hand, observation(1)).unwrap();
    robot.server.reply_observation(late, Answer::when_sent(|_| observation(2))).unwrap();

    // The transport takes nothing until the robot was stopped and armed again.
    robot.wait(ms(10));
    robot.server.stop_motion(robot.now);
    assert!(matches!(robot.is_told(), Some(Event::Stopped(_))));
    robot.wait(ms(10));
    robot.server.arm(robot.now);
    robot.wait(ms(10));
    let [Some(ServerMessage::Observation(at_hand)), Some(ServerMessage::Observation(late))] =
        [(); 2].map(|()| robot.sends())
    else {
        panic!("two observations are ready")
    };
    robot.hears(decided_on(&at_hand, 1.0));
    assert_eq!(robot.is_refused(), DropReason::BeforeStop);
    robot.hears(decided_on(&late, 2.0));
    assert_eq!(robot.moves_to(), Some(2.0), "it was made when it left");
}

#[test]
fn a_robot_that_a_reset_arms_takes_no_action_before_it() {
    let mut robot = robot(spec().arming(Arming::OnReset));
    robot.hears_to_move_to(0.0);
    assert_eq!(robot.is_refused(), not_armed(ArmingState::Disarmed));
    robot.wait(ms(5000));
    assert!(robot.is_told().is_none(), "nothing moves that would have to hold");
    robot.hears(ClientMessage::Reset);
    robot.hears_to_move_to(1.0); // behind the reset
    let reply = robot.is_told_to_reset();
    robot.hears_to_move_to(2.0);
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!((robot.moves_to(), robot.moves_to()), (Some(1.0), Some(2.0)));

    robot.server.stop_motion(robot.now);
    assert!(matches!(robot.is_told(), Some(Event::Stopped(_))));
    robot.resets();
    assert_eq!(robot.state(), ArmingState::Armed, "after a stop too");

    // But not a reset that was under way when the robot was stopped.
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.server.stop_motion(robot.now);
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!(robot.state(), ArmingState::Stopped);
}

#[test]
fn a_robot_that_only_its_operator_arms_is_not_armed_by_the_policy() {
    let mut robot = robot(spec().arming(Arming::Manual));
    robot.resets();
    robot.hears_to_move_to(0.0);
    assert_eq!(robot.is_refused(), not_armed(ArmingState::Disarmed));
    robot.server.arm(robot.now);
    robot.hears_to_move_to(1.0);
    assert_eq!(robot.moves_to(), Some(1.0));
    robot.resets();
    assert_eq!(robot.state(), ArmingState::Armed, "a reset does not disarm");
    robot.server.handle_disconnect(robot.now, ConnectionError::Reset);
    robot.server.arm(robot.now);
    assert_eq!(robot.state(), ArmingState::Disarmed, "what has ended is not armed");
}

#[test]
fn the_rows_of_a_step_are_judged() {
    let rows = |rows: &[f32]| {
        ClientMessage::Step(Array::from_slice([rows.len(), 1], rows).unwrap().into())
    };
    let step_of = |robot: &mut Robot| {
        let mut told = std::iter::from_fn(|| robot.is_told());
        let step = told.find_map(|event| match event {
            Event::Step(action, reply) => Some((action, reply)),
            Event::ActionsClamped { .. } => None,
            other => panic!("{other:?} instead of a step"),
        });
        let (action, reply) = step.expect("it is told of the step");
        robot.server.reply_step(reply, super::support::step(0)).unwrap();
        robot.sends().unwrap();
        action
    };
    let mut clamping = robot(spec().on_violation(OnViolation::Clamp));
    clamping.hears(rows(&[0.0, 10.0, 40.0, 200.0]));
    assert_eq!(*step_of(&mut clamping).to_f32(), [0.0, 10.0, 20.0, 30.0]);
    clamping.hears(rows(&[50.0]));
    let second = step_of(&mut clamping);
    assert_eq!((second.to_f32()[0], second.clamped), (40.0, true));

    let mut refusing = robot(spec());
    refusing.hears(rows(&[0.0, 10.0, 40.0]));
    assert!(refusing.is_told().is_none());
    assert!(matches!(
        refusing.is_told(),
        Some(Event::Disconnected(ConnectionError::RefusedStep(_)))
    ));

    let mut disarmed = robot(spec().arming(Arming::Manual));
    disarmed.hears(rows(&[0.0]));
    let error = disarmed.server.error().unwrap();
    assert_eq!((error.is_ours(), error.close_code()), (true, 1008));
    assert!(matches!(error, ConnectionError::NotArmed { state: ArmingState::Disarmed }));
}

#[test]
fn a_policy_that_steps_is_not_stopped_while_the_robot_steps() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::Step([0.0].into()));
    let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("it is armed") };
    robot.wait(ms(60_000));
    assert_eq!(robot.state(), ArmingState::Moving);
    robot.server.reply_step(reply, step(0)).unwrap();
    robot.sends().unwrap();
    robot.wait(ms(549));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    robot.wait(ms(1));
    assert!(matches!(robot.is_told(), Some(Event::Stopped(_))));
}

#[test]
fn the_policy_is_told_how_it_keeps_to_the_contract() {
    let mut robot = robot(spec());
    robot.hears(ClientMessage::ApplyAction(Action { sent: Some(numbered()), ..[0.0].into() }));
    assert_eq!(robot.moves_to(), Some(0.0));
    robot.wait(ms(100));
    robot.hears_to_move_to(500.0);
    robot.wait(ms(150));
    robot.hears(ClientMessage::Observe);
    while let Some(event) = robot.is_told() {
        if let Event::Observe(reply) = event {
            robot.server.reply_observation(reply, observation(0)).unwrap();
        }
    }
    let Some(ServerMessage::Observation(told)) = robot.sends() else { panic!() };
    let status = told.timing().unwrap().contract.unwrap();
    assert_eq!(status, robot.server.stats().contract);
    assert_eq!((status.state, status.refused, status.missed), (ArmingState::Holding, 1, 2));
    assert_eq!(status.success_rate(), Some(1.0 / 3.0));
}
