//! What only tokio can show: counted tasks, a single-threaded runtime, a runtime that is dropped;
//! and many concurrent calls. Everything else about the adapter is in the matrix.

use std::collections::HashSet;
use std::time::Duration;

use chiral_proto::{ConnectionError, Observation, Rate};
use chiral_tests::{Recorder, Served, Work, eventually, soon};
use chiral_tokio::{PolicyClient, PolicyServer, ServerConfig};

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).unwrap()
}

/// For what kind of request an observation was made.
fn kind_of_observation(observation: &Observation) -> String {
    observation.extra.get("for").unwrap().as_str().unwrap().to_owned()
}

/// What one of many tasks calls in turn, and the numbers of the answers it got.
async fn calls(client: PolicyClient, task: u16, rounds: u16) -> Vec<u64> {
    let mut serials = Vec::new();
    for round in 0..rounds {
        let serial = match (task + round) % 4 {
            0 => client.metadata().await.unwrap().get("serial").unwrap().as_u64().unwrap(),
            1 => {
                let reset = client.reset().await.unwrap();
                assert_eq!(kind_of_observation(&reset.observation), "Reset");
                reset.observation.timestamp as u64
            }
            2 => {
                let observation = client.observe().await.unwrap();
                assert_eq!(kind_of_observation(&observation), "Observe");
                observation.timestamp as u64
            }
            _ => {
                // The reward is the sum of the action: another task's answer would not match.
                let (mine, own) = (f32::from(task), f32::from(round));
                let step = client.step([1000.0 * mine, own]).await.unwrap();
                assert_eq!(kind_of_observation(&step.observation), "Step");
                assert!((step.reward - f64::from(1000.0 * mine + own)).abs() < 0.5);
                step.observation.timestamp as u64
            }
        };
        serials.push(serial);
    }
    serials
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_calls_beside_a_stream_get_their_own_replies() {
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

/// Sends actions while the robot is making an observation, and waits until they are applied.
async fn apply_actions_during_an_observation(robot: Recorder) {
    let served = Served::new(robot.held(Work::Observe)).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let asking = [(); 2].map(|()| {
        let client = client.clone();
        tokio::spawn(async move { client.observe().await })
    });
    eventually(|| served.robot.begun(Work::Observe) == 1).await;
    for n in 1..=30 {
        client.send_action([n as f32]).unwrap();
        eventually(|| served.robot.applied().len() == n).await;
    }
    assert_eq!(client.stats().observations.count(), 0, "the robot is still at it");
    served.robot.release(Work::Observe);
    for asking in asking {
        soon(asking).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn on_a_single_threaded_runtime_slow_observations_do_not_delay_actions() {
    apply_actions_during_an_observation(Recorder::small()).await;
    apply_actions_during_an_observation(Recorder::small().blocking()).await;
}

/// TCP connections of this host with an end on a port, without those in `TIME_WAIT`.
#[cfg(target_os = "linux")]
fn sockets_at(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let end = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1..3].iter().any(|address| address.ends_with(&end)) && fields[3] != "06"
    };
    table.lines().skip(1).filter(is_open).count()
}

#[cfg(not(target_os = "linux"))]
fn sockets_at(_port: u16) -> usize {
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_handles_stop_everything_they_started() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let Served { robot, server, uri, serving } = Served::new(Recorder::small()).await;
    let port = server.local_addr().unwrap().port();
    let listening = tasks();

    let client = PolicyClient::connect(&uri).await.unwrap();
    client.start_obs_stream(Rate::hz(100.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(100.0).unwrap()).unwrap();
    client.put_chunk(&client.next_obs().await.unwrap(), [[1.0]; 500]).unwrap();
    let clone = client.clone();
    drop(client);
    soon(clone.next_obs()).await.unwrap();
    soon(clone.next_obs()).await.expect("the other handle keeps it alive");
    assert!(tasks() > listening);
    drop(clone);
    robot.wait_for_disconnects(1);
    eventually(|| tasks() == listening).await;

    // Now the server goes first, with one client connected, one refused, and one in its handshake.
    let client = PolicyClient::connect(&uri).await.unwrap();
    let second = PolicyClient::builder().connect_timeout(Duration::from_secs(1));
    second.connect(&uri).await.unwrap_err();
    let half_way = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    drop(server);
    soon(client.metadata()).await.expect("the serving task has a handle too");
    serving.abort();
    assert_eq!(robot.wait_for_disconnects(2), ConnectionError::ShutDown);
    let error = soon(client.metadata()).await.unwrap_err();
    assert!(error.to_string().contains("1001"), "{error}");
    eventually(|| tasks() == before).await;
    drop((half_way, client));
    eventually(|| sockets_at(port) == 0).await;
}

#[test]
fn calls_fail_when_the_runtime_of_the_connection_is_dropped() {
    let (theirs, ours) = (runtime(), runtime());
    let robot = Recorder::small().held(Work::Observe);
    let served = theirs.block_on(Served::new(robot));
    let gone = runtime();
    let client = gone.block_on(PolicyClient::connect(&served.uri)).unwrap();
    let asking = client.clone();
    let asking = ours.spawn(async move { asking.observe().await });
    served.robot.wait_for_begun(Work::Observe, 1);

    drop(gone);

    let error = ours.block_on(soon(asking)).unwrap().unwrap_err();
    assert!(error.to_string().contains("the async runtime has shut down"), "{error}");
    ours.block_on(soon(client.close()));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_observe_is_dropped_when_the_policy_disconnects() {
    let robot = Recorder::small().held(Work::Observe);
    let served = Served::new(robot).await;
    for _ in 0..2 {
        let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
        soon(client.metadata()).await.unwrap();
        let asking = client.clone();
        let asking = tokio::spawn(async move { asking.observe().await });
        eventually(|| client.stats().frames_sent == 2).await;
        client.close().await;
        soon(asking).await.unwrap().unwrap_err();
    }
    served.robot.wait_for_disconnects(2);
}

#[tokio::test]
async fn a_server_without_an_address_explains_what_to_do() {
    let server = PolicyServer::unbound(ServerConfig::default());
    for error in [
        server.local_addr().unwrap_err(),
        soon(server.serve(Recorder::small())).await.unwrap_err(),
        PolicyServer::bind("127.0.0.1:no").await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("use `bind`") || text.contains("expected host:port"), "{text}");
    }
    assert!(server.stats().is_none());
    soon(server.shutdown()).await;
}
