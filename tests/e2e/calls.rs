//! Every call of the policy's side, against a served robot, over a loopback socket.

use std::time::Duration;

use chiral_proto::client::{Config, NotQueuedReason, RequestError};
use chiral_proto::{Action, Array, Observation, Rate};
use chiral_tests::{Entry, Recorder, Served, eventually, soon};
use chiral_tokio::{CallError, PolicyClient, PolicyServer, ServerConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_gets_its_own_kind_of_answer() {
    let Served { robot, server, uri, .. } = Served::new(Recorder::new(2, [48, 64])).await;
    let client = PolicyClient::connect(&uri).await.unwrap();

    assert_eq!(client.metadata().await.unwrap().get("robot"), Some("recorder".into()));
    let reset = client.reset().await.unwrap();
    assert_eq!(reset.observation.extra.get("for"), Some("reset".into()));
    assert_eq!(reset.info.get("ok"), Some(true.into()));
    assert_eq!(*client.latest_obs().unwrap(), reset.observation);

    let observation = client.observe().await.unwrap();
    assert_eq!(*observation["cam_1"].image.shape(), [48, 64, 3]);
    let action = Action::new(Array::from_slice([2, 2], &[1_f32, 2.0, 3.0, 4.0]).unwrap());
    let step = client.step(action.clone()).await.unwrap();
    assert!((step.reward - 10.0).abs() < 1e-9);

    client.close().await;
    server.shutdown().await;
    let stepped = Entry::Stepped(action.decided_on(&observation));
    let diary = robot.diary();
    assert_eq!(diary[..3], [Entry::Connected, Entry::Reset, stepped]);
    assert!(matches!(diary[3..], [Entry::Disconnected(_)]), "{diary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_stream_while_actions_are_dispatched() {
    let Served { robot, uri, .. } = Served::new(Recorder::new(2, [48, 64])).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    client.start_obs_stream(hz(100.0)).unwrap();
    client.start_action_dispatch(hz(200.0)).unwrap();
    let first = client.next_obs().await.unwrap();
    client.put_chunk(&first, (0_u8..20).map(|n| [f32::from(n)])).unwrap();
    for _ in 0..20 {
        client.next_obs().await.unwrap();
    }
    robot.until(20, |entry| matches!(entry, Entry::Applied(_))).await;
    for (n, (_, action)) in robot.applied().into_iter().enumerate() {
        assert_eq!(action, Action::from([n as f32]).decided_on(&first));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_action_before_the_end_arrives() {
    let Served { robot, uri, .. } = Served::new(Recorder::small()).await;
    for round in 0..40 {
        let client = PolicyClient::connect(&uri).await.unwrap();
        client.put_action([99.0]).unwrap(); // waits for a dispatch that is never started
        for n in 0..3 {
            client.send_action([(3 * round + n) as f32]).unwrap();
        }
        if round % 2 == 0 {
            client.close().await;
        } else {
            drop(client);
        }
    }
    robot.until_gone(40).await;
    let applied: Vec<f32> = robot.applied().iter().map(|(_, action)| action.to_f32()[0]).collect();
    assert_eq!(applied, (0..120).map(|n| n as f32).collect::<Vec<_>>());
}

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_stops_and_starts_again_and_each_handle_sees_what_is_new_to_it() {
    let Served { uri, .. } = Served::new(Recorder::small()).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    assert!(client.latest_obs().is_none());
    client.start_obs_stream(hz(200.0)).unwrap();
    let first = soon(client.next_obs()).await.unwrap();
    let second = soon(client.next_obs()).await.unwrap();
    assert!(first.timestamp < second.timestamp, "never one twice");

    client.stop_obs_stream();
    // What was under way may still arrive; an answer to a later request comes behind it.
    let last = soon(client.observe()).await.unwrap();
    assert_eq!(client.latest_obs().as_ref(), Some(&last));
    assert_eq!(soon(client.next_obs()).await.unwrap(), last);
    let clone = client.clone();
    let waiting = tokio::spawn(async move { clone.next_obs().await });
    let observations = client.stats().observations.count();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.stats().observations.count(), observations, "it has stopped");

    client.start_obs_stream(hz(200.0)).unwrap();
    assert!(soon(waiting).await.unwrap().unwrap().timestamp > last.timestamp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_actions_is_the_policys_to_command() {
    let Served { robot, uri, server, .. } = Served::new(Recorder::small()).await;
    let config = Config { queue_capacity: 4, ..Config::default() };
    let client = PolicyClient::builder().config(config).connect(&uri).await.unwrap();
    let none = Observation::default();
    let action = |n: u8| [f32::from(n)];
    client.put_action(action(1)).unwrap();
    client.put_chunk(&none, [2, 3].map(action)).unwrap();
    assert_eq!(client.queued_actions(), 3);

    let refused = client.put_chunk(&none, [4, 5].map(action)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Full { waiting: 3, capacity: 4 });
    assert_eq!(refused.actions.len(), 2, "they are given back");
    assert_eq!(client.clear_actions(), 3);
    client.put_chunk(&none, [6, 7].map(action)).unwrap();
    assert_eq!(client.replace_actions(&none, [8, 9, 10].map(action)).unwrap(), 2);

    client.start_action_dispatch(hz(100.0)).unwrap();
    let applied = |entry: &Entry| matches!(entry, Entry::Applied(_));
    robot.until(3, applied).await;
    client.stop_action_dispatch();
    client.put_action(action(11)).unwrap();
    client.send_action(action(12)).unwrap();
    robot.until(4, applied).await;
    assert_eq!(client.queued_actions(), 1, "it waits for the dispatch to be started again");
    client.start_action_dispatch(hz(100.0)).unwrap();
    robot.until(5, applied).await;
    let values: Vec<f32> = robot.applied().iter().map(|(_, action)| action.to_f32()[0]).collect();
    assert_eq!(values, [8.0, 9.0, 10.0, 12.0, 11.0]);
    assert_eq!(client.stats().actions_dropped, 5);
    assert_eq!(server.stats().unwrap().actions.count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_gives_up_in_time_and_its_late_answer_is_nobody_elses() {
    let robot = Recorder::small().observe_takes(Duration::from_millis(700));
    let Served { uri, .. } = Served::new(robot).await;
    let timeout = Duration::from_millis(500);
    let builder = PolicyClient::builder().request_timeout(timeout);
    let client = builder.connect(&uri).await.unwrap();
    let error = soon(client.observe()).await.unwrap_err();
    assert_eq!(error, CallError::Unanswered(RequestError::TimedOut));
    // The robot is still at it; this answer comes behind the late one, and in time.
    let metadata = soon(client.metadata()).await.unwrap();
    assert_eq!(metadata.get("robot"), Some("recorder".into()));
    assert_eq!(client.stats().requests_timed_out, 1);
    assert_eq!(client.error(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watchdog_barks_over_a_silent_policy() {
    let mut config = ServerConfig::default();
    config.machine.watchdog = Some(Duration::from_millis(50));
    let Served { robot, server, uri, .. } = Served::with(Recorder::small(), config).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    for barks in 1..=2 {
        client.send_action([1.0]).unwrap();
        robot.until(barks, |entry| *entry == Entry::Watchdog).await;
    }
    eventually(|| server.stats().unwrap().watchdog_alarms == 2).await;
}

#[tokio::test]
async fn a_server_without_an_address_says_what_to_do() {
    let server = PolicyServer::unbound(ServerConfig::default());
    for error in [
        server.local_addr().unwrap_err(),
        soon(server.serve(Recorder::small())).await.unwrap_err(),
        PolicyServer::bind("127.0.0.1:no").await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("use `bind`") || text.contains("port"), "{text}");
    }
    assert!(server.stats().is_none());
    soon(server.shutdown()).await;
}
