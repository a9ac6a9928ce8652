//! Robots that fail: the policy is told why, and the robot is there for the next one.

use chiral_proto::ConnectionError;
use chiral_tests::{Fault, Recorder, Work};

use crate::adapter::Policy;
use crate::pair::{Pair, action};
use crate::supervise::{eventually, soon};

/// What a policy hears of a robot that fails.
fn complaint(policy: &dyn Policy, work: Work) -> String {
    match work {
        Work::Describe => soon(|| policy.metadata()).unwrap_err().to_string(),
        Work::Observe | Work::ObserveLate => soon(|| policy.observe()).unwrap_err().to_string(),
        Work::Reset => soon(|| policy.reset()).unwrap_err().to_string(),
        Work::Step => soon(|| policy.step(action(1))).unwrap_err().to_string(),
        Work::Apply => {
            policy.send_action(action(1)).unwrap();
            eventually(|| policy.error().is_some());
            policy.error().unwrap().to_string()
        }
    }
}

fn fail(pair: Pair, fault: Fault, work: Work, why: &str) {
    let served = pair.server.serve(Recorder::small().with(fault));
    for policies in 1..=2 {
        let policy = pair.client.connect(&served.uri);
        let complaint = complaint(&*policy, work);
        assert!(
            complaint.contains(&format!("(code 1011): the robot failed: {why}")),
            "{complaint}"
        );
        let end = served.robot.wait_for_disconnects(policies);
        assert!(matches!(end, ConnectionError::RobotFailed(_)), "{end:?}");
    }
}

/// What can go wrong, and what the policy is told the robot was at. One that does not even tell
/// what it is has no policy where that is asked first.
fn works(pair: Pair) -> impl Iterator<Item = (Work, &'static str)> {
    let is_asked_first = pair.client.0.requests_metadata_to_connect();
    WORK.into_iter().filter(move |(work, _)| *work != Work::Describe || !is_asked_first)
}

const WORK: [(Work, &str); 5] = [
    (Work::Describe, "describing itself"),
    (Work::Observe, "observing"),
    (Work::Apply, "moving"),
    (Work::Reset, "resetting"),
    (Work::Step, "stepping"),
];

pub(crate) fn a_robot_error_reaches_the_policy_and_the_next_is_admitted(pair: Pair) {
    for (work, what) in works(pair) {
        fail(pair, Fault::Fails(work), work, &format!("{what}: joint 3 is over its limit"));
    }
}

pub(crate) fn a_robot_panic_reaches_the_policy_and_the_next_is_admitted(pair: Pair) {
    for (work, what) in works(pair) {
        let why = format!("{what}: it panicked; its log says why");
        fail(pair, Fault::Panics(work), work, &why);
    }
}

pub(crate) fn a_panic_in_a_deferred_observation_reaches_the_policy(pair: Pair) {
    let why = "observing: it panicked; its log says why";
    fail(pair, Fault::LateObservationsPanic, Work::Observe, why);
}
