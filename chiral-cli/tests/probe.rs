//! `chiral probe`, as a program over loopback: on `chiral serve`, on hostile robots, and on servers
//! that are no robot.
#![cfg(unix)]

mod support;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::{Action, Array, Camera, Dtype, Map, Observation, Proprio};
use chiral_tokio::{PolicyClient, PolicyServer, Robot, RobotError};
use png::{BitDepth, ColorType};
use serde_json::Value;
use support::{Served, chiral};

fn probe(arguments: &[&str]) -> Output {
    chiral().arg("probe").args(arguments).output().expect("it runs")
}

/// Standard output of a probe that succeeds.
#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// Standard error of a probe that fails.
#[track_caller]
fn error(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.starts_with("chiral: ") && error.lines().count() == 1, "{error}");
    error
}

/// An empty folder of that name, of this run alone.
fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{name}"));
    // It need not be there yet.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// Header, text chunks and samples of a PNG.
fn read_png(path: &Path) -> (png::Info<'static>, Vec<u8>) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).expect("it is there")))
        .read_info()
        .expect("it is a PNG");
    let mut samples = vec![0; reader.output_buffer_size().expect("it fits")];
    let frame = reader.next_frame(&mut samples).expect("it is whole");
    samples.truncate(frame.buffer_size());
    (reader.info().clone(), samples)
}

// ---- simulated robots --------------------------------------------------------------------

#[test]
fn a_simulated_robot_is_described_and_measured_at_host_and_port() {
    let served = Served::start(&["--cameras", "2", "--depth", "--proprio", "force:6"]);
    let address = served.uri.trim_start_matches("ws://");
    let output = probe(&[address, "--seconds", "0.3", "--rate", "50", "--json"]);
    let found: Value = serde_json::from_str(&stdout(output)).expect("it is JSON");
    assert_eq!(found["uri"], served.uri);
    assert_eq!(found["metadata"]["scene"], "arm");
    let [wrist, front] = [0, 1].map(|index| &found["cameras"][index]);
    assert_eq!([&wrist["name"], &front["name"]], ["wrist_cam", "front_cam"]);
    assert_eq!(wrist["image"]["shape"], serde_json::json!([24, 32, 3]));
    assert_eq!(wrist["depth"]["dtype"], "float32");
    assert_eq!(wrist["intrinsics"].as_array().map(Vec::len), Some(9));
    assert_eq!(wrist["extrinsics"].as_array().map(Vec::len), Some(16));
    assert_eq!(found["proprios"][3]["name"], "force");
    assert_eq!(found["proprios"][3]["count"], 6);

    let live = &found["live"];
    let number = |value: &Value| value.as_f64().expect("it is a number");
    assert_eq!(number(&live["asked_hz"]) as u32, 50);
    assert!((2..=15).contains(&live["observations"].as_u64().expect("it is a count")), "{live}");
    assert!(number(&live["obs_hz"]) > 0.0);
    let latency = &live["latency_ms"];
    assert!(number(&latency["p50"]) > 0.0);
    assert!(number(&latency["p50"]) <= number(&latency["p99"]));
    assert!(number(&latency["p99"]) <= number(&latency["max"]));
    let age = &live["image_age_ms"];
    assert!(number(&age["when_taken"]) >= 0.0);
    assert!(number(&age["when_taken"]) < number(&age["at_most"]), "{age}");
    let pixels = 2 * 24 * 32 * 7;
    assert!(number(&live["bytes"]) > f64::from(pixels) * number(&live["observations"]));
    assert!(number(&live["bytes_per_second"]) > 0.0);
    assert_eq!(live["cameras"][0]["name"], "wrist_cam");
    assert!(number(&live["cameras"][0]["fresh_hz"]) > 0.0);
}

#[test]
fn the_text_shows_the_same() {
    let served = Served::start(&["--scene", "gradient", "--depth", "--proprio", "force:6"]);
    let table = stdout(probe(&[&served.uri, "--seconds", "0.1"]));
    for part in [
        format!("robot at {}", served.uri),
        "\"scene\"      \"gradient\"".to_owned(),
        "camera \"cam_0\"".to_owned(),
        "uint8 [24, 32, 3]".to_owned(),
        "float32 [24, 32]".to_owned(),
        "\"force\"  6 × float32".to_owned(),
        "latency       p50".to_owned(),
        "MB/s".to_owned(),
    ] {
        assert!(table.contains(&part), "{part}: {table}");
    }
    let table = stdout(probe(&[&served.uri, "--seconds", "0"]));
    assert!(!table.contains("latency"), "{table}");
}

