//! How long things live: dead peers, shutting down, dropping handles, robots that take their time.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::client::RequestError;
use chiral_proto::wire::ClientMessage;
use chiral_proto::ws::Keepalive;
use chiral_proto::{Action, Rate};
use chiral_tests::{Entry, Opcode, RawServer, Recorder, Served, eventually, soon};
use chiral_tokio::{CallError, PolicyClient, ServerConfig};

const QUICK: Keepalive =
    Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_millis(200) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_silently_is_noticed() {
    let config = ServerConfig { keepalive: Some(QUICK), ..ServerConfig::default() };
    let served = Served::with(Recorder::small(), config).await;
    let start = Instant::now();
    let mut vanished = served.raw().await;

    let ConnectionError::Lost(why) = served.robot.until_gone(1).await else { panic!("it is lost") };
    assert!(why.contains("unresponsive"), "{why}");
    assert!(start.elapsed() >= QUICK.interval + QUICK.timeout, "{:?}", start.elapsed());
    assert_eq!(vanished.next().await.unwrap(), (Opcode::Ping, vec![]), "it was asked before");

    // One that answers pings may say nothing else for as long as it likes.
    let quiet = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    tokio::time::sleep(3 * (QUICK.interval + QUICK.timeout)).await;
    assert_eq!(quiet.error(), None);
    soon(quiet.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_vanishes_silently_is_noticed() {
    let server = RawServer::new().await;
    let uri = server.uri();
    let connecting = PolicyClient::builder().keepalive(QUICK).connect(&uri);
    let (client, _vanished) = soon(async { tokio::join!(connecting, server.accept(b"")) }).await;
    let client = client.unwrap();
    match soon(client.observe()).await.unwrap_err() {
        CallError::Unanswered(RequestError::Disconnected(ConnectionError::Lost(why))) => {
            assert!(why.contains("unresponsive"), "{why}");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(client.error(), Some(ConnectionError::Lost(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_while_the_robot_is_busy() {
    // A camera that never delivers; and one whose driver blocks the thread until it does.
    let waits = Recorder::small().observe_takes(Duration::from_secs(3600));
    for robot in [waits, Recorder::small().observe_blocks()] {
        let served = Served::new(robot).await;
        let mut raw = served.raw().await;
        let request = ClientMessage::Observe.encode().to_bytes();
        raw.send_message(Opcode::Binary, &request).await;
        raw.send_message(Opcode::Binary, &request).await;
        served.robot.until(1, |entry| *entry == Entry::Observing).await;
        for payload in [b"one", b"two"] {
            raw.send_message(Opcode::Ping, payload).await;
            assert_eq!(raw.next().await.unwrap(), (Opcode::Pong, payload.to_vec()));
        }
        served.robot.unblock();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_what_is_in_flight_and_closes_with_1001() {
    let robot = Recorder::small().observe_takes(Duration::from_millis(300));
    let Served { robot, server, uri, serving } = Served::new(robot).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    let (asking, asked) = (client.clone(), client.clone());
    let asking = tokio::spawn(async move { asking.observe().await });
    robot.until(1, |entry| *entry == Entry::Observing).await;
    asked.send_action([1.0]).unwrap();

    soon(server.shutdown()).await;

    soon(asking).await.unwrap().expect("it was in flight, and is answered");
    let diary = robot.diary();
    assert_eq!(diary[2..], [Entry::Disconnected(ConnectionError::ShutDown)], "{diary:?}");
    soon(serving).await.unwrap().expect("serving ends in peace");
    let error = soon(client.metadata()).await.unwrap_err();
    assert!(error.to_string().contains("1001: the robot's server is shutting down"), "{error}");

    // Nobody listens there any more, although a handle is left.
    tokio::net::TcpStream::connect(server.local_addr().unwrap()).await.unwrap_err();
    soon(server.serve(Recorder::small())).await.expect("there is nothing to serve");
    soon(server.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_only_so_long() {
    let robot = Recorder::small().observe_takes(Duration::from_secs(3600));
    let shutdown_timeout = Duration::from_millis(200);
    let config = ServerConfig { shutdown_timeout, ..ServerConfig::default() };
    let Served { robot, server, uri, .. } = Served::with(robot, config).await;
    let client = PolicyClient::connect(&uri).await.unwrap();
    let asking = client.clone();
    let asking = tokio::spawn(async move { asking.observe().await });
    robot.until(1, |entry| *entry == Entry::Observing).await;

    let start = Instant::now();
    soon(server.shutdown()).await;

    assert!(start.elapsed() >= shutdown_timeout);
    soon(asking).await.unwrap().unwrap_err();
    assert!(matches!(client.error(), Some(ConnectionError::ClosedByPeer { code: Some(1001), .. })));
    assert_eq!(robot.until_gone(1).await, ConnectionError::ShutDown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_during_the_shutdown_is_told() {
    let robot = Recorder::small().observe_takes(Duration::from_millis(400));
    let served = Served::new(robot).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let asking = tokio::spawn(async move { client.observe().await });
    served.robot.until(1, |entry| *entry == Entry::Observing).await;
    // Its request is complete, and it waits for the one before it to go.
    let mut waiting = served.socket().await;
    waiting.send(chiral_tests::Raw::request()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let ((), response) =
        soon(async { tokio::join!(served.server.shutdown(), waiting.to_end()) }).await;

    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
    assert!(response.ends_with("the robot's server is shutting down"), "{response}");
    soon(asking).await.unwrap().unwrap();
}

/// TCP connections of this host with an end on a port, those that only wait for their last packets
/// to die out left aside.
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
async fn dropped_handles_stop_everything_that_they_started() {
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
    robot.until_gone(1).await;
    eventually(|| tasks() == listening).await;

    // Now the server goes first, with a client connected, one refused, and one half way.
    let client = PolicyClient::connect(&uri).await.unwrap();
    PolicyClient::connect(&uri).await.unwrap_err();
    let half_way = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    drop(server);
    soon(client.metadata()).await.expect("the serving task has a handle too");
    serving.abort();
    assert_eq!(robot.until_gone(2).await, ConnectionError::ShutDown);
    let error = soon(client.metadata()).await.unwrap_err();
    assert!(error.to_string().contains("1001"), "{error}");
    eventually(|| tasks() == before).await;
    drop((half_way, client));
    eventually(|| sockets_at(port) == 0).await;
}

#[test]
fn calls_fail_when_the_runtime_of_their_connection_goes() {
    let (theirs, ours) = (runtime(), runtime());
    let robot = Recorder::small().observe_takes(Duration::from_secs(3600));
    let served = theirs.block_on(Served::new(robot));
    let gone = runtime();
    let client = gone.block_on(PolicyClient::connect(&served.uri)).unwrap();
    let asking = client.clone();
    let asking = ours.spawn(async move { asking.observe().await });
    theirs.block_on(served.robot.until(1, |entry| *entry == Entry::Observing));

    drop(gone);

    let error = ours.block_on(soon(asking)).unwrap().unwrap_err();
    assert!(error.to_string().contains("the async runtime has shut down"), "{error}");
    ours.block_on(soon(client.close()));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_is_not_done_with_two_policies_has_time_for_a_third() {
    let robot = Recorder::small().apply_takes(Duration::from_millis(200));
    let served = Served::new(robot).await;
    for n in [1.0, 2.0, 3.0] {
        let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
        client.send_action([n]).unwrap();
        // The action has arrived when a request behind it has been seen; the robot may not have
        // come to either yet.
        eventually(|| served.server.stats().is_some_and(|stats| stats.actions.count() == 1)).await;
        client.close().await;
    }
    served.robot.until_gone(3).await;
    let diary = served.robot.diary();
    for (chunk, n) in diary.chunks(3).zip([1.0, 2.0, 3.0]) {
        assert_eq!(chunk[0], Entry::Connected, "{diary:?}");
        let Entry::Applied(action) = &chunk[1] else { panic!("{diary:?}") };
        assert_eq!(*action.to_f32(), [n]);
        assert!(matches!(chunk[2], Entry::Disconnected(_)), "{diary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observation_that_never_comes_is_let_go_with_its_policy() {
    let robot = Recorder::small().observe_takes(Duration::from_secs(3600));
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
    served.robot.until_gone(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_was_told_to_hold_still_is_not_reset_any_more() {
    let robot = Recorder::small().apply_takes(Duration::from_millis(300));
    let served = Served::new(robot).await;
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    client.send_action(Action::from([1.0])).unwrap();
    let resetting = client.clone();
    let resetting = tokio::spawn(async move { resetting.reset().await });
    eventually(|| served.server.stats().is_some_and(|stats| stats.frames_received == 2)).await;
    client.close().await;
    soon(resetting).await.unwrap().unwrap_err();
    served.robot.until_gone(1).await;
    soon(served.server.shutdown()).await;
    let diary = served.robot.diary();
    assert!(matches!(diary.last(), Some(Entry::Disconnected(_))), "{diary:?}");
    assert!(!diary.contains(&Entry::Reset), "{diary:?}");
}
