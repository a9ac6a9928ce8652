//! Chunks, the queue, the dispatch, and the order in which a robot is moved.

use std::time::{Duration, Instant};

use chiral_proto::client::{Config, NotQueuedReason};
use chiral_proto::timeline::{BasisError, Starved};
use chiral_proto::{Action, ActionKind, ActionSpec, Array, Observation};
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{ClientSettings, ServerSettings};
use crate::pair::{Pair, action, actions, hz, values};
use crate::supervise::{A_WHILE, ask, eventually, soon};

pub(crate) fn a_chunk_carries_the_timestamps_of_its_own_observation(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::new(2, [4, 6]));
    let sensors = served.robot.sensors();
    let basis = soon(|| policy.observe()).unwrap();
    sensors.update_image_at("cam_1", &[7_u8; 72], 99.5).unwrap();
    let latest = soon(|| policy.observe()).unwrap();
    assert_ne!(basis.camera_timestamps(), latest.camera_timestamps());

    policy.put_chunk(&basis, actions(0..10)).unwrap();
    policy.start_action_dispatch(hz(500.0)).unwrap();
    served.robot.wait_for_applied(10);
    policy.stop_action_dispatch();
    policy.send_action(action(10)).unwrap();
    served.robot.wait_for_applied(11);

    let mut expected: Vec<Action> =
        actions(0..10).into_iter().map(|action| action.decided_on(&basis)).collect();
    expected.push(action(10).decided_on(&latest));
    assert_eq!(served.robot.applied(), expected);
}

pub(crate) fn the_policy_can_clear_and_replace_queued_actions(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let machine = Config { queue_capacity: 4, ..Config::default() };
    let settings = ClientSettings { machine, ..ClientSettings::default() };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    let none = Observation::default();
    policy.put_action(action(1)).unwrap();
    policy.put_chunk(&none, actions(2..4)).unwrap();
    assert_eq!(policy.queued_actions(), 3);

    let refused = policy.put_chunk(&none, actions(4..6)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Full { waiting: 3, capacity: 4 });
    assert_eq!(values(&refused.actions), [4.0, 5.0], "they are given back");
    assert_eq!(policy.clear_actions(), 3);
    policy.put_chunk(&none, actions(6..8)).unwrap();
    assert_eq!(policy.replace_actions(&none, actions(8..11)).unwrap(), 2);

    policy.start_action_dispatch(hz(500.0)).unwrap();
    served.robot.wait_for_applied(3);
    policy.stop_action_dispatch();
    policy.put_action(action(11)).unwrap();
    policy.send_action(action(12)).unwrap();
    served.robot.wait_for_applied(4);
    assert_eq!(policy.queued_actions(), 1, "it waits for the dispatch to be started again");
    policy.start_action_dispatch(hz(500.0)).unwrap();
    served.robot.wait_for_applied(5);
    assert_eq!(values(&served.robot.applied()), [8.0, 9.0, 10.0, 12.0, 11.0]);
    assert_eq!(policy.stats().actions_dropped, 5);
    assert_eq!(served.server.stats().unwrap().actions.count(), 5);
}

