//! Everything at once: calls from many tasks, streams, slow robots, order, rates.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chiral_proto::{Action, ConnectionError, Observation, Rate};
use chiral_tests::{Entry, Fault, Opcode, Recorder, Served, eventually, soon};
use chiral_tokio::PolicyClient;

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).unwrap()
}

/// For what kind of request an observation was made.
fn made_for(observation: &Observation) -> String {
    observation.extra.get("for").unwrap().as_str().unwrap().to_owned()
}

/// What one of many tasks calls, in turn, and the numbers of the answers it got.
async fn calls(client: PolicyClient, task: u16, rounds: u16) -> Vec<u64> {
    let mut serials = Vec::new();
    for round in 0..rounds {
        let serial = match (task + round) % 4 {
            0 => client.metadata().await.unwrap().get("serial").unwrap().as_u64().unwrap(),
            1 => {
                let reset = client.reset().await.unwrap();
                assert_eq!(made_for(&reset.observation), "reset");
                reset.observation.timestamp as u64
            }
            2 => {
                let observation = client.observe().await.unwrap();
                assert_eq!(made_for(&observation), "observe");
                observation.timestamp as u64
            }
            _ => {
                // The robot pays the sum of the action as its reward: nobody else's will do.
                let (mine, own) = (f32::from(task), f32::from(round));
                let step = client.step([1000.0 * mine, own]).await.unwrap();
                assert_eq!(made_for(&step.observation), "step");
                assert!((step.reward - f64::from(1000.0 * mine + own)).abs() < 0.5);
                step.observation.timestamp as u64
            }
        };
        serials.push(serial);
    }
    serials
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_from_several_tasks_beside_a_stream_swap_no_answer() {
    const TASKS: u16 = 8;
    const ROUNDS: u16 = 1250;
    let served = Served::new(Recorder::small()).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    client.start_obs_stream(hz(30.0)).unwrap();

    let streamed = client.clone();
    let streaming = tokio::spawn(async move {
        let mut last = None;
        while let Ok(observation) = streamed.next_obs().await {
            assert!(last < Some(observation.timestamp), "{last:?} {}", observation.timestamp);
            last = Some(observation.timestamp);
        }
    });
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(calls(client.clone(), task, ROUNDS))).collect();
    let mut seen = HashSet::new();
    for task in tasks {
        let serials = task.await.unwrap();
        assert!(serials.is_sorted(), "a later call got an earlier answer");
        for serial in serials {
            assert!(seen.insert(serial), "the answer {serial} came twice");
        }
    }
    assert_eq!(seen.len(), usize::from(TASKS * ROUNDS));

    let stats = client.stats();
    let observations = u64::from(TASKS * ROUNDS) * 3 / 4;
    assert!(stats.observations.count() > observations, "the stream went on: {stats}");
    assert_eq!(stats.round_trip.count(), stats.frames_received);
    assert_eq!(client.error(), None);
    client.close().await;
    soon(streaming).await.unwrap();
}

