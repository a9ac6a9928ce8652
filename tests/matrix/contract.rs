//! The robot's contract on both ends: what is refused or clamped, stopped and armed.

use std::time::Duration;

use chiral_proto::client::NotQueuedReason;
use chiral_proto::server::DropReason;
use chiral_proto::{ActionError, ActionSpec, Arming, ArmingState, OnViolation, Rate};
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{Policy, ServerSettings};
use crate::pair::{Pair, Served, action, hz, values};
use crate::supervise::{ask, eventually, soon};

/// Actions from 0 to 100.
fn spec() -> ActionSpec {
    ActionSpec::vector(1).bounds(0.0, 100.0)
}

fn serve(pair: Pair, action_spec: ActionSpec) -> Served {
    let mut settings = ServerSettings::default();
    settings.machine.action_spec = action_spec;
    pair.server.serve_with(Recorder::small(), settings)
}

/// Waits until the robot is told so often that it does not get an action because it is not armed.
#[track_caller]
fn until_not_armed(served: &Served, times: usize, expected: ArmingState) {
    let is_meant = |entry: &Entry| match entry {
        Entry::ActionsDropped(_, DropReason::NotArmed { state }) => *state == expected,
        _ => false,
    };
    served.robot.until(times, is_meant);
}

/// Asks until the robot says that it is in a state.
#[track_caller]
fn until_told(policy: &dyn Policy, state: ArmingState) {
    eventually(|| {
        soon(|| policy.observe()).unwrap();
        policy.contract_status().is_some_and(|status| status.state == state)
    });
}

pub(crate) fn what_the_contract_forbids_is_refused_on_both_ends(pair: Pair) {
    let served = serve(pair, spec().max_step(10.0));
    let policy = pair.client.connect(&served.uri);
    if !pair.client.0.requests_metadata_to_connect() {
        // What the policy does not know yet, the robot refuses.
        policy.send_action(action(101)).unwrap();
        served.robot.until(1, |entry| {
            let Entry::ActionsDropped(_, DropReason::Refused(error)) = entry else { return false };
            matches!(error, ActionError::OutOfBounds { .. })
        });
    }
    soon(|| policy.metadata()).unwrap();
    let contract = policy.contract();
    assert_eq!(contract.declaration().bounds, spec().declaration().bounds);
    let refused = policy.send_action(action(102)).unwrap_err();
    assert_eq!(values(&refused.actions), [102.0], "it is given back");
    assert_eq!(
        refused.to_string(),
        "1 action was not queued: the robot does not take action 0 of them: element 0 of the action \
         is 102, expected 0 to 100"
    );
    let basis = soon(|| policy.observe()).unwrap();
    let refused = policy.put_chunk(&basis, vec![action(1), action(103)]).unwrap_err();
    assert!(matches!(refused.reason, NotQueuedReason::Contract { row: 1, .. }), "{refused}");
    assert_eq!((refused.actions.len(), policy.queued_actions()), (2, 0));
    assert!(policy.put_action([f32::NAN].into()).is_err());
    assert!(policy.put_action([1.0, 2.0].into()).is_err());
    soon(|| policy.step([104.0].into())).unwrap_err();

    // The largest step is the robot's to judge, which knows where it is.
    policy.send_action(action(50)).unwrap();
    served.robot.wait_for_applied(1);
    policy.send_action(action(61)).unwrap();
    policy.send_action(action(60)).unwrap();
    served.robot.wait_for_applied(2);
    assert_eq!(values(&served.robot.applied()), [50.0, 60.0]);
}

pub(crate) fn what_exceeds_the_bounds_is_clamped_and_marked(pair: Pair) {
    let served = serve(pair, spec().max_step(10.0).on_violation(OnViolation::Clamp));
    let policy = pair.client.connect(&served.uri);
    for wanted in [95, 300, 0] {
        policy.send_action(action(wanted)).unwrap();
    }
    served.robot.wait_for_applied(3);
    let applied = served.robot.applied();
    assert_eq!(values(&applied), [95.0, 100.0, 90.0]);
    assert!(!applied[0].clamped && applied[2].clamped);
    soon(|| policy.metadata()).unwrap();
    policy.send_action(action(301)).unwrap();
    served.robot.wait_for_applied(4);
    assert_eq!(values(&served.robot.applied())[3].to_bits(), 100_f32.to_bits());
    assert_eq!(policy.stats().actions_clamped, 1, "the policy's own client does it now");
}

pub(crate) fn a_silent_policy_stops_the_robot_until_it_is_armed_again(pair: Pair) {
    let rate = Rate::hz(100).unwrap();
    let served = serve(pair, spec().rate(rate).stop_after(5));
    let policy = pair.client.connect(&served.uri);
    policy.send_action(action(1)).unwrap();
    served.robot.until(1, |entry| *entry == Entry::Stopped);
    let history = served.robot.history();
    assert!(history.contains(&Entry::Watchdog), "it was told to hold first: {history:?}");
    until_told(&*policy, ArmingState::Stopped);
    policy.send_action(action(2)).unwrap();
    until_not_armed(&served, 1, ArmingState::Stopped);
    soon(|| policy.reset()).unwrap();
    policy.send_action(action(3)).unwrap();
    until_not_armed(&served, 2, ArmingState::Stopped);

    assert!(served.server.arm());
    until_told(&*policy, ArmingState::Armed);
    policy.send_action(action(4)).unwrap();
    served.robot.wait_for_applied(2);
    assert_eq!(values(&served.robot.applied()), [1.0, 4.0]);
    let status = policy.contract_status().unwrap();
    assert_eq!((status.stops, status.not_armed), (1, 2));
}

