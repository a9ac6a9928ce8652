//! How long an observation takes from request to arrival, through this crate and through bare Zenoh, one
//! exchange of each in turn, between two processes:
//!
//! ```sh
//! cargo run --release -p chiral-zenoh --features shm --example round_trip -- 8        # network
//! cargo run --release -p chiral-zenoh --features shm --example round_trip -- 8 shm    # copied
//! cargo run --release -p chiral-zenoh --features shm --example round_trip -- 8 shm in-place
//! cargo run --release -p chiral-zenoh --features shm --example round_trip -- 8 named  # with tags
//! cargo run --release -p chiral-zenoh --features shm --example round_trip -- 8 secret # of every byte
//! ```
//!
//! The number is that of RGB-D cameras of 640×480; `in-place` has them write to shared memory; `named` gives the robot a
//! name, and `secret` a secret too.

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chiral_zenoh::driver::{Message, Transport};
use chiral_zenoh::proto::sensors::{CameraFrame, Sensors};
use chiral_zenoh::proto::server::{Config as ServerConfig, Event, Server};
use chiral_zenoh::proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
#[cfg(feature = "shm")]
use chiral_zenoh::proto::{Array, Dtype};
use chiral_zenoh::proto::{CameraConfig, Map};
use chiral_zenoh::{Config, Listener, Secret, ZenohTransport};
use futures_lite::future::block_on;
use zenoh::bytes::ZBytes;
use zenoh::qos::CongestionControl;
use zenoh::{Session, Wait};

const ROUNDS: usize = 100;
const WARM_UP: usize = 10;
/// Between exchanges, so that none has to do with what the one before has left.
const PAUSE: Duration = Duration::from_millis(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let cameras = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(8);
    if has("robot") { robot(cameras, &arguments) } else { policy(&arguments) }
}

/// The configuration of either side, at an endpoint.
fn config(endpoint: &str, arguments: &[String]) -> Result<Config, Failure> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let config: Config = format!("zenoh:{endpoint}").parse()?;
    let mut config = config.with_shared_memory(has("shm"));
    if has("named") || has("secret") {
        config = config.with_robot("arm".parse()?);
    }
    if has("secret") {
        config = config.with_secret(Secret::new("an example's: everybody can read it")?);
    }
    Ok(config)
}

fn robot(cameras: usize, arguments: &[String]) -> Result<(), Failure> {
    let in_place = arguments.iter().any(|argument| argument == "in-place");
    let listener = Listener::open(config("tcp/127.0.0.1:0", arguments)?).wait()?;
    let bare = bare("listen", "tcp/127.0.0.1:0")?;
    let sensors = sensors(cameras)?;
    let observation = ServerMessage::Observation(sensors.snapshot(0.0)).encode();
    let (asked, questions) = channel();
    let subscriber = bare.0.declare_subscriber("bare/ask").callback(move |_| {
        let _ = asked.send(());
    });
    let _subscriber = subscriber.wait()?;
    let answers = bare.0.declare_publisher("bare/answer");
    let answers = answers.congestion_control(CongestionControl::Block).wait()?;
    let bytes = observation.to_bytes();
    std::thread::spawn(move || {
        while questions.recv().is_ok() {
            answers.put(bytes.clone()).wait().expect("the policy is there");
        }
    });
    println!("{} {}", listener.endpoints()[0], bare.1);
    std::io::stdout().flush()?;
    let mut transport = block_on(listener.accept());
    let mut server = Server::new(Instant::now(), ServerConfig::default());
    while let Ok(frame) = receive(&mut transport) {
        let now = Instant::now();
        server.handle_frame(now, &frame);
        while let Some(event) = server.poll_event(now) {
            match event {
                Event::Metadata(reply) => drop(server.reply_metadata(reply, Map::new())),
                Event::Observe(reply) => drop(server.reply_observation(reply, &sensors)),
                other => return Err(format!("nobody asks for {other:?}").into()),
            }
        }
        while let Some(frame) = server.poll_transmit(now) {
            send(&mut transport, frame)?;
        }
        if in_place {
            write_in_place(&listener, &sensors)?;
        }
    }
    drop((transport, sensors));
    Ok(listener.close().wait()?)
}

fn sensors(cameras: usize) -> Result<Sensors, Failure> {
    let config = |index| CameraConfig::new(format!("cam_{index}"), [480, 640, 3]).depth([480, 640]);
    let sensors = Sensors::with_clock((0..cameras).map(config), [], || 0.0)?;
    for camera in sensors.cameras() {
        let frame = CameraFrame::new().image(vec![7_u8; 480 * 640 * 3]);
        camera.publish(frame.depth(vec![0.5_f32; 480 * 640]))?;
    }
    Ok(sensors)
}

