//! Orderly ends, from either side.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{Policy, ServerSettings};
use crate::pair::{Pair, Served, action, assert_closed, hz};
use crate::supervise::{A_WHILE, aside, ask, eventually, soon};

/// Asserts that a policy was told that the server is going out of service.
#[track_caller]
fn assert_told_of_shutdown(policy: &dyn Policy) {
    match policy.error() {
        Some(ConnectionError::ClosedByPeer { code: Some(1001), reason }) => {
            assert_eq!(reason, "the robot's server is shutting down");
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn shutdown_without_a_policy(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    soon(|| served.server.shut_down());
    served.assert_closed();
    assert!(served.robot.history().is_empty());
}

pub(crate) fn shutdown_while_idle(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    soon(|| policy.metadata()).unwrap();
    soon(|| served.server.shut_down());
    eventually(|| policy.error().is_some());
    assert_told_of_shutdown(&*policy);
    assert_eq!(
        served.robot.history(),
        [Entry::Connected, Entry::Disconnected(ConnectionError::ShutDown)]
    );
    served.assert_closed();
}

pub(crate) fn shutdown_answers_requests_in_progress(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Observe));
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::Observe, 1);
    let Served { server, robot, .. } = served;
    let shutting_down = aside(move || server.shut_down());
    std::thread::sleep(A_WHILE);
    assert!(!shutting_down.is_done(), "it waits for the observation");
    assert_eq!(policy.error(), None);
    robot.release(Work::Observe);
    asking.done().expect("it was in flight, and is answered");
    shutting_down.done();
    eventually(|| policy.error().is_some());
    assert_told_of_shutdown(&*policy);
    assert_eq!(robot.wait_for_disconnects(1), ConnectionError::ShutDown);
}

pub(crate) fn shutdown_while_streaming_and_dispatching(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(500.0)).unwrap();
    policy.start_action_dispatch(hz(500.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap();
    policy.put_chunk(&first, (0..1000).map(action).collect()).unwrap();
    served.robot.wait_for_applied(5);
    soon(|| served.server.shut_down());
    eventually(|| policy.error().is_some());
    assert_told_of_shutdown(&*policy);
    let history = served.robot.history();
    assert_eq!(
        history.last(),
        Some(&Entry::Disconnected(ConnectionError::ShutDown)),
        "{history:?}"
    );
}

pub(crate) fn shutdown_stops_waiting_at_its_timeout(pair: Pair) {
    let shutdown_timeout = Duration::from_millis(50);
    let settings = ServerSettings { shutdown_timeout, ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small().held(Work::Observe), settings);
    let policy = pair.client.connect(&served.uri);
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::Observe, 1);
    let start = Instant::now();
    let Served { server, robot, .. } = served;
    let shutting_down = aside(move || server.shut_down());
    asking.done().expect_err("it took too long");
    assert!(start.elapsed() >= shutdown_timeout);
    assert_told_of_shutdown(&*policy);
    // The robot is brought to rest; where its code blocks a thread, when that has come back.
    robot.release(Work::Observe);
    shutting_down.done();
    assert_eq!(robot.wait_for_disconnects(1), ConnectionError::ShutDown);
}

pub(crate) fn a_server_can_restart_on_the_same_address(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    let address = served.address();
    soon(|| served.server.shut_down());
    served.assert_closed();
    soon(|| drop(served));
    eventually(|| policy.error().is_some());
    let served = pair.server.serve_at(&address, Recorder::small());
    let policy = pair.client.connect(&served.uri);
    soon(|| policy.metadata()).unwrap();
}

pub(crate) fn a_dropped_server_closes_the_connection(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(200.0)).unwrap();
    soon(|| policy.next_obs()).unwrap();
    let Served { server, robot, uri, network } = served;
    soon(|| drop(server));
    eventually(|| policy.error().is_some());
    assert_told_of_shutdown(&*policy);
    assert_eq!(robot.wait_for_disconnects(1), ConnectionError::ShutDown);
    assert_closed(network, &uri);
}

pub(crate) fn a_dropped_policy_closes_the_connection(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(200.0)).unwrap();
    policy.start_action_dispatch(hz(200.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap();
    policy.put_chunk(&first, (0..500).map(action).collect()).unwrap();
    served.robot.wait_for_applied(2);
    soon(|| drop(policy));
    match served.robot.wait_for_disconnects(1) {
        ConnectionError::ClosedByPeer { code: Some(1000), .. } => {}
        other => panic!("{other:?}"),
    }
    assert!(served.robot.applied().len() < 500, "what waits for a tick goes with the policy");
}

pub(crate) fn closing_a_policy_does_not_wait_for_replies(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Observe));
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::Observe, 1);
    soon(|| policy.close());
    asking.done().unwrap_err();
    // The robot hears of it while it is still at the observation.
    served.robot.wait_for_disconnects(1);
}
