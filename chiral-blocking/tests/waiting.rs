//! What a thread waits for it can give up, or look away from, and received arrays lie where the
//! program wants them.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chiral_blocking::proto::pool::{BufferMemory, BufferSource};
use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::{Action, CameraConfig, Map};
use chiral_blocking::{
    CancelToken, ConnectError, PolicyClient, PolicyServer, Robot, RobotError, ServerConfig,
};

const SOON: Duration = Duration::from_secs(20);

struct Arm {
    sensors: Sensors,
    /// How long it takes to describe itself.
    pause: Duration,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, _: Action) -> Result<(), RobotError> {
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        thread::sleep(self.pause);
        Ok(Map::new().with("robot", "arm-3"))
    }
}

fn serve(pause: Duration) -> (PolicyServer, String) {
    let camera = CameraConfig::new("wrist_cam", [240, 320, 3]);
    let sensors = Sensors::new([camera], []).expect("it fits the memory");
    let server = PolicyServer::bind_with("127.0.0.1:0", ServerConfig::default()).expect("loopback");
    server.spawn(Arm { sensors, pause }).expect("a thread");
    let uri = server.uri().expect("it listens");
    (server, uri)
}

/// Connects to what never lets anybody in, and gives up from another thread.
#[track_caller]
fn give_up_connecting(uri: &str) {
    let cancel = CancelToken::new();
    let builder = PolicyClient::builder().cancel(cancel.clone());
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(120));
        cancel.cancel();
    });
    let start = Instant::now();
    let error = builder.connect(uri).expect_err("nobody is there");
    assert!(matches!(error, ConnectError::Cancelled), "{error}");
    assert!(start.elapsed() < SOON);
    thread.join().expect("it does not panic");
}

#[test]
fn connecting_to_a_server_that_is_not_there_can_be_given_up() {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    give_up_connecting(&format!("ws://{free}"));
}

#[test]
fn connecting_to_a_server_that_says_nothing_can_be_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
    give_up_connecting(&format!("ws://{}", silent.local_addr().expect("bound")));
}

#[test]
fn a_token_that_is_cancelled_before_the_connection_is_made_prevents_it() {
    let (_server, uri) = serve(Duration::ZERO);
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = PolicyClient::builder().cancel(cancel).connect(&uri).expect_err("given up");
    assert_eq!(error.to_string(), "connecting was cancelled");
}

#[test]
fn an_answer_can_be_waited_for_in_pieces() {
    let (_server, uri) = serve(Duration::from_millis(300));
    let client = PolicyClient::connect(&uri).expect("it listens");
    let mut pending = client.request_metadata().expect("it is connected");
    client.send_requests();
    assert!(pending.wait_for(Duration::from_millis(10)).is_none(), "the robot takes its time");
    let metadata = pending.wait_for(SOON).expect("it answers").expect("it does not fail");
    assert_eq!(metadata.get("robot"), Some("arm-3".into()));
}

/// Notes where the memory lies that it hands out.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<std::ops::Range<usize>>>>);

impl BufferSource for Noting {
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
        let memory = vec![0_u8; len];
        let start = memory.as_ptr().addr();
        self.0.lock().expect("nobody panics").push(start..start + len);
        Some(Box::new(memory))
    }
}

#[test]
fn the_images_of_an_observation_lie_in_the_memory_that_was_given() {
    let (_server, uri) = serve(Duration::ZERO);
    let source = Noting::default();
    let client = PolicyClient::builder().memory(source.clone()).connect(&uri).expect("it listens");
    for _ in 0..3 {
        let observation = client.observe().expect("it answers");
        let image = observation["wrist_cam"].image.bytes().as_ptr().addr();
        let blocks = source.0.lock().expect("nobody panics");
        assert!(blocks.iter().any(|block| block.contains(&image)), "{image:#x} in {blocks:x?}");
    }
}
