//! Every call, and what it brings.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chiral_driver::CallError;
use chiral_proto::client::RequestError;
use chiral_proto::{Action, ActionSpec, Array, ConnectionError, Dtype, Observation, Value};
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{ClientSettings, Policy, ServerSettings};
use crate::pair::{Pair, action, hz, kind_of_observation};
use crate::supervise::{ask, eventually, soon};

/// Asserts that an observation is what the robot's sensors show.
#[track_caller]
fn assert_shows(observation: &Observation, robot: &Recorder, work: Work) {
    let mut expected = robot.sensors().snapshot(observation.timestamp);
    expected.extra = [("for", format!("{work:?}"))].into_iter().collect();
    // What the server adds, if the policy has numbered something before.
    if let Some(timing) = observation.extra.get("chiral") {
        assert!(observation.timing().is_some(), "{timing}");
        expected.extra.insert("chiral", timing);
    }
    assert_eq!(*observation, expected);
}

pub(crate) fn every_request_type_is_answered(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::diverse());
    let robot = &served.robot;
    assert!(policy.latest_obs().is_none());

    let metadata = soon(|| policy.metadata()).unwrap();
    assert_eq!(metadata.get("robot"), Some("recorder".into()));
    let joints = ["base", "elbow", "wrist"].map(Value::from).into();
    assert_eq!(metadata.get("joints"), Some(Value::Array(joints)));

    let reset = soon(|| policy.reset()).unwrap();
    assert_shows(&reset.observation, robot, Work::Reset);
    assert_eq!(reset.info.get("seed"), Some(42.into()));
    assert_eq!(reset.info.get("scene"), Some("two cubes".into()));
    assert_eq!(*policy.latest_obs().unwrap(), reset.observation);

    let observation = soon(|| policy.observe()).unwrap();
    assert_shows(&observation, robot, Work::Observe);
    assert!(observation.timestamp > reset.observation.timestamp);
    assert_eq!(policy.latest_obs(), Some(Arc::clone(&observation)));
    assert_eq!(soon(|| policy.next_obs()).unwrap(), observation);

    let batch = Action::new(Array::from_slice([2, 2], &[1_f32, 2.0, 3.0, 4.0]).unwrap());
    let step = soon(|| policy.step(batch.clone())).unwrap();
    assert_shows(&step.observation, robot, Work::Step);
    assert_eq!(step.reward.to_bits(), 10_f64.to_bits());
    assert_eq!((step.terminated, step.truncated), (false, false));
    assert_eq!(step.info.get("success"), Some(false.into()));
    let last = soon(|| policy.step([-1.0].into())).unwrap();
    assert_eq!((last.terminated, last.truncated), (true, false));
    let last = soon(|| policy.step([101.0].into())).unwrap();
    assert_eq!((last.terminated, last.truncated), (false, true));

    soon(|| policy.close());
    match robot.wait_for_disconnects(1) {
        ConnectionError::ClosedByPeer { code: Some(1000), .. } => {}
        other => panic!("{other:?}"),
    }
    let history = robot.history();
    let stepped = Entry::Stepped(batch.decided_on(&observation));
    assert_eq!(history[..3], [Entry::Connected, Entry::Reset, stepped]);
}

#[track_caller]
fn assert_is(array: &Array, shape: &[usize], dtype: Dtype) {
    assert_eq!(*array.shape(), *shape);
    assert_eq!(array.dtype(), dtype);
}

/// What the observation of [`Recorder::diverse`] is, word for word: both sides might be wrong in
/// the same way.
pub(crate) fn an_observation_arrives_unchanged(pair: Pair) {
    let (_served, policy) = pair.meet(Recorder::diverse());
    let observation = soon(|| policy.observe()).unwrap();
    let names: Vec<_> = observation.cameras.iter().map(|camera| &*camera.name).collect();
    assert_eq!(names, ["wrist_cam", "thermal", "scan"]);

    let wrist = &observation["wrist_cam"];
    assert_is(&wrist.image, &[4, 6, 3], Dtype::U8);
    assert_eq!(wrist.image.bytes()[..], (0..72).collect::<Vec<u8>>());
    let depth = wrist.depth.as_ref().unwrap();
    assert_is(depth, &[2, 3], Dtype::F32);
    assert_eq!(depth.to_f32()[..5], [0.5, 1.0, 1.5, 2.0, f32::INFINITY]);
    assert_eq!(wrist.intrinsics.row(0).iter().copied().collect::<Vec<_>>(), [600.5, 0.25, 320.0]);
    assert_eq!(
        wrist.extrinsics.column(3).iter().copied().collect::<Vec<_>>(),
        [0.1, -0.2, 1.5, 1.0]
    );
    assert_eq!(wrist.timestamp.to_bits(), 12.25_f64.to_bits());

    let thermal = &observation["thermal"];
    assert_is(&thermal.image, &[3, 5], Dtype::U16);
    assert_eq!(thermal.image.as_slice::<u16>().unwrap()[14], 56_000);
    assert!(thermal.depth.is_none());
    let scan = observation["scan"].depth.as_ref().unwrap();
    assert_is(scan, &[2, 2, 1], Dtype::U16);

    let joints = &observation.proprio("joint_pos").unwrap().values;
    assert_is(joints, &[7], Dtype::F32);
    let torque = &observation.proprio("joint_torque").unwrap().values;
    assert_eq!(torque.as_slice::<f64>().unwrap()[..], [1e-300, -0.0, 7.0]);
    let contacts = &observation.proprio("contacts").unwrap().values;
    assert_eq!(contacts.as_slice::<bool>().unwrap()[..], [true, false]);
}

