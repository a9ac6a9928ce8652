//! The observation stream, and those who are slow.

use std::sync::Arc;
use std::time::Instant;

use chiral_tests::{Recorder, Work};

use crate::pair::{Pair, action, hz};
use crate::supervise::{A_WHILE, ask, eventually, soon};

pub(crate) fn a_stream_delivers_new_observations_at_its_rate(pair: Pair) {
    let (_served, policy) = pair.meet(Recorder::small());
    let start = Instant::now();
    policy.start_obs_stream(hz(200.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap().timestamp;
    let mut last = first;
    for _ in 0..10 {
        let observation = soon(|| policy.next_obs()).unwrap();
        assert!(last < observation.timestamp, "{last} {}", observation.timestamp);
        last = observation.timestamp;
    }
    // The first tick is at once. A late one may be followed by a timely one, so that only the
    // grid's beginning is certain: no more than its ticks.
    let ticks = (start.elapsed().as_secs_f64() * 200.0).floor() + 1.0;
    let observations = last - first + 1.0;
    assert!(observations <= ticks, "{observations} observations in {ticks} ticks");
}

pub(crate) fn a_stream_can_be_stopped_and_restarted(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(500.0)).unwrap();
    soon(|| policy.next_obs()).unwrap();

    policy.stop_obs_stream();
    // What was under way may still arrive; an answer to a later request comes behind it.
    let last = soon(|| policy.observe()).unwrap();
    assert_eq!(policy.latest_obs(), Some(Arc::clone(&last)));
    assert_eq!(soon(|| policy.next_obs()).unwrap(), last);
    let begun = served.robot.begun(Work::Observe);
    assert_eq!(soon(|| policy.next_obs_within(A_WHILE)).unwrap(), None);
    assert_eq!(served.robot.begun(Work::Observe), begun, "nobody asks any more");

    let waiting = ask(&policy, |policy| policy.next_obs());
    policy.start_obs_stream(hz(500.0)).unwrap();
    assert!(waiting.done().unwrap().timestamp > last.timestamp);
    assert!(soon(|| policy.next_obs()).unwrap().timestamp > last.timestamp);
}

pub(crate) fn a_slow_policy_gets_no_backlog(pair: Pair) {
    let (_served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(500.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap();
    // It thinks about the first one.
    let before = policy.stats().observations.count();
    eventually(|| policy.stats().observations.count() >= before + 20);
    policy.stop_obs_stream();
    let newest = soon(|| policy.observe()).unwrap();
    assert!(newest.timestamp >= first.timestamp + 20.0);
    assert_eq!(soon(|| policy.next_obs()).unwrap(), newest, "what came between is not waiting");
    assert_eq!(soon(|| policy.next_obs_within(A_WHILE)).unwrap(), None);
}

pub(crate) fn an_observation_can_be_looked_for_without_waiting(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Observe));
    assert_eq!(policy.try_next_obs().unwrap(), None);
    policy.start_obs_stream(hz(500.0)).unwrap();
    eventually(|| served.robot.begun(Work::Observe) == 1);
    assert_eq!(policy.try_next_obs().unwrap(), None, "the robot is at it");
    served.robot.release(Work::Observe);
    let mut first = None;
    eventually(|| {
        first = policy.try_next_obs().unwrap();
        first.is_some()
    });
    policy.stop_obs_stream();
    let last = soon(|| policy.observe()).unwrap();
    assert!(last.timestamp > first.unwrap().timestamp);
    assert_eq!(policy.try_next_obs().unwrap(), Some(last));
    assert_eq!(policy.try_next_obs().unwrap(), None, "never one twice");
    policy.close();
    policy.try_next_obs().expect_err("the connection has ended");
}

pub(crate) fn a_slow_robot_lowers_the_rate_and_gets_no_backlog(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Observe));
    policy.start_obs_stream(hz(500.0)).unwrap();
    eventually(|| policy.stats().stream_ticks_missed >= 10);
    assert_eq!(served.robot.begun(Work::Observe), 1, "one request is in flight");
    assert_eq!(policy.stats().frames_sent, 1);
    assert!(policy.latest_obs().is_none());
    served.robot.release(Work::Observe);
    for _ in 0..3 {
        soon(|| policy.next_obs()).unwrap();
    }
}

fn apply_actions_during_an_observation(pair: Pair, robot: Recorder) {
    let (served, policy) = pair.meet(robot.held(Work::Observe));
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::Observe, 1);
    for n in 1..=20 {
        policy.send_action(action(n)).unwrap();
        served.robot.wait_for_applied(usize::from(n));
    }
    assert_eq!(policy.stats().observations.count(), 0, "the robot is still at it");
    served.robot.release(Work::Observe);
    asking.done().unwrap();
}

pub(crate) fn slow_observations_do_not_delay_actions(pair: Pair) {
    apply_actions_during_an_observation(pair, Recorder::small());
}

pub(crate) fn blocking_observe_does_not_delay_actions(pair: Pair) {
    apply_actions_during_an_observation(pair, Recorder::small().blocking());
}

pub(crate) fn actions_arrive_while_a_large_observation_is_stalled(pair: Pair) {
    let served = pair.server.serve(Recorder::large());
    let relay = served.relay();
    let policy = pair.client.connect(relay.uri());
    soon(|| policy.metadata()).unwrap();
    relay.freeze_server();
    let asking = ask(&policy, |policy| policy.observe());
    eventually(|| served.server.stats().is_some_and(|stats| stats.observations.count() == 1));
    for n in 1..=5 {
        policy.send_action(action(n)).unwrap();
        served.robot.wait_for_applied(usize::from(n));
    }
    assert_eq!(policy.stats().observations.count(), 0, "it has not come through");
    relay.thaw();
    let observation = asking.done().unwrap();
    assert_eq!(observation.cameras, served.robot.sensors().snapshot(0.0).cameras);
}

pub(crate) fn large_observations_stream_alongside_action_dispatch(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::large());
    policy.start_obs_stream(hz(50.0)).unwrap();
    policy.start_action_dispatch(hz(200.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap();
    let plan: Vec<_> = (0..30).map(action).collect();
    policy.put_chunk(&first, plan.clone()).unwrap();
    let before = policy.stats().observations.count();
    served.robot.wait_for_applied(plan.len());
    eventually(|| policy.stats().observations.count() > before + 2);
    let latest = soon(|| policy.next_obs()).unwrap();
    assert_eq!(latest.cameras, served.robot.sensors().snapshot(0.0).cameras);
    let expected: Vec<_> = plan.into_iter().map(|action| action.decided_on(&first)).collect();
    assert_eq!(served.robot.applied(), expected);
}
