//! The core's example of a robot on `mio`, with real clients and with faulty ones; and its example of a
//! policy on a bare socket.

#[path = "../../chiral-proto/examples/mio.rs"]
#[expect(dead_code, reason = "its `main` is for a terminal")]
mod example;

#[path = "../../chiral-proto/examples/websocket_client.rs"]
#[expect(dead_code, reason = "its `main` is for a terminal")]
mod websocket_client;

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::wire::ClientMessage;
use chiral_proto::ws::{self, Keepalive};
use chiral_proto::{Action, CameraConfig, ConnectionError, Rate};
use chiral_tests::{Opcode, Raw, message, soon};
use chiral_tokio::PolicyClient;
use example::{Robot, STOP, Service};
use mio::net::TcpListener;
use mio::{Poll, Waker};
use tokio::net::TcpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Bytes of an observation's pixels: 8 cameras of 640x480 with depth.
const PIXELS: usize = 8 * 480 * 640 * (3 + 4);

/// The example's robot, served in a thread.
struct Served {
    address: SocketAddr,
    sensors: Sensors,
    /// The commands that the motors got.
    motors: UnboundedReceiver<Option<Vec<f32>>>,
    stop: Waker,
    thread: JoinHandle<io::Result<()>>,
}

impl Served {
    fn new(config: ws::Config) -> Self {
        let cameras = (0..8).map(|n| CameraConfig::new(format!("cam_{n}"), [480, 640, 3]));
        let sensors = Sensors::new(cameras.map(|camera| camera.depth([480, 640])), []).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).expect("loopback");
        let address = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        let stop = Waker::new(poll.registry(), STOP).unwrap();
        let (told, motors) = unbounded_channel();
        let seen = sensors.clone();
        let thread = std::thread::spawn(move || {
            let motors = |targets: Option<&[f32]>| told.send(targets.map(<[f32]>::to_vec)).unwrap();
            Service::new(Robot { sensors: seen, motors }, config).run(poll, listener)
        });
        Self { address, sensors, motors, stop, thread }
    }

    async fn connect(&self) -> PolicyClient {
        soon(PolicyClient::connect(&format!("ws://{}", self.address))).await.unwrap()
    }

    fn raw(&self) -> Raw {
        Raw::complete_handshake(self.address)
    }

    /// The next command that the motors get.
    async fn told(&mut self) -> Option<Vec<f32>> {
        soon(self.motors.recv()).await.expect("it is being served")
    }

    /// Shuts the robot down; its thread must then end by itself.
    async fn stop(self) {
        self.stop.wake().unwrap();
        let thread = tokio::task::spawn_blocking(|| self.thread.join());
        soon(thread).await.unwrap().expect("it does not panic").expect("it serves to the end");
    }
}

fn observe() -> Vec<u8> {
    ClientMessage::Observe.encode().to_bytes().to_vec()
}