#[test]
fn the_contract_of_a_simulated_arm_is_shown() {
    let served = Served::start(&["--watchdog", "0.25"]);
    let text = stdout(probe(&[&served.uri, "--seconds", "0"]));
    let contract = "contract
  actions of shape [7], float16, float32 or float64, absolute
  from [";
    assert!(text.contains(contract), "{text}");
    for line in
        ["  clamped if not so", "  holds after 250ms without one", "  armed by a connection"]
    {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    let served = Served::start(&["--scene", "noise"]);
    let text = stdout(probe(&[&served.uri, "--seconds", "0"]));
    assert!(!text.contains("contract"), "it takes anything: {text}");
}

#[test]
fn a_snapshot_saves_every_camera_image() {
    let folder = empty_folder("snapshot");
    let served = Served::start(&["--cameras", "2", "--depth"]);
    let directory = folder.join("made/on/the/way");
    let path = directory.to_str().expect("it is text");
    let output = probe(&[&served.uri, "--seconds", "0", "--snapshot", path, "--json"]);
    let found: Value = serde_json::from_str(&stdout(output)).expect("it is JSON");
    let shots = found["snapshot"].as_array().expect("it is an array");
    let files: Vec<&str> = shots.iter().map(|shot| shot["file"].as_str().unwrap()).collect();
    let expected =
        ["00_wrist_cam_image", "00_wrist_cam_depth", "01_front_cam_image", "01_front_cam_depth"];
    assert_eq!(files, expected.map(|name| format!("{path}/{name}.png")));

    let (image, samples) = read_png(Path::new(files[2]));
    assert_eq!((image.width, image.height), (32, 24));
    assert_eq!((image.color_type, image.bit_depth), (ColorType::Rgb, BitDepth::Eight));
    assert!(samples.iter().any(|&sample| sample != samples[0]));
    let (depth, samples) = read_png(Path::new(files[3]));
    assert_eq!((depth.color_type, depth.bit_depth), (ColorType::Grayscale, BitDepth::Sixteen));
    assert!(samples.iter().any(|&sample| sample != samples[0]));
    let texts: Vec<String> =
        depth.utf8_text.iter().map(|chunk| chunk.get_text().expect("it is text")).collect();
    assert_eq!(texts[0], "depth of \"front_cam\"");
    assert!(texts[1].ends_with("as 1 to 65535, 0 where there is none"), "{texts:?}");
}

// ---- faulty robots -----------------------------------------------------------------------

/// A robot that shows one observation, or dies.
struct FixedRobot {
    sensors: Sensors,
    metadata: Map,
    observation: Observation,
    /// How many observations it gives before it fails.
    lifetime: std::sync::atomic::AtomicUsize,
}

impl FixedRobot {
    fn new(observation: Observation) -> Self {
        Self {
            sensors: Sensors::new([], []).expect("there are none"),
            metadata: Map::new(),
            observation,
            lifetime: usize::MAX.into(),
        }
    }
}

impl Robot for FixedRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, _action: Action) -> Result<(), RobotError> {
        Ok(())
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        Ok(self.metadata.clone())
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.lifetime.fetch_sub(1, Relaxed) == 0 {
            return Err("the gripper\u{1b}[2J fell off\r\n".into());
        }
        Ok(self.observation.clone().into())
    }
}