/// As cameras do whose drivers write to shared memory.
#[cfg(feature = "shm")]
fn write_in_place(listener: &Listener, sensors: &Sensors) -> Result<(), Failure> {
    let memory = listener.shared_memory().ok_or("shm is off")?;
    for camera in sensors.cameras() {
        let buffer = |len| memory.buffer(len).ok_or("the shared memory is full");
        let mut image = buffer(480 * 640 * 3)?;
        image.fill(7);
        let mut depth = buffer(480 * 640 * 4)?;
        depth.fill(0);
        let image = Array::new(Dtype::U8, [480, 640, 3], image.freeze())?;
        let depth = Array::new(Dtype::F32, [480, 640], depth.freeze())?;
        camera.publish(CameraFrame::new().image(image).depth(depth))?;
    }
    Ok(())
}

#[cfg(not(feature = "shm"))]
fn write_in_place(_: &Listener, _: &Sensors) -> Result<(), Failure> {
    Err("build it with `--features shm`".into())
}

fn policy(arguments: &[String]) -> Result<(), Failure> {
    let mut robot = Command::new(std::env::current_exe()?);
    let mut robot = robot.args(arguments).arg("robot").stdout(Stdio::piped()).spawn()?;
    let mut endpoints = String::new();
    BufReader::new(robot.stdout.take().ok_or("no pipe")?).read_line(&mut endpoints)?;
    let (ours, theirs) = endpoints.trim().split_once(' ').ok_or("no endpoints")?;
    let config = config(ours, arguments)?;
    let connecting = chiral_zenoh::connect(config, Some(Duration::from_secs(10)));
    let mut transport = connecting.wait()?;
    let (bare, _) = bare("connect", theirs)?;
    let (sender, answers) = channel();
    let subscriber = bare.declare_subscriber("bare/answer").callback(move |sample| {
        let _ = sender.send(sample.payload().clone());
    });
    let _subscriber = subscriber.wait()?;
    let (mut through_ours, mut through_bare) = (Vec::new(), Vec::new());
    let mut len = 0;
    for round in 0..WARM_UP + ROUNDS {
        let start = Instant::now();
        send(&mut transport, ClientMessage::Observe.encode())?;
        let frame = receive(&mut transport)?;
        len = frame.len();
        let took = start.elapsed();
        assert!(matches!(
            ServerMessage::decode(&frame, &Limits::default())?,
            ServerMessage::Observation(_)
        ));
        drop(frame);
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        ask_bare(&bare, &answers, len)?;
        if round >= WARM_UP {
            through_ours.push(took);
            through_bare.push(start.elapsed());
        }
        std::thread::sleep(PAUSE);
    }
    let (ours, bare_ms) = (p50(through_ours), p50(through_bare));
    println!("{len} bytes: p50 {ours:.3} ms, bare Zenoh {bare_ms:.3} ms, {:.2}", ours / bare_ms);
    println!("{:?}", transport.counts().read());
    drop(transport);
    robot.wait()?;
    Ok(())
}

fn receive(transport: &mut ZenohTransport) -> Result<Frame, Failure> {
    let message = block_on(poll_fn(|cx| transport.poll_receive(cx, Instant::now())))?;
    let segments = match message.ok_or("a part of a message")? {
        Message::Whole(bytes) => vec![bytes],
        Message::Segments(segments) => segments,
        other => return Err(format!("an unknown kind of message: {other:?}").into()),
    };
    Ok(Frame::parse_segments(segments, &Limits::default())?)
}

fn send(transport: &mut ZenohTransport, frame: Frame) -> Result<(), Failure> {
    if !transport.wants_frame() {
        return Err("the connection has ended".into());
    }
    transport.send(frame);
    block_on(poll_fn(|cx| transport.poll_write(cx, Instant::now())))?;
    Ok(())
}

fn ask_bare(bare: &Session, answers: &Receiver<ZBytes>, len: usize) -> Result<(), Failure> {
    bare.put("bare/ask", "?").wait()?;
    let answer = answers.recv_timeout(Duration::from_secs(10))?;
    assert_eq!(answer.len(), len);
    Ok(())
}

fn p50(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// A session of Zenoh's own, with its own settings but for the discovery of others.
fn bare(role: &str, endpoint: &str) -> Result<(Session, String), Failure> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let endpoint = endpoint.replace(":0", &format!(":{port}"));
    let mut config = zenoh::Config::default();
    let mode = if role == "listen" { "\"peer\"" } else { "\"client\"" };
    for (key, value) in [
        ("mode", mode),
        ("scouting/multicast/enabled", "false"),
        ("listen/endpoints", "[]"),
        (&format!("{role}/endpoints"), &format!("[{endpoint:?}]")),
        ("transport/shared_memory/enabled", "false"),
    ] {
        config.insert_json5(key, value)?;
    }
    Ok((zenoh::open(config).wait()?, endpoint))
}