/// Sends actions to a robot that is at an observation, and waits until they are applied.
async fn act_beside_an_observation(robot: Recorder) {
    let served = Served::new(robot).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let asking = [(); 2].map(|()| {
        let client = client.clone();
        tokio::spawn(async move { client.observe().await })
    });
    served.robot.until(1, |entry| *entry == Entry::Observing).await;
    for n in 1..=30 {
        client.send_action([n as f32]).unwrap();
        served.robot.until(n, |entry| matches!(entry, Entry::Applied(_))).await;
    }
    assert_eq!(client.stats().observations.count(), 0, "the robot is still at it");
    let blocks = served.robot.blocks();
    served.robot.unblock();
    if !blocks {
        client.close().await;
    }
    for asking in asking {
        assert_eq!(soon(asking).await.unwrap().is_ok(), blocks);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_action_waits_for_a_slow_observation() {
    act_beside_an_observation(Recorder::small().observe_takes(Duration::from_secs(3600))).await;
    act_beside_an_observation(Recorder::small().observe_blocks()).await;
}

#[tokio::test]
async fn not_even_in_a_runtime_of_one_thread() {
    act_beside_an_observation(Recorder::small().observe_takes(Duration::from_secs(3600))).await;
    act_beside_an_observation(Recorder::small().observe_blocks()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_a_barrier_between_slow_actions() {
    let served = Served::new(Recorder::small().apply_takes(Duration::from_millis(20))).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let mut expected = vec![Entry::Connected];
    let put = |n: u8| {
        client.send_action([f32::from(n)]).unwrap();
        Entry::Applied(Action::from([f32::from(n)]).decided_on(&Observation::default()))
    };
    let mut resets = Vec::new();
    for round in 0..3 {
        expected.extend((0..4).map(|n| put(10 * round + n)));
        let (client, sent) = (client.clone(), client.clone());
        resets.push(tokio::spawn(async move { client.reset().await }));
        // Four actions and the reset of each round are sent; what is put after it goes behind it.
        eventually(|| sent.stats().frames_sent == 5 * (u64::from(round) + 1)).await;
        expected.push(Entry::Reset);
    }
    expected.push(put(99));
    for reset in resets {
        soon(reset).await.unwrap().unwrap();
    }
    served.robot.until(13, |entry| matches!(entry, Entry::Applied(_))).await;
    let unstamped = |entry| match entry {
        Entry::Applied(action) => Entry::Applied(Action {
            obs_timestamps: Some(chiral_proto::Timestamps::default()),
            ..action
        }),
        other => other,
    };
    let diary: Vec<Entry> = served.robot.diary().into_iter().map(unstamped).collect();
    assert_eq!(diary, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_keeps_its_place_among_slow_actions() {
    let served = Served::new(Recorder::small().apply_takes(Duration::from_millis(20))).await;
    for _ in 0..10 {
        // All in one packet, so that the robot has them all at once.
        let action = |n: f32| {
            let action = chiral_proto::wire::ClientMessage::ApplyAction([n].into());
            chiral_tests::message(Opcode::Binary, &action.encode().to_bytes(), true)
        };
        let step = chiral_proto::wire::ClientMessage::Step([2.0].into()).encode().to_bytes();
        let step = chiral_tests::message(Opcode::Binary, &step, true);
        let before = served.robot.diary().len();
        let mut raw = served.raw().await;
        raw.send(&[action(1.0), step, action(3.0)].concat()).await;
        raw.next().await.unwrap();
        eventually(|| served.robot.diary().len() == before + 4).await;
        let diary = served.robot.diary();
        let values = diary[before + 1..].iter().map(|entry| match entry {
            Entry::Applied(action) | Entry::Stepped(action) => action.to_f32()[0],
            other => panic!("{other:?}"),
        });
        assert_eq!(values.collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        raw.send_message(Opcode::Close, &[]).await;
        raw.to_end().await;
        eventually(|| served.robot.diary().len() == before + 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_fails_tells_the_policy_why_and_is_there_for_the_next() {
    for (fault, why) in [
        (Fault::ActionsFail, "the robot failed: moving: joint 3 is over its torque limit"),
        (Fault::ResetsPanic, "the robot failed: resetting: it panicked"),
        (Fault::MetadataPanics, "the robot failed: describing itself: it panicked"),
        (Fault::LateObservationsPanic, "the robot failed: observing: it panicked: the camera was"),
    ] {
        let served = Served::new(Recorder::small().with(fault)).await;
        for policies in 1..=2 {
            let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
            let reason = match fault {
                Fault::ActionsFail => {
                    client.send_action([1.0]).unwrap();
                    eventually(|| client.error().is_some()).await;
                    client.error().unwrap().to_string()
                }
                Fault::ResetsPanic => soon(client.reset()).await.unwrap_err().to_string(),
                Fault::MetadataPanics => soon(client.metadata()).await.unwrap_err().to_string(),
                Fault::LateObservationsPanic => {
                    soon(client.observe()).await.unwrap_err().to_string()
                }
            };
            assert!(reason.contains(&format!("code 1011: {why}")), "{reason}");
            let end = served.robot.until_gone(policies).await;
            assert!(matches!(end, ConnectionError::RobotFailed(_)), "{end:?}");
        }
    }
}

/// Dispatches for a while, and holds the count of ticks against the clock. What is certain,
/// however busy the machine: every tick of the grid has sent an action, found none, or was missed.
async fn dispatch(rate: f64) {
    let served = Served::new(Recorder::small()).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let queue = |client: &PolicyClient| {
        let room = 1024 - client.queued_actions();
        client.put_chunk(&Observation::default(), (0..room).map(|n| [n as f32])).unwrap();
    };
    queue(&client);
    let earliest_start = Instant::now();
    client.start_action_dispatch(hz(rate)).unwrap();
    let latest_start = Instant::now();
    while latest_start.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        queue(&client);
    }

    // An answer brings the machine up to the time; what is sent then has been counted.
    let earliest_end = Instant::now();
    soon(client.metadata()).await.unwrap();
    let stats = client.stats();
    let latest_end = Instant::now();
    client.stop_action_dispatch();
    let (sent, missed) = (stats.actions.count(), stats.dispatch_ticks_missed);
    assert_eq!(stats.starvations, 0, "{stats}");
    let ticks = sent + missed;
    let at_least = ((earliest_end - latest_start).as_secs_f64() * rate).floor() as u64;
    let at_most = ((latest_end - earliest_start).as_secs_f64() * rate).floor() as u64 + 1;
    assert!((at_least..=at_most).contains(&ticks), "{rate} Hz: {ticks} of {at_least}..{at_most}");
    // No test of speed: a machine with other work may miss most of them.
    assert!(sent > ticks / 20, "{rate} Hz: {stats}");

    // What was sent has arrived, with at most one more tick before the dispatch was stopped.
    let sent = client.stats().actions.count();
    served.robot.until(sent as usize, |entry| matches!(entry, Entry::Applied(_))).await;
    assert_eq!(client.stats().actions.count(), sent);
    assert_eq!(served.robot.applied().len() as u64, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dispatch_keeps_to_its_grid() {
    let rates = [10.0, 50.0, 100.0, 500.0].map(|rate| tokio::spawn(dispatch(rate)));
    for rate in rates {
        rate.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_without_actions_starves_and_says_so() {
    let served = Served::new(Recorder::small()).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    client.start_action_dispatch(hz(200.0)).unwrap();
    client.put_chunk(&Observation::default(), [[1.0], [2.0], [3.0]]).unwrap();
    eventually(|| client.stats().starvations >= 10).await;
    assert_eq!(client.stats().actions.count(), 3);
    assert_eq!(served.robot.applied().len(), 3);
}