fn action(value: f32) -> Vec<u8> {
    ClientMessage::ApplyAction(Action::from([value])).encode().to_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_policy_is_answered() {
    let mut served = Served::new(ws::Config::default());
    let client = served.connect().await;
    let metadata = soon(client.metadata()).await.unwrap();
    assert_eq!(metadata.get("robot"), Some("arm".into()));

    served.sensors.update_image_at("cam_3", vec![7_u8; 480 * 640 * 3], 1.5).unwrap();
    let observation = soon(client.observe()).await.unwrap();
    let bytes = |camera: &chiral_proto::Camera| {
        camera.image.bytes().len() + camera.depth.as_ref().unwrap().bytes().len()
    };
    assert_eq!(observation.cameras.iter().map(bytes).sum::<usize>(), PIXELS);
    assert!(observation["cam_3"].image.bytes().iter().all(|&pixel| pixel == 7));

    client.send_action([0.1, 0.2]).unwrap();
    assert_eq!(served.told().await, Some(vec![0.1, 0.2]));
    assert_eq!(served.told().await, None, "the watchdog fires when no more actions come");
    let begun = soon(client.reset()).await.unwrap();
    assert_eq!(served.told().await, None);

    client.start_obs_stream(Rate::hz(30.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(200.0).unwrap()).unwrap();
    client.put_chunk(&begun.observation, (0..50_u8).map(|n| [f32::from(n)])).unwrap();
    // The latest counts: on a busy machine some are superseded, and it may have to hold still.
    let mut last = -1.0;
    while last < 49.0 {
        if let Some(targets) = served.told().await {
            assert!(targets[0] > last, "{targets:?} after {last}");
            last = targets[0];
        }
    }
    soon(client.next_obs()).await.unwrap();
    soon(client.close()).await;
    assert_eq!(served.told().await, None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_on_a_bare_socket_drives_the_robot() {
    let mut served = Served::new(ws::Config::default());
    for camera in served.sensors.cameras() {
        camera.update_image_at(vec![255_u8; 480 * 640 * 3], 1.5).unwrap();
    }
    let uri = format!("ws://{}", served.address);
    let policy = tokio::task::spawn_blocking(move || websocket_client::run(&uri));
    let stats = soon(policy).await.unwrap().expect("it drives the robot to its end");
    assert!(stats.observations.count() >= 30, "{stats}");
    assert_eq!(stats.actions.count(), 30);
    let mut motors = std::mem::replace(&mut served.motors, unbounded_channel().1);
    served.stop().await;

    // On a busy machine some are superseded, and the watchdog may fire.
    let mut told = Vec::new();
    while let Ok(command) = motors.try_recv() {
        told.push(command);
    }
    assert!(told.contains(&Some(vec![1.0; 7])), "{told:?}");
    assert_eq!(told.last(), Some(&None), "it holds still when the policy has gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_overtakes_an_observation_being_written() {
    let mut served = Served::new(ws::Config::default());
    // Two observations and a bounded socket buffer: the kernel cannot take them whole.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1 << 20).unwrap();
    let socket = soon(socket.connect(served.address)).await.unwrap().into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    let mut raw = Raw::of_client(socket);
    raw.send(Raw::request());
    raw.expect_handshake_response();
    for _ in 0..2 {
        raw.send_message(Opcode::Binary, &observe());
    }
    assert_eq!(raw.socket.peek(&mut [0]).unwrap(), 1);
    for value in [1.0, 2.0] {
        raw.send_message(Opcode::Binary, &action(value));
        assert_eq!(served.told().await, Some(vec![value]));
    }
    raw.send_message(Opcode::Ping, b"still there?");
    // Then both arrive, and the pong between two fragments of one of them.
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(raw.frame().expect("the server goes on"));
    }
    let pong = (Opcode::Pong, b"still there?".to_vec());
    assert!(frames.contains(&pong));
    assert!(frames.iter().all(|frame| *frame == pong || frame.1.len() > PIXELS));
    drop(raw);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_policy_is_refused_and_the_first_is_not_disturbed() {
    let served = Served::new(ws::Config::default());
    let first = served.connect().await;
    for _ in 0..3 {
        let second = PolicyClient::builder().connect_timeout(Duration::from_millis(500));
        let second = soon(second.connect(&format!("ws://{}", served.address))).await;
        let error = second.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("already has a policy"), "{error}");
        soon(first.metadata()).await.unwrap();
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnecting_policy_frees_the_robot_immediately() {
    let mut served = Served::new(ws::Config::default());
    for round in 0..9 {
        // In turn: an orderly close, a disconnect, and a disconnect during an observation.
        let mut raw = served.raw();
        raw.send_message(Opcode::Binary, &observe());
        match round % 3 {
            0 => {
                raw.frame().unwrap();
                raw.send_message(Opcode::Close, &1000_u16.to_be_bytes());
                assert_eq!(raw.closed().0, 1000);
            }
            1 => drop(raw.frame()),
            _ => assert_eq!(raw.socket.peek(&mut [0]).unwrap(), 1),
        }
        drop(raw);
        assert_eq!(served.told().await, None, "the robot holds still");
    }
    soon(served.connect().await.observe()).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_clients_are_told_and_disconnected() {
    let mut served = Served::new(ws::Config::default());
    for (bad, code) in [
        (message(Opcode::Binary, b"nonsense", true), 1009),
        (message(Opcode::Binary, &[0], true), 1007),
        (message(Opcode::Text, b"{}", true), 1003),
        (message(Opcode::Binary, &observe(), false), 1002),
    ] {
        let mut raw = served.raw();
        raw.send(&bad);
        let (told, reason) = raw.closed();
        assert_eq!(told, code, "{reason}");
        assert_eq!(served.told().await, None, "the robot holds still");
        // The robot is free although that policy has not answered the close yet.
        soon(served.connect().await.metadata()).await.unwrap();
        assert_eq!(served.told().await, None);
        drop(raw);
    }
    let mut raw = Raw::connect(served.address);
    raw.send(b"POST / HTTP/1.1\r\n\r\n");
    let response = String::from_utf8(raw.to_end()).unwrap();
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_hold_no_resources() {
    let served = Served::new(ws::Config::default());
    let mut half_way = Vec::new();
    for n in 0..100 {
        let mut raw = Raw::connect(served.address);
        raw.send(&Raw::request()[..n]);
        half_way.push((raw, n));
    }
    let client = served.connect().await;
    soon(client.observe()).await.unwrap();
    soon(client.close()).await;
    // The oldest handshakes were dropped; the newest may go on.
    assert!(half_way.remove(0).0.to_end().is_empty());
    let (mut newest, sent) = half_way.pop().unwrap();
    newest.send(&Raw::request()[sent..]);
    newest.expect_handshake_response();
    // The others time out after two seconds.
    let (mut old, _) = half_way.pop().unwrap();
    assert!(old.to_end().is_empty());
    drop(newest);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_policy_is_noticed() {
    let quick =
        Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_millis(200) };
    let mut served = Served::new(ws::Config { keepalive: Some(quick), ..ws::Config::default() });
    let mut vanished = served.raw();
    assert_eq!(served.told().await, None, "the robot holds still");
    assert_eq!(vanished.frame(), Some((Opcode::Ping, vec![])), "it was asked before");
    let client = served.connect().await;
    tokio::time::sleep(3 * (quick.interval + quick.timeout)).await;
    soon(client.metadata()).await.expect("this one answers pings");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_pending_requests_and_closes() {
    let served = Served::new(ws::Config::default());
    let address = served.address;
    let mut raw = served.raw();
    let silent = Raw::connect(address);
    raw.send_message(Opcode::Binary, &observe());
    assert_eq!(raw.socket.peek(&mut [0]).unwrap(), 1); // the answer has begun
    let leaving = async {
        assert_eq!(raw.frame().map(|(opcode, _)| opcode), Some(Opcode::Binary));
        let goodbye = raw.closed();
        raw.send_message(Opcode::Close, &goodbye.0.to_be_bytes());
        assert!(raw.to_end().is_empty());
        drop(raw);
        goodbye
    };
    let ((), (code, reason)) = tokio::join!(served.stop(), leaving);
    assert_eq!((code, reason), (1001, ConnectionError::ShutDown.to_string()));
    drop(silent);
    tokio::net::TcpStream::connect(address).await.expect_err("nobody listens there any more");
}
