//! What is sent at a tick that finds no row, and between two rows.

use chiral_proto::client::{Config, Event, Misuse, Unfit};
use chiral_proto::timeline::Starved;
use chiral_proto::wire::ServerMessage;
use chiral_proto::{
    Action, ActionDeclaration, ActionKind, Array, Map, Observation, Rate, Timestamps, Value,
};

use crate::placing::Policy;
use crate::world::ms;

/// The answer of a robot that declares its actions.
fn metadata(kind: &str, hold: Option<f64>) -> Map {
    let mut action = vec![(Value::from("kind"), Value::from(kind))];
    action.extend(hold.map(|hold| ("hold".into(), Value::Array(vec![hold.into()]))));
    let chiral = Value::Map(vec![("action".into(), Value::Map(action))]);
    Map::new().with("chiral", chiral)
}

/// A policy that knows what the robot's actions are.
fn knowing(kind: ActionKind) -> Policy {
    let mut policy = Policy::default();
    policy.client.declare_actions(policy.now, ActionDeclaration::new(kind));
    policy
}

#[test]
fn by_default_nothing_is_sent_without_a_row() {
    let mut policy = Policy::dispatching();
    policy.puts(&[0.0]);
    assert_eq!(policy.ticks(3), [Some(0.0), None, None]);
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.steps, stats.held, stats.starvations), (1, 0, 3));
    assert_eq!(stats.held_ratio(), Some(0.0));
}

#[test]
fn the_last_row_is_repeated_where_actions_are_absolute() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.set_starved(Starved::Repeat).unwrap();
    policy.starts();
    assert_eq!(policy.ticks(1), [None], "nothing was sent yet");
    let seen = policy.sees(None);
    policy.follow(&seen, 3, 1).unwrap();
    assert_eq!(policy.ticks(3), [3.0; 3].map(Some));
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.steps, stats.held, stats.starvations), (1, 2, 4));
    assert_eq!(stats.held_ratio(), Some(2.0 / 3.0));
    policy.resets();
    assert_eq!(policy.ticks(2), [None; 2], "nothing of before the reset");
}

#[test]
fn a_repeated_row_carries_the_observation_of_the_first_time() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.set_starved(Starved::Repeat).unwrap();
    policy.starts();
    policy.client.put_action(policy.now, Action::from(3.0)).unwrap();
    policy.waits(ms(100));
    let first = policy.sends_action().unwrap();
    policy.sees_camera(7.0);
    policy.waits(ms(100));
    let again = policy.sends_action().unwrap();
    assert_eq!(first.obs_timestamps, Some(Timestamps::default()), "nothing was seen yet");
    assert_eq!(again.obs_timestamps, first.obs_timestamps, "it is of nothing seen since");
    assert_eq!(again.sent.unwrap().seq, first.sent.unwrap().seq + 1);
}

/// A policy that has sent a row to a robot which it knows not to be stopped.
fn moving(starved: Starved) -> Policy {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.set_starved(starved).unwrap();
    policy.client.interpolate(policy.now, 4).unwrap();
    policy.sees_state("armed", 0);
    policy.puts(&[1.0]);
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    assert_eq!(points(&mut policy, 1), [Some(1.0)]);
    policy
}

#[test]
fn what_was_before_a_stop_of_the_robot_moves_it_no_more() {
    for starved in [Starved::Repeat, Starved::Hold(Action::from(5.0)), Starved::Declared] {
        // It may have been armed again since, before the policy has seen it.
        for (state, stops) in [("stopped", 1), ("armed", 1)] {
            let mut policy = moving(starved.clone());
            policy.puts(&[2.0]);
            policy.sees_state(state, stops);
            assert_eq!(policy.client.queued_actions(), 0, "{starved:?}, {state}");
            assert_eq!(points(&mut policy, 8), [None; 8], "{starved:?}, {state}");
            policy.sees_state("armed", stops);
            assert_eq!(points(&mut policy, 8), [None; 8], "{starved:?}, {state}");
            policy.puts(&[9.0]);
            let sent: Vec<f32> = points(&mut policy, 4).into_iter().flatten().collect();
            assert_eq!(sent, [9.0], "no point on the way from a row of before: {starved:?}");
        }
    }
}

