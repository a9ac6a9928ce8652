//! Actions as existing robot servers can read them.

use chiral_proto::client::Config;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, ActionSpec, Array, Dtype, DtypeKind};

use super::support::*;
use super::{Policy, untimed};

fn sent(config: Config, action: Action, is_step: bool) -> Array {
    let mut policy = Policy::new(config);
    if is_step {
        policy.client.request_step(policy.now, action, None).unwrap();
    } else {
        policy.client.send_action(policy.now, action).unwrap();
    }
    match policy.sends() {
        Some(ClientMessage::ApplyAction(action)) if !is_step => action.values,
        Some(ClientMessage::Step(action)) if is_step => action.values,
        other => panic!("{other:?}"),
    }
}

/// The existing C++ server reads `shape[1]` of it unchecked.
#[test]
fn a_step_is_sent_as_rows() {
    for (shape, rows) in
        [(&[7][..], &[1, 7][..]), (&[], &[1, 1]), (&[7, 1], &[7, 1]), (&[0], &[1, 0])]
    {
        let values = Array::zeros(Dtype::F32, shape).unwrap();
        assert_eq!(**sent(untimed(), values.into(), true).shape(), *rows);
    }
    let vector = sent(untimed(), Action::from([1.0, 2.0]), true);
    assert_eq!(*vector.to_f32(), [1.0, 2.0]);
    let action = sent(untimed(), Action::from([1.0, 2.0]), false);
    assert_eq!(**action.shape(), [2], "an action for which nothing is coupled stays a vector");
}

#[test]
fn actions_stay_as_they_are_for_a_robot_that_takes_no_floats() {
    let mut policy = Policy::default();
    let spec = ActionSpec::vector(2).dtypes(DtypeKind::Integer);
    policy.client.request_metadata(policy.now, None).unwrap();
    assert!(policy.sends().is_some());
    policy.hears(ServerMessage::Metadata(spec.to_metadata()));
    let values = Array::from_slice([2], &[1_i32, -2]).unwrap();
    policy.client.send_action(policy.now, values.clone().into()).unwrap();
    let Some(ClientMessage::ApplyAction(action)) = policy.sends() else { panic!("an action") };
    assert_eq!(action.values, values);
    assert_eq!(spec.check(&action), Ok(()));
}

#[test]
fn actions_are_sent_as_float32_by_default() {
    let values = [
        Array::from_slice([2], &[0.5_f64, -2.0]).unwrap(),
        Array::from_slice([2], &[1_i64, -2]).unwrap(),
        Array::from_slice([2], &[1_u8, 2]).unwrap(),
        Array::from_slice([2], &[0.5_f32, 2.0]).unwrap(),
    ];
    for values in values {
        for is_step in [false, true] {
            let float32 = sent(untimed(), values.clone().into(), is_step);
            assert_eq!((float32.dtype(), &*float32.to_f32()), (Dtype::F32, &*values.to_f32()));
            let config = Config { float32_actions: false, ..untimed() };
            let as_given = sent(config, values.clone().into(), is_step);
            assert_eq!((as_given.dtype(), as_given.bytes()), (values.dtype(), values.bytes()));
        }
    }
    let decided_on = Action::from(Array::from_slice([1], &[1.0_f64]).unwrap());
    let mut policy = Policy::default();
    let decided_on = decided_on.decided_on(&observation(3));
    policy.client.send_action(policy.now, decided_on).unwrap();
    let Some(ClientMessage::ApplyAction(action)) = policy.sends() else { panic!("an action") };
    assert_eq!(action.obs_timestamps, Some(stamped(3)), "it keeps its timestamps");
}
