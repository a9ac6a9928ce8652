//! Where the time of an action went, and how old observations are, as both sides tell.

use std::thread::sleep;
use std::time::{Duration, Instant};

use chiral_driver::monotonic_seconds;
use chiral_proto::CameraConfig;
use chiral_proto::client::NotFresh;
use chiral_proto::sensors::Sensors;
use chiral_tests::Recorder;

use crate::pair::{Pair, action, hz};
use crate::supervise::{eventually, soon};

/// A robot that knows how old its images are.
fn robot() -> Recorder {
    let camera = CameraConfig::new("cam", [2, 2, 3]);
    Recorder::of(Sensors::with_clock([camera], [], monotonic_seconds).unwrap())
}

pub(crate) fn both_sides_tell_where_the_time_of_an_action_went(pair: Pair) {
    const THOUGHT: Duration = Duration::from_millis(30);
    let (served, policy) = pair.meet(robot());
    policy.start_action_dispatch(hz(100.0)).unwrap();
    let start = Instant::now();
    served.robot.sensors().update_image("cam", &[7_u8; 12]).unwrap();
    sleep(THOUGHT);
    let basis = soon(|| policy.observe()).unwrap();
    sleep(THOUGHT);
    policy.put_chunk(&basis, vec![action(1)]).unwrap();
    served.robot.wait_for_applied(1);
    let at_most = start.elapsed();

    let robot = served.server.stats().unwrap().latency.last.expect("the action was numbered");
    let observed = soon(|| policy.observe()).unwrap();
    let timing = observed.timing().expect("the robot knows the extension");
    assert_eq!((timing.applied, timing.last), (1, Some(robot)));
    let latency = policy.stats().latency;
    let last = latency.last.expect("the robot has told");
    assert_eq!(last.robot, robot);

    let [age, sensor_wait, network] =
        [robot.age, robot.sensor_wait, robot.network].map(|part| part.expect("it is known"));
    let inference = last.inference.expect("it was bound to its observation");
    let parts = sensor_wait + network + inference + last.queue + robot.queue;
    assert!(age.abs_diff(parts) < Duration::from_millis(1), "{age:?}: {last:?}");
    assert!(2 * THOUGHT <= age && age <= at_most, "{age:?} within {at_most:?}: {last:?}");
    assert!(sensor_wait >= THOUGHT && inference >= THOUGHT, "{last:?}");
    let line = latency.to_string();
    assert!(line.contains("from sensor to action: sensor wait"), "{line}");
}

pub(crate) fn an_observation_that_is_too_old_is_refused(pair: Pair) {
    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);
    let (served, policy) = pair.meet(robot());
    assert_eq!(policy.fresh_obs(LONG), Err(NotFresh::Nothing));
    served.robot.sensors().update_image("cam", &[7_u8; 12]).unwrap();
    let seen = soon(|| policy.observe()).unwrap();
    assert_eq!(policy.fresh_obs(LONG), Ok(seen));
    eventually(|| matches!(policy.fresh_obs(SHORT), Err(NotFresh::Old { .. })));
    // The image stays as old in a new observation.
    soon(|| policy.observe()).unwrap();
    assert!(policy.fresh_obs(SHORT).is_err());
    let seen = soon(|| policy.observe()).unwrap();
    let age = seen.camera_age("cam", Instant::now()).unwrap().expect("the robot tells it");
    assert!(age.at_least >= SHORT && age.at_most > Some(age.at_least), "{age}");
}
