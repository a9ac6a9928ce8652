//! Robots and policies over `async_tungstenite` streams that the application has opened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};
use chiral_proto::wire::ClientMessage;
use chiral_proto::ws::Keepalive;
use chiral_proto::{Action, ConnectionError, Rate};
use chiral_tests::{Opcode, Raw, Recorder, Served, Work, eventually, message, soon};
use chiral_tokio::{PolicyClient, PolicyServer, ServerConfig, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// For observations larger than tungstenite's default limit.
fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// Opens a WebSocket as a client.
async fn open(address: SocketAddr) -> WebSocketStream<Stream> {
    let stream = Stream::tcp(TcpStream::connect(address).await.unwrap()).unwrap();
    let opening = client_async_with_config(format!("ws://{address}/"), stream, Some(unlimited()));
    soon(opening).await.unwrap().0
}

/// A robot behind the test's own listener.
struct Upgraded {
    robot: Arc<Recorder>,
    server: PolicyServer,
    address: SocketAddr,
    /// For each connection, when it is over: whether it was served.
    outcomes: mpsc::UnboundedReceiver<bool>,
}

impl Upgraded {
    async fn new(robot: Recorder, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = PolicyServer::unbound(config);
        let robot = Arc::new(robot);
        let (over, outcomes) = mpsc::unbounded_channel();
        let (upgrading, upgraded) = (server.clone(), Arc::clone(&robot));
        tokio::spawn(async move {
            loop {
                let stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
                let (server, robot) = (upgrading.clone(), Arc::clone(&upgraded));
                let over = over.clone();
                tokio::spawn(async move {
                    let stream = accept_async_with_config(stream, Some(unlimited())).await.unwrap();
                    let _ = over.send(server.serve_websocket(stream, robot).await.is_ok());
                });
            }
        });
        Self { robot, server, address, outcomes }
    }

    async fn small() -> Self {
        Self::new(Recorder::small(), ServerConfig::default()).await
    }

    async fn client(&self) -> PolicyClient {
        soon(PolicyClient::connect(&format!("ws://{}", self.address))).await.unwrap()
    }

    fn raw(&self) -> Raw {
        Raw::complete_handshake(self.address)
    }
}

/// Eight cameras of 640×480 with depth: 17 MB an observation.
fn large() -> Recorder {
    Recorder::new(8, [480, 640])
}

/// Makes every kind of call, with large observations, and closes.
async fn exercise(client: PolicyClient, robot: &Recorder) {
    let expected = robot.sensors().snapshot(0.0).cameras;
    assert_eq!(soon(client.metadata()).await.unwrap().get("robot"), Some("recorder".into()));
    assert_eq!(soon(client.reset()).await.unwrap().observation.cameras, expected);
    assert_eq!(soon(client.observe()).await.unwrap().cameras, expected);
    let step = soon(client.step([1.0, 2.0])).await.unwrap();
    assert!((step.reward - 3.0).abs() < 1e-9);
    assert_eq!(step.observation.cameras, expected);

    client.start_obs_stream(Rate::hz(30.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(500.0).unwrap()).unwrap();
    let first = soon(client.next_obs()).await.unwrap();
    client.put_chunk(&first, (0_u8..50).map(|n| [f32::from(n)])).unwrap();
    for _ in 0..3 {
        assert_eq!(soon(client.next_obs()).await.unwrap().cameras, expected);
    }
    robot.wait_for_applied(50);
    for (n, action) in robot.applied().into_iter().enumerate() {
        assert_eq!(action, Action::from([n as f32]).decided_on(&first));
    }
    soon(client.close()).await;
    match robot.wait_for_disconnects(1) {
        ConnectionError::ClosedByPeer { code: Some(1000), .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_runs_over_a_user_supplied_websocket() {
    let served = Served::new(large()).await;
    let stream = open(served.server.local_addr().unwrap()).await;
    exercise(PolicyClient::from_websocket(stream), &served.robot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_runs_over_a_user_supplied_websocket() {
    let mut upgraded = Upgraded::new(large(), ServerConfig::default()).await;
    exercise(upgraded.client().await, &upgraded.robot).await;
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_run_over_user_supplied_websockets() {
    let mut upgraded = Upgraded::new(large(), ServerConfig::default()).await;
    let client = PolicyClient::from_websocket(open(upgraded.address).await);
    exercise(client, &upgraded.robot).await;
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_policy_is_told_to_try_again_later() {
    let mut upgraded = Upgraded::small().await;
    let first = upgraded.client().await;
    first.start_obs_stream(Rate::hz(200.0).unwrap()).unwrap();
    soon(first.next_obs()).await.unwrap();

    let second = upgraded.client().await;
    // It is told although it is sending itself.
    let error = loop {
        if let Err(error) = soon(second.metadata()).await {
            break error.to_string();
        }
    };
    assert!(error.contains("(code 1013): this robot already has a policy"), "{error}");
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(false));

    soon(first.next_obs()).await.unwrap();
    assert_eq!(first.error(), None);
    drop(first);
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));
    soon(upgraded.client().await.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_robot_can_close_the_connection() {
    let robot = Recorder::small().held(Work::Observe);
    let upgraded = Upgraded::new(robot, ServerConfig::default()).await;
    let client = PolicyClient::from_websocket(open(upgraded.address).await);
    let asking = client.clone();
    let asking = tokio::spawn(async move { asking.observe().await });
    upgraded.robot.wait_for_begun(Work::Observe, 1);

    let release = async { upgraded.robot.release(Work::Observe) };
    soon(async { tokio::join!(upgraded.server.shutdown(), release) }).await;

    soon(asking).await.unwrap().expect("it was in flight, and is answered");
    let error = soon(client.metadata()).await.unwrap_err().to_string();
    assert!(error.contains("(code 1001): the robot's server is shutting down"), "{error}");
    assert_eq!(upgraded.robot.wait_for_disconnects(1), ConnectionError::ShutDown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_serving_future_closes_the_websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = PolicyServer::unbound(ServerConfig::default());
    let robot = Arc::new(Recorder::small());
    for round in 1..=2 {
        let (handle, moved) = (server.clone(), Arc::clone(&robot));
        let accepting = async {
            let stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
            accept_async_with_config(stream, None).await.unwrap()
        };
        let (theirs, ours) = tokio::join!(open(address), accepting);
        let serving =
            tokio::spawn(async move { handle.serve_websocket(ours, moved).await.is_ok() });
        let client = PolicyClient::from_websocket(theirs);
        soon(client.metadata()).await.unwrap();
        serving.abort();
        assert_eq!(robot.wait_for_disconnects(round), ConnectionError::ClosedLocally);
        eventually(|| client.error().is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_peers_are_told_and_disconnected() {
    let mut upgraded = Upgraded::small().await;
    let metadata = ClientMessage::Metadata.encode().to_bytes();
    for (index, (bad, code, why)) in [
        (message(Opcode::Text, b"{}", true), 1003, "text message"),
        (message(Opcode::Binary, &metadata, false), 1002, "unmasked frame"),
        (message(Opcode::Binary, b"nonsense", true), 1009, "header"),
        (vec![0xc2, 0x80, 0, 0, 0, 0], 1002, "eserved bits"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = upgraded.raw();
        raw.send(&bad);
        let (told, reason) = raw.closed();
        assert_eq!(told, code, "{reason}");
        assert!(reason.to_lowercase().contains(why), "{reason}");
        upgraded.robot.wait_for_disconnects(index + 1);
        drop(raw);
        assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));
    }
    soon(upgraded.client().await.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_of_the_websocket_is_reported() {
    let served = Served::new(large()).await;
    let address = served.server.local_addr().unwrap();
    let stream = Stream::tcp(TcpStream::connect(address).await.unwrap()).unwrap();
    // Less than the observation, which comes in fragments.
    let config = WebSocketConfig::default().max_message_size(Some(1 << 20));
    let opening = client_async_with_config(format!("ws://{address}/"), stream, Some(config));
    let client = PolicyClient::from_websocket(soon(opening).await.unwrap().0);
    let error = soon(client.observe()).await.unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
    match served.robot.wait_for_disconnects(1) {
        ConnectionError::ClosedByPeer { code: Some(1009), reason } => {
            assert!(reason.contains("too long"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

const QUICK: Keepalive =
    Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_millis(200) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silently_vanished_policy_is_noticed() {
    let config = ServerConfig { keepalive: Some(QUICK), ..ServerConfig::default() };
    let mut upgraded = Upgraded::new(Recorder::small(), config).await;
    let start = Instant::now();
    let mut vanished = upgraded.raw();
    let reason = upgraded.robot.wait_for_disconnects(1);
    assert!(matches!(reason, ConnectionError::Unresponsive { .. }), "{reason:?}");
    assert!(start.elapsed() >= QUICK.interval + QUICK.timeout);
    assert_eq!(vanished.frame(), Some((Opcode::Ping, vec![])));
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));

    // A peer that answers pings may send nothing else for any time.
    let quiet = upgraded.client().await;
    tokio::time::sleep(3 * (QUICK.interval + QUICK.timeout)).await;
    soon(quiet.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silently_vanished_robot_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
        accept_async_with_config(stream, None).await.unwrap()
    };
    let (theirs, _vanished) = tokio::join!(open(address), accepting);
    let client = PolicyClient::builder().keepalive(QUICK).over_websocket(theirs);
    let error = soon(client.observe()).await.unwrap_err().to_string();
    assert!(error.contains("unresponsive"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_ignores_the_close_is_dropped() {
    let shutdown_timeout = Duration::from_millis(100);
    let config = ServerConfig { shutdown_timeout, ..ServerConfig::default() };
    let mut upgraded = Upgraded::new(large(), config).await;
    // It asks for more than the socket buffers hold, and reads nothing.
    let mut stuck = upgraded.raw();
    for _ in 0..3 {
        stuck.send_message(Opcode::Binary, &ClientMessage::Observe.encode().to_bytes());
    }
    upgraded.robot.wait_for_begun(Work::Observe, 1);
    soon(upgraded.server.shutdown()).await;
    assert_eq!(soon(upgraded.outcomes.recv()).await, Some(true));
}