pub(crate) fn dispatch_stays_on_its_grid_and_counts_starved_ticks(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    policy.put_chunk(&Observation::default(), actions(0..5)).unwrap();
    let earliest_start = Instant::now();
    policy.start_action_dispatch(hz(250.0)).unwrap();
    let latest_start = Instant::now();
    eventually(|| policy.stats().starvations >= 20);

    // An answer brings the machine up to the time; the ticks that have come then are counted.
    let earliest_end = Instant::now();
    soon(|| policy.metadata()).unwrap();
    let stats = policy.stats();
    let latest_end = Instant::now();
    policy.stop_action_dispatch();
    served.robot.wait_for_applied(5);
    assert_eq!(values(&served.robot.applied()), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(stats.actions.count(), 5);
    // Every tick has sent an action, found none, or was missed; the first one is at once.
    let ticks = stats.actions.count() + stats.starvations + stats.dispatch_ticks_missed;
    let in_time = |time: Duration| (time.as_secs_f64() * 250.0).floor() as u64;
    let at_least = in_time(earliest_end - latest_start);
    let at_most = in_time(latest_end - earliest_start) + 1;
    assert!((at_least..=at_most).contains(&ticks), "{ticks} of {at_least}..={at_most}: {stats}");
}

pub(crate) fn actions_older_than_max_age_are_never_sent(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let machine = Config { max_age: Some(Duration::from_millis(20)), ..Config::default() };
    let settings = ClientSettings { machine, ..ClientSettings::default() };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    policy.put_action(action(1)).unwrap();
    std::thread::sleep(Duration::from_millis(25));
    policy.start_action_dispatch(hz(500.0)).unwrap();
    eventually(|| policy.stats().actions_expired == 1);
    // One that is in time, however busy the machine.
    eventually(|| {
        if policy.queued_actions() == 0 {
            policy.put_action(action(2)).unwrap();
        }
        !served.robot.applied().is_empty()
    });
    assert_eq!(values(&served.robot.applied())[0].to_bits(), 2_f32.to_bits());
}

pub(crate) fn a_chunk_goes_on_where_the_robot_is(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    let seen = soon(|| policy.observe()).unwrap();
    let placement = policy.follow(&seen, actions(0..3)).unwrap();
    assert_eq!((placement.base, placement.skipped), (0, 0));
    policy.start_action_dispatch(hz(500.0)).unwrap();
    served.robot.wait_for_applied(3);
    // Of a plan that was made before the three left, they are past; of one made after, none is.
    let later = soon(|| policy.observe()).unwrap();
    let late = policy.follow(&seen, actions(100..105)).unwrap();
    assert_eq!((late.skipped, late.first), (3, Some(3)));
    served.robot.wait_for_applied(5);
    let placement = policy.follow(&later, actions(200..203)).unwrap();
    assert_eq!((placement.base, placement.skipped), (3, 2));
    served.robot.wait_for_applied(6);
    assert_eq!(values(&served.robot.applied()), [0.0, 1.0, 2.0, 103.0, 104.0, 202.0]);

    soon(|| policy.reset()).unwrap();
    let refused = policy.follow(&later, actions(0..3)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Basis(BasisError::FormerEpoch));
}

pub(crate) fn a_policy_waits_until_its_plan_is_low(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    soon(|| policy.plan_low()).unwrap(); // it is empty
    policy.refill_at(2);
    policy.put_chunk(&Observation::default(), actions(0..5)).unwrap();
    let waiting = ask(&policy, |policy| policy.plan_low());
    std::thread::sleep(A_WHILE);
    assert!(!waiting.is_done());
    policy.start_action_dispatch(hz(500.0)).unwrap();
    waiting.done().unwrap();
    served.robot.wait_for_applied(5);
    assert_eq!(policy.queued_actions(), 0);

    policy.stop_action_dispatch();
    policy.put_chunk(&Observation::default(), actions(5..10)).unwrap();
    let waiting = ask(&policy, |policy| policy.plan_low());
    served.server.shut_down();
    waiting.done().unwrap_err();
}

pub(crate) fn a_starved_policy_sends_what_the_robot_declared(pair: Pair) {
    let mut settings = ServerSettings::default();
    settings.machine.action_spec = ActionSpec::any().kind(ActionKind::Velocity).hold([0.0]);
    let served = pair.server.serve_with(Recorder::small(), settings);
    let policy = pair.client.connect(&served.uri);
    policy.set_starved(Starved::Declared).unwrap();
    assert!(policy.set_starved(Starved::Repeat).is_err());
    soon(|| policy.metadata()).unwrap();
    assert_eq!(policy.declared_actions().kind, Some(ActionKind::Velocity));
    policy.put_action(action(1)).unwrap();
    policy.start_action_dispatch(hz(500.0)).unwrap();
    served.robot.wait_for_applied(3);
    policy.stop_action_dispatch();
    assert_eq!(values(&served.robot.applied())[..3], [1.0, 0.0, 0.0]);
    assert_eq!(policy.stats().steps, 1);
}

pub(crate) fn no_action_outlives_its_policys_connection(pair: Pair) {
    const ROUNDS: u16 = 10;
    let served = pair.server.serve(Recorder::small());
    for round in 0..ROUNDS {
        let policy = pair.client.connect(&served.uri);
        policy.put_action(action(99)).unwrap(); // waits for a dispatch that is never started
        for n in 0..3 {
            policy.send_action(action(3 * round + n)).unwrap();
        }
        if round % 2 == 0 {
            soon(|| policy.close());
        } else {
            soon(|| drop(policy));
        }
    }
    served.robot.wait_for_disconnects(usize::from(ROUNDS));
    // What the robot was not told by then it is not told any more; and nothing twice, late or out
    // of order.
    let applied = values(&served.robot.applied());
    assert!(applied.is_sorted_by(|one, next| one < next), "{applied:?}");
    assert!(!applied.contains(&99.0), "{applied:?}");
    let history = served.robot.history();
    let visits: Vec<_> = history.split_inclusive(|e| matches!(e, Entry::Disconnected(_))).collect();
    assert_eq!(visits.len(), usize::from(ROUNDS));
    for (round, visit) in visits.iter().enumerate() {
        let [Entry::Connected, acted @ .., Entry::Disconnected(_)] = visit else {
            panic!("{visit:?}")
        };
        for entry in acted {
            let Entry::Applied(action) = entry else { panic!("{entry:?}") };
            assert_eq!(action.to_f32()[0] as usize / 3, round, "{history:?}");
        }
    }
}

pub(crate) fn a_reset_is_ordered_with_slow_actions(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    let before = served.frames_received();
    policy.send_action(action(1)).unwrap();
    served.robot.wait_for_applied(1);
    served.robot.hold(Work::Apply);
    policy.send_action(action(2)).unwrap();
    let resetting = ask(&policy, |policy| policy.reset());
    // Actions overtake a request that has not left yet.
    eventually(|| policy.stats().frames_sent == 3);
    policy.send_action(action(3)).unwrap();
    eventually(|| served.frames_received() == before + 4);
    std::thread::sleep(A_WHILE);
    assert_eq!(served.robot.begun(Work::Reset), 0, "it waits for the actions before it");

    served.robot.hold(Work::Reset);
    served.robot.release(Work::Apply);
    served.robot.wait_for_begun(Work::Reset, 1);
    std::thread::sleep(A_WHILE);
    assert_eq!(served.robot.begun(Work::Apply), 2, "the third waits for the reset");
    assert!(!resetting.is_done());
    served.robot.release(Work::Reset);
    resetting.done().unwrap();
    served.robot.wait_for_applied(3);
    let history = served.robot.history();
    assert!(history[1].is_applied() && history[2].is_applied(), "{history:?}");
    assert_eq!(history[3], Entry::Reset);
    assert!(history[4].is_applied(), "{history:?}");
    assert_eq!(values(&served.robot.applied()), [1.0, 2.0, 3.0]);
}

pub(crate) fn a_step_is_ordered_with_slow_actions(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Apply));
    let before = served.frames_received();
    policy.send_action(action(1)).unwrap();
    let batch = Array::from_slice([3, 2], &[2_f32, 0.0, 0.0, 0.0, 0.0, 0.5]).unwrap();
    let stepping = ask(&policy, move |policy| policy.step(batch.into()));
    eventually(|| policy.stats().frames_sent == 2);
    policy.send_action(action(3)).unwrap();
    eventually(|| served.frames_received() == before + 3);
    std::thread::sleep(A_WHILE);
    assert_eq!(served.robot.begun(Work::Step), 0, "it waits for the action before it");
    served.robot.release(Work::Apply);
    let step = stepping.done().unwrap();
    assert_eq!(step.reward.to_bits(), 2.5_f64.to_bits());
    served.robot.wait_for_applied(2);
    let moved = served.robot.history().into_iter().skip(1).map(|entry| match entry {
        Entry::Applied(action) | Entry::Stepped(action) => action,
        other => panic!("{other:?}"),
    });
    let moved: Vec<Action> = moved.collect();
    assert_eq!(values(&moved), [1.0, 2.0, 3.0]);
    assert_eq!(*moved[1].shape(), [3, 2]);
}

pub(crate) fn the_watchdog_fires_for_a_silent_policy(pair: Pair) {
    let mut settings = ServerSettings::default();
    settings.machine.watchdog = Some(Duration::from_millis(20));
    let served = pair.server.serve_with(Recorder::small(), settings);
    let policy = pair.client.connect(&served.uri);
    for alarms in 1..=2 {
        policy.send_action(action(1)).unwrap();
        served.robot.until(alarms, |entry| *entry == Entry::Watchdog);
    }
    eventually(|| served.server.stats().is_some_and(|stats| stats.watchdog_alarms == 2));
    soon(|| policy.metadata()).unwrap();
}