#[test]
#[should_panic(expected = "dimension 0 has bounds from 1 to -1")]
fn limits_that_cannot_be_meant_are_not_declared() {
    let spec = chiral_proto::ActionSpec::vector(1).bounds(-1.0, 1.0);
    let mut declared = spec.declaration().clone();
    declared.bounds.as_mut().unwrap().low = 1.0.into();
    declared.bounds.as_mut().unwrap().high = (-1.0).into();
    let mut policy = Policy::default();
    policy.client.declare_actions(policy.now, declared);
}

#[test]
fn a_row_is_repeated_no_longer_than_it_may_wait() {
    let mut policy = Policy::new(Config { max_age: Some(ms(250)), ..Config::default() });
    policy.client.declare_actions(policy.now, ActionDeclaration::new(ActionKind::Absolute));
    policy.client.set_starved(Starved::Repeat).unwrap();
    policy.starts();
    policy.puts(&[1.0]);
    assert_eq!(policy.ticks(4), [Some(1.0), Some(1.0), None, None]);
}

#[test]
fn repeating_what_keeps_a_robot_moving_is_refused() {
    for kind in [Some(ActionKind::Delta), Some(ActionKind::Velocity), None] {
        let mut policy = kind.map_or_else(Policy::default, knowing);
        let refused = policy.client.set_starved(Starved::Repeat).unwrap_err();
        assert_eq!(refused, Misuse::Unfit(Unfit::Repeat { kind }));
        policy.client.set_starved(Starved::Hold(Action::from(0.0))).unwrap();
        policy.client.set_starved(Starved::Declared).unwrap();
    }
    assert_eq!(
        Unfit::Repeat { kind: Some(ActionKind::Velocity) }.to_string(),
        "`Starved::Repeat` is for absolute actions, and the robot's are declared as velocity: repeated, a delta or a velocity keeps the robot moving; use `Starved::Hold`"
    );
    assert_eq!(
        Unfit::Interpolation { kind: None }.to_string(),
        "points between the rows are for absolute actions and velocities, and what the robot's are is not known: more deltas move the robot further; ask for its metadata first, or say it with `declare_actions`"
    );
}

/// What is sent at two starved ticks, after a row, to a robot that declares this.
fn declared(kind: &str, hold: Option<f64>) -> [Option<f32>; 2] {
    let mut policy = Policy::default();
    policy.client.set_starved(Starved::Declared).unwrap();
    policy.client.request_metadata(policy.now, None).unwrap();
    assert!(policy.client.poll_transmit(policy.now).is_some());
    let answer = ServerMessage::Metadata(metadata(kind, hold)).encode();
    policy.client.handle_message(policy.now, answer.to_bytes());
    policy.puts(&[0.5]);
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    assert_eq!(policy.sends_action().map(|row| row.to_f32()[0]), Some(0.5));
    let sent = policy.ticks(2);
    [sent[0], sent[1]]
}

#[test]
fn what_the_robot_declared_is_sent() {
    assert_eq!(declared("velocity", Some(0.0)), [Some(0.0); 2]);
    assert_eq!(declared("delta", None), [None; 2]);
    assert_eq!(declared("absolute", None), [Some(0.5); 2]);
    assert_eq!(declared("absolute", Some(7.0)), [Some(7.0); 2]);
    assert_eq!(declared("something else", None), [None; 2]);
}

#[test]
fn a_declaration_that_a_setting_does_not_fit_undoes_it() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.set_starved(Starved::Repeat).unwrap();
    policy.client.interpolate(policy.now, 4).unwrap();
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    policy.puts(&[0.0, 1.0]);
    assert!(policy.sends_action().is_some());
    policy.client.request_metadata(policy.now, None).unwrap();
    assert!(policy.client.poll_transmit(policy.now).is_some());
    let answer = ServerMessage::Metadata(metadata("delta", None)).encode();
    policy.client.handle_message(policy.now, answer.to_bytes());
    let kind = Some(ActionKind::Delta);
    let events: Vec<_> = std::iter::from_fn(|| policy.client.poll_event()).collect();
    assert_eq!(
        events[..2],
        [Event::Undone(Unfit::Repeat { kind }), Event::Undone(Unfit::Interpolation { kind }),]
    );
    assert_eq!(policy.client.declared_actions().kind, kind);
    assert_eq!(policy.sends_action().map(|row| row.to_f32()[0]), Some(1.0), "the grid begins anew");
    assert_eq!(policy.ticks(2), [None; 2]);
}