/// Nothing but the stop itself is due then.
pub(crate) fn a_silent_policy_stops_a_robot_that_is_never_told_to_hold(pair: Pair) {
    let rate = Rate::hz(100).unwrap();
    let served = serve(pair, spec().rate(rate).hold_after(0).stop_after(5));
    let policy = pair.client.connect(&served.uri);
    policy.send_action(action(1)).unwrap();
    served.robot.until(1, |entry| *entry == Entry::Stopped);
}

pub(crate) fn a_reset_arms_a_robot_that_waits_for_it(pair: Pair) {
    let served = serve(pair, spec().arming(Arming::OnReset));
    let policy = pair.client.connect(&served.uri);
    policy.send_action(action(1)).unwrap();
    until_not_armed(&served, 1, ArmingState::Disarmed);
    soon(|| policy.reset()).unwrap();
    policy.send_action(action(2)).unwrap();
    served.robot.wait_for_applied(1);

    assert!(served.server.stop_motion());
    served.robot.until(1, |entry| *entry == Entry::Stopped);
    policy.send_action(action(3)).unwrap();
    until_not_armed(&served, 1, ArmingState::Stopped);
    soon(|| policy.reset()).unwrap();
    policy.send_action(action(4)).unwrap();
    served.robot.wait_for_applied(2);
    assert_eq!(values(&served.robot.applied()), [2.0, 4.0]);
}

pub(crate) fn a_robot_is_told_of_a_stop_before_it_resets(pair: Pair) {
    let served = serve(pair, spec().arming(Arming::OnReset));
    let policy = pair.client.connect(&served.uri);
    soon(|| policy.reset()).unwrap();
    served.robot.hold(Work::Apply);
    policy.send_action(action(1)).unwrap();
    served.robot.wait_for_begun(Work::Apply, 1);
    assert!(served.server.stop_motion());
    let before = served.frames_received();
    let resetting = ask(&policy, |policy| policy.reset());
    eventually(|| served.frames_received() > before);
    served.robot.release(Work::Apply);
    resetting.done().unwrap();
    let history = served.robot.history();
    assert!(history[2].is_applied(), "{history:?}");
    assert_eq!(history[3..], [Entry::Stopped, Entry::Reset]);
}

pub(crate) fn a_step_of_before_a_stop_is_not_executed(pair: Pair) {
    let served = serve(pair, spec());
    let policy = pair.client.connect(&served.uri);
    served.robot.hold(Work::Apply);
    policy.send_action(action(1)).unwrap();
    served.robot.wait_for_begun(Work::Apply, 1);
    let before = served.frames_received();
    let stepping = ask(&policy, |policy| policy.step(action(2)));
    eventually(|| served.frames_received() > before);
    assert!(served.server.stop_motion());
    served.server.arm();
    served.robot.release(Work::Apply);
    let error = stepping.done().unwrap_err();
    assert!(error.to_string().contains("armed"), "{error}");
    served.robot.until(1, |entry| matches!(entry, Entry::Disconnected(_)));
    let history = served.robot.history();
    assert!(history[1].is_applied(), "{history:?}");
    assert!(matches!(history[2..], [Entry::Stopped, Entry::Disconnected(_)]), "{history:?}");
}

pub(crate) fn nothing_is_replayed_when_a_policy_comes_back(pair: Pair) {
    let served = serve(pair, spec().arming(Arming::Manual));
    assert!(!served.server.arm(), "there is no policy");
    let policy = pair.client.connect(&served.uri);
    policy.send_action(action(1)).unwrap();
    until_not_armed(&served, 1, ArmingState::Disarmed);
    assert!(served.server.arm());
    policy.send_action(action(2)).unwrap();
    served.robot.wait_for_applied(1);
    policy.put_action(action(3)).unwrap(); // waits for a dispatch
    soon(|| policy.close());
    served.robot.wait_for_disconnects(1);

    let policy = pair.client.connect(&served.uri);
    policy.start_action_dispatch(hz(500.0)).unwrap();
    policy.send_action(action(4)).unwrap();
    until_not_armed(&served, 2, ArmingState::Disarmed);
    assert!(served.server.arm());
    policy.send_action(action(5)).unwrap();
    served.robot.wait_for_applied(2);
    assert_eq!(values(&served.robot.applied()), [2.0, 5.0]);
    assert_eq!(served.server.stats().unwrap().contract.state, ArmingState::Moving);
}

pub(crate) fn a_stop_drops_what_waits_and_what_is_planned(pair: Pair) {
    let served = serve(pair, spec());
    let policy = pair.client.connect(&served.uri);
    let basis = soon(|| policy.observe()).unwrap();
    policy.put_chunk(&basis, (0..100).map(action).collect()).unwrap();
    policy.start_action_dispatch(hz(200.0)).unwrap();
    served.robot.wait_for_applied(1);
    assert!(served.server.stop_motion());
    served.robot.until(1, |entry| *entry == Entry::Stopped);
    let applied = served.robot.applied().len();
    until_told(&*policy, ArmingState::Stopped);
    assert_eq!(policy.queued_actions(), 0, "it was decided before the stop");
    assert!(served.server.arm());
    // The old plan's observation is of before the stop, whoever sends it again.
    policy.put_chunk(&basis, vec![action(50)]).unwrap();
    served
        .robot
        .until(1, |entry| matches!(entry, Entry::ActionsDropped(_, DropReason::BeforeStop)));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(served.robot.applied().len(), applied);
    let basis = soon(|| policy.observe()).unwrap();
    policy.put_chunk(&basis, vec![action(60)]).unwrap();
    served.robot.wait_for_applied(applied + 1);
    assert_eq!(values(&served.robot.applied())[applied].to_bits(), 60_f32.to_bits());
}