/// Serves a robot while a probe of it runs.
async fn probe_robot(robot: FixedRobot, arguments: &[&str]) -> Output {
    let server = PolicyServer::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("ws://{}", server.local_addr().unwrap());
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(robot).await });
    let arguments: Vec<String> =
        [uri].into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).collect();
    let output = tokio::task::spawn_blocking(move || {
        probe(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = output.await.unwrap();
    server.shutdown().await;
    task.await.unwrap().unwrap();
    output
}

fn camera(name: &str, image: Array, depth: Option<Array>) -> Camera {
    Camera {
        name: name.to_owned().into(),
        timestamp: f64::NAN,
        intrinsics: nalgebra::Matrix3::from_element(f64::INFINITY),
        extrinsics: nalgebra::Matrix4::identity(),
        image,
        depth,
    }
}

#[tokio::test]
async fn hostile_names_escape_neither_the_folder_nor_the_terminal() {
    let names =
        ["../../up", "/abs", "..", "", "a/b", "a_b", "same", "same", "SAME", "\u{1b}[2J\u{9b}0m\r"];
    let pixel = || Array::vector(vec![1_u8, 2, 3]);
    let image = |array: Array| Array::new(Dtype::U8, [1, 1, 3], array.bytes().clone()).unwrap();
    let cameras: Vec<Camera> =
        names.iter().map(|name| camera(name, image(pixel()), None)).collect();
    let proprio = Proprio { name: "\u{1b}]0;x\u{7}".into(), values: Array::vector(vec![0.5_f64]) };
    let observation = Observation {
        cameras,
        proprios: vec![proprio],
        extra: Map::new().with("\u{1b}c", "\u{9b}"),
        ..Observation::default()
    };
    for json in [false, true] {
        let folder = empty_folder(if json { "hostile-json" } else { "hostile" });
        let inner = folder.join("inner");
        let mut arguments = vec!["--seconds", "0.05", "--snapshot", inner.to_str().unwrap()];
        arguments.extend(json.then_some("--json"));
        let mut robot = FixedRobot::new(observation.clone());
        robot.metadata = Map::new().with("name", "\u{1b}[31m\u{202e}robot");
        let text = stdout(probe_robot(robot, &arguments).await);
        let controls = |character: char| character.is_control() && character != '\n';
        assert!(!text.contains(controls) && !text.contains('\u{202e}'), "{text:?}");
        if json {
            let found: Value = serde_json::from_str(&text).expect("it is JSON");
            let found = found["cameras"].as_array().unwrap().iter();
            let found: Vec<&str> = found.map(|camera| camera["name"].as_str().unwrap()).collect();
            assert_eq!(found, names);
        }
        let entries = |folder: &Path| -> HashSet<PathBuf> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        assert_eq!(entries(&folder), HashSet::from([inner.clone()]));
        let files = entries(&inner);
        assert_eq!(files.len(), names.len(), "{files:?}");
        for file in files {
            assert_eq!(read_png(&file).1, [1, 2, 3], "{}", file.display());
        }
    }
}

#[tokio::test]
async fn every_dtype_and_shape_is_written_or_explained() {
    let mut cameras: Vec<Camera> = Dtype::ALL
        .into_iter()
        .map(|dtype| {
            let zeros = Array::zeros(dtype, [2, 3]).unwrap();
            camera(dtype.name(), zeros.clone(), Some(zeros))
        })
        .collect();
    let odd = |shape: &[usize]| Array::zeros(Dtype::U8, shape).unwrap();
    cameras.push(camera("empty", odd(&[0, 640, 3]), Some(odd(&[0, 0]))));
    cameras.push(camera("scalar", odd(&[]), None));
    cameras.push(camera("many", odd(&[2, 2, 9]), None));
    let observation = Observation { cameras, ..Observation::default() };
    let folder = empty_folder("dtypes");
    let arguments = ["--seconds", "0", "--json", "--snapshot", folder.to_str().unwrap()];
    let output = probe_robot(FixedRobot::new(observation), &arguments).await;
    let found: Value = serde_json::from_str(&stdout(output)).expect("it is JSON");
    let shots = found["snapshot"].as_array().unwrap();
    assert_eq!(shots.len(), 2 * 12 + 4);
    for (index, shot) in shots.iter().enumerate() {
        assert_eq!(shot["file"].is_string(), index < 24, "{shot}");
        assert!(shot["note"].as_str().is_some_and(|note| !note.is_empty()), "{shot}");
        if let Some(file) = shot["file"].as_str() {
            let (info, _) = read_png(Path::new(file));
            assert_eq!((info.width, info.height), (3, 2), "{file}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_capped_in_files_and_says_what_is_missing() {
    let pixel = || Array::from_vec([1, 1, 3], vec![1_u8, 2, 3]).unwrap();
    let cameras = (0..100).map(|index| camera(&format!("cam_{index}"), pixel(), None));
    let observation = Observation { cameras: cameras.collect(), ..Observation::default() };
    let folder = empty_folder("capped");
    let arguments = ["--seconds", "0", "--json", "--snapshot", folder.to_str().unwrap()];
    let output = probe_robot(FixedRobot::new(observation), &arguments).await;
    let found: Value = serde_json::from_str(&stdout(output)).expect("it is JSON");
    let files = found["snapshot"].as_array().unwrap();
    assert_eq!(files.len(), 100);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 64);
    assert_eq!(files[63]["note"], "uint8 as it is");
    let note = "not written: a snapshot has at most 64 files and 256 MiB";
    assert!(files[64..].iter().all(|file| file["file"].is_null() && file["note"] == note));
}

#[tokio::test]
async fn a_robot_without_sensors_is_no_error() {
    let folder = empty_folder("nothing");
    let arguments = ["--seconds", "0.05", "--snapshot", folder.to_str().unwrap()];
    let text = stdout(probe_robot(FixedRobot::new(Observation::default()), &arguments).await);
    assert!(text.contains("no camera"), "{text}");
}

#[tokio::test]
async fn a_robot_that_fails_is_an_error() {
    for (lifetime, fault) in
        [(0, "the robot gave no observation"), (3, "the robot went away while it was measured")]
    {
        let mut robot = FixedRobot::new(Observation::default());
        robot.lifetime = lifetime.into();
        let text = error(probe_robot(robot, &["--rate", "200", "--seconds", "20"]).await);
        assert!(text.contains(fault) && text.contains("fell off"), "{text}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    }
}

#[test]
fn a_robot_process_that_is_killed_is_an_error() {
    let mut served = Served::start(&["--scene", "noise"]);
    let uri = served.uri.clone();
    let probing = std::thread::spawn(move || probe(&[&uri, "--seconds", "60"]));
    while served.next_note() != "a policy has connected" {}
    served.kill();
    let text = error(probing.join().expect("it does not panic"));
    assert!(text.contains("the robot"), "{text}");
}

#[test]
fn a_robot_that_is_started_again_is_measured_on_with_reconnect() {
    let mut served = Served::start(&["--scene", "noise"]);
    let uri = served.uri.clone();
    let address = uri.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let arguments = ["--reconnect", "--timeout", "60", "--seconds", "3", "--rate", "20", "--json"];
    let probing = std::thread::spawn(move || probe(&[&[&*uri], &arguments[..]].concat()));
    while served.next_note() != "a policy has connected" {}
    // Until it measures: what it asks first is to be answered by the first robot.
    std::thread::sleep(Duration::from_millis(500));
    served.kill();
    drop(served);
    let mut served = Served::start_at(&address, &["--scene", "noise"]);
    while served.next_note() != "a policy has connected" {}
    let found = stdout(probing.join().expect("it does not panic"));
    let found: Value = serde_json::from_str(&found).expect("it is JSON");
    assert_eq!(found["live"]["reconnects"], 1, "{found}");
    assert!(found["live"]["observations"].as_u64().is_some_and(|count| count > 1), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_has_a_policy_already_is_an_error() {
    let served = Served::start(&["--scene", "noise"]);
    let first = PolicyClient::connect(&served.uri).await.unwrap();
    let text = error(probe(&[&served.uri, "--timeout", "1"]));
    assert!(text.contains("503") && text.contains("already has a policy"), "{text}");
    first.observe().await.unwrap();
}

// ---- servers that are no robot --------------------------------------------------------------------------

/// An address of the loopback at which nobody listens.
fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn no_server_is_an_error_after_the_timeout() {
    let text = error(probe(&[&format!("ws://{}", unused_address()), "--timeout", "0.2"]));
    assert!(text.contains("no server at ws://127.0.0.1:"), "{text}");
}

#[test]
fn a_bad_uri_is_a_usage_error_at_once() {
    for uri in ["localhost", "ftp://localhost:8765", "ws://"] {
        let output = probe(&[uri]);
        assert_eq!(output.status.code(), Some(2), "{uri}: {output:?}");
        let text = String::from_utf8(output.stderr).expect("it is text");
        assert!(text.contains("expected ws://host:port"), "{uri}: {text}");
    }
}

#[test]
fn a_server_of_another_protocol_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ws://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        stream
            .write_all(b"HTTP/1.1 404 Not\x1bFound\r\nContent-Length: 5\r\n\r\n\x1b[2Jx")
            .unwrap();
    });
    let text = error(probe(&[&uri, "--timeout", "2"]));
    serving.join().expect("it does not panic");
    assert!(text.contains("did not take the connection"), "{text}");
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
}

#[test]
fn a_silent_server_is_an_error_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ws://{}", listener.local_addr().unwrap());
    let start = std::time::Instant::now();
    let text = error(probe(&[&uri, "--timeout", "0.3"]));
    assert!(text.contains("no server at"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_uncreatable_snapshot_folder_is_an_error() {
    let served = Served::start(&["--scene", "noise"]);
    let folder = empty_folder("blocked");
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("inside");
    let output = probe(&[&served.uri, "--seconds", "0", "--snapshot", inside.to_str().unwrap()]);
    let text = error(output);
    assert!(text.contains("cannot make the folder"), "{text}");
}