pub(crate) fn a_large_observation_arrives_intact(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::large());
    for _ in 0..3 {
        let observation = soon(|| policy.observe()).unwrap();
        assert_shows(&observation, &served.robot, Work::Observe);
    }
}

pub(crate) fn actions_of_any_shape_and_dtype_arrive(pair: Pair) {
    let mut settings = ServerSettings::default();
    settings.machine.action_spec = ActionSpec::any().allow_empty();
    let served = pair.server.serve_with(Recorder::small(), settings);
    let mut settings = ClientSettings::default();
    settings.machine.float32_actions = false;
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    let sent = [
        Array::vector(vec![1_f32, -2.5, f32::MIN_POSITIVE]),
        Array::from_slice([2, 3], &[1_f64, 2.0, 3.0, 4.0, 5.0, 1e30]).unwrap(),
        Array::from_slice([], &[7_i64]).unwrap(),
        Array::from_slice([0], &[0_f32; 0]).unwrap(),
        Array::vector(vec![true, false]),
        Array::vector((0..20_000).collect::<Vec<u32>>()),
    ];
    let sent = sent.map(Action::new);
    for action in &sent {
        policy.send_action(action.clone()).unwrap();
    }
    served.robot.wait_for_applied(sent.len());
    let none = Observation::default();
    assert_eq!(served.robot.applied(), sent.map(|action| action.decided_on(&none)));
}

/// What one of many threads calls, in turn, and the numbers of the answers it got.
fn calls(policy: &dyn Policy, thread: u16, rounds: u16) -> Vec<u64> {
    let mut serials = Vec::new();
    for round in 0..rounds {
        let (kind, observation) = match (thread + round) % 4 {
            0 => {
                let metadata = policy.metadata().unwrap();
                serials.push(metadata.get("serial").unwrap().as_u64().unwrap());
                continue;
            }
            1 => (Work::Reset, policy.reset().unwrap().observation),
            2 => (Work::Observe, (*policy.observe().unwrap()).clone()),
            _ => {
                // The robot pays the sum of the action as its reward: nobody else's will do.
                let (mine, own) = (f32::from(thread), f32::from(round));
                let step = policy.step([1000.0 * mine, own].into()).unwrap();
                assert!((step.reward - f64::from(1000.0 * mine + own)).abs() < 0.5);
                (Work::Step, step.observation)
            }
        };
        assert_eq!(kind_of_observation(&observation), format!("{kind:?}"));
        serials.push(observation.timestamp as u64);
    }
    serials
}

pub(crate) fn concurrent_calls_beside_a_stream_get_their_own_replies(pair: Pair) {
    const THREADS: u16 = 4;
    const ROUNDS: u16 = 60;
    let (_served, policy) = pair.meet(Recorder::small());
    policy.start_obs_stream(hz(200.0)).unwrap();
    let streaming = ask(&policy, |policy| {
        let mut last = None;
        while let Ok(observation) = policy.next_obs() {
            assert!(last < Some(observation.timestamp), "{last:?} {}", observation.timestamp);
            last = Some(observation.timestamp);
        }
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| ask(&policy, move |policy| calls(policy, thread, ROUNDS)))
        .collect();
    let mut seen = HashSet::new();
    for thread in threads {
        let serials = thread.done();
        assert!(serials.is_sorted(), "a later call got an earlier answer");
        for serial in serials {
            assert!(seen.insert(serial), "the answer {serial} came twice");
        }
    }
    assert_eq!(seen.len(), usize::from(THREADS * ROUNDS));
    let asked = u64::from(THREADS * ROUNDS) * 3 / 4;
    eventually(|| policy.stats().observations.count() > asked);
    assert_eq!(policy.error(), None);
    soon(|| policy.close());
    streaming.done();
}

/// Makes a call again as long as it gives up.
fn retry_on_timeout<T>(mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    loop {
        match call() {
            Err(CallError::Unanswered(RequestError::TimedOut { .. })) => {}
            other => break other,
        }
    }
}

pub(crate) fn a_call_times_out_and_its_late_reply_is_dropped(pair: Pair) {
    let served = pair.server.serve(Recorder::small().held(Work::Observe));
    let request_timeout = Some(Duration::from_millis(100));
    let settings = ClientSettings { request_timeout, ..ClientSettings::default() };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    let error = soon(|| policy.observe()).unwrap_err();
    assert!(matches!(error, CallError::Unanswered(RequestError::TimedOut { .. })), "{error:?}");

    // An answer comes behind the late one, which the robot is still at.
    let patient = ask(&policy, |policy| retry_on_timeout(|| policy.metadata()));
    served.robot.release(Work::Observe);
    assert_eq!(patient.done().unwrap().get("robot"), Some("recorder".into()));
    assert!(policy.stats().requests_timed_out >= 1);
    // Where answers may be lost, the late one is waited for before another is asked for.
    let observation = soon(|| retry_on_timeout(|| policy.observe())).unwrap();
    assert_eq!(kind_of_observation(&observation), "Observe");
    assert_eq!(policy.error(), None);
}

pub(crate) fn cloned_handles_share_one_connection(pair: Pair) {
    let (served, first) = pair.meet(Recorder::small());
    let second = first.another();
    let observation = soon(|| first.observe()).unwrap();
    assert_eq!(soon(|| first.next_obs()).unwrap(), observation);
    assert_eq!(soon(|| second.next_obs()).unwrap(), observation, "it is new to this one");
    soon(|| drop(first));
    soon(|| second.metadata()).expect("the other handle keeps the connection");
    second.send_action(action(1)).unwrap();
    served.robot.wait_for_applied(1);
    let third = second.another();
    soon(|| second.close());
    soon(|| third.metadata()).unwrap_err();
    served.robot.wait_for_disconnects(1);
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 1);
}