/// What is sent in the next ticks of 25 ms.
fn points(policy: &mut Policy, count: usize) -> Vec<Option<f32>> {
    let point = |_| {
        let sent = policy.sends_action().map(|action| action.to_f32()[0]);
        policy.waits(ms(25));
        sent
    };
    (0..count).map(point).collect()
}

#[test]
fn points_lie_on_the_line_between_two_rows() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.interpolate(policy.now, 4).unwrap();
    policy.puts(&[0.0, 1.0, 3.0]);
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    let expected = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0].map(Some);
    assert_eq!(points(&mut policy, 9), expected);
    assert_eq!(points(&mut policy, 4), [None; 4]);
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.steps, stats.actions.count(), stats.starvations), (3, 9, 1));
    // Numbered as all actions are: nine on the wire are three steps.
    let seen = policy.sees(Some(6));
    assert_eq!(policy.follow(&seen, 0, 9).unwrap().base, 2);
}

#[test]
fn a_point_follows_the_plan_as_it_is_now() {
    let mut policy = knowing(ActionKind::Velocity);
    policy.client.interpolate(policy.now, 4).unwrap();
    policy.puts(&[0.0, 1.0]);
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    assert_eq!(points(&mut policy, 2), [0.0, 0.25].map(Some));
    policy.client.clear_actions();
    policy.puts(&[2.0]);
    assert_eq!(points(&mut policy, 3), [1.0, 1.5, 2.0].map(Some));
}

#[test]
fn a_row_that_could_not_leave_keeps_its_turn() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.interpolate(policy.now, 4).unwrap();
    policy.puts(&[0.0, 1.0, 2.0]);
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    assert_eq!(points(&mut policy, 3), [0.0, 0.25, 0.5].map(Some));
    // The transport takes nothing for a while, over the tick of the row.
    policy.waits(ms(50));
    assert_eq!(points(&mut policy, 3), [1.0, 1.25, 1.5].map(Some));
    assert_eq!(policy.client.stats(policy.now).dispatch_ticks_missed, 2);
}

#[test]
fn between_rows_that_are_no_floats_of_one_shape_there_is_no_point() {
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.interpolate(policy.now, 2).unwrap();
    let rows = [
        Action::from([1.0, 1.0]),
        Action::from([[1.0, 1.0]]),
        Action::new(Array::vector(vec![1_i32, 1])),
    ];
    policy.client.put_chunk(policy.now, &Observation::default(), rows).unwrap();
    policy.client.start_action_dispatch(policy.now, Rate::hz(20).unwrap()).unwrap();
    assert_eq!(points(&mut policy, 5), [Some(1.0), None, Some(1.0), None, Some(1.0)]);
}

#[test]
fn interpolation_is_refused_where_it_would_move_the_robot_further() {
    for kind in [Some(ActionKind::Delta), None] {
        let mut policy = kind.map_or_else(Policy::default, knowing);
        let refused = policy.client.interpolate(policy.now, 2).unwrap_err();
        assert_eq!(refused, Misuse::Unfit(Unfit::Interpolation { kind }));
        for one in [0, 1] {
            policy.client.interpolate(policy.now, one).unwrap();
        }
    }
    let mut policy = knowing(ActionKind::Absolute);
    policy.client.interpolate(policy.now, 1000).unwrap();
    let fast = Rate::hz(10_000).unwrap();
    let refused = policy.client.start_action_dispatch(policy.now, fast).unwrap_err();
    assert_eq!(refused, Misuse::TooFast { points: 1000 });
    assert_eq!(
        refused.to_string(),
        "1000 points to a row would be more than 1000000 a second: ask for fewer"
    );
    policy.client.interpolate(policy.now, 1).unwrap();
    policy.client.start_action_dispatch(policy.now, fast).unwrap();
    assert!(policy.client.interpolate(policy.now, 1000).is_err());
    assert!(policy.client.is_dispatching());
}
