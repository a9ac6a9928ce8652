//! The frames of PROTOCOL.md's section on the extension: both machines write them, to the byte.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chiral_proto::client::{Client, Config};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{self, Event, Server};
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{CameraConfig, Map, Observation, Sent, Value};

use super::support::*;

fn frame(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/timing");
    let path = folder.join(name).with_extension("bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_policy_writes_its_frames() {
    let mut now = start();
    let mut client = Client::new(Config::default());
    for number in 0..3 {
        client.send_action(now, action(number)).unwrap();
        client.poll_transmit(now).unwrap();
    }
    client.request_observation(now, None).unwrap();
    client.poll_transmit(now).unwrap();
    let told = [("v", 1.into()), ("applied", 3.into()), ("snap", Value::from(1.5))];
    let told = told.map(|(key, value)| (Value::from(key), value));
    let mut seen = observation(0);
    (seen.cameras[0].name, seen.cameras[0].timestamp) = ("wrist".into(), 12.5);
    seen.extra = Map::new().with("chiral", Value::Map(told.into()));
    client.handle_message(now, ServerMessage::Observation(seen).encode().to_bytes());
    now += ms(250);
    client.send_action(now, [0.5, -0.5].into()).unwrap();
    assert_eq!(client.poll_transmit(now).unwrap().to_bytes(), frame("apply_action"));
    client.request_observation(now, None).unwrap();
    assert_eq!(client.poll_transmit(now).unwrap().to_bytes(), frame("obs_request"));
}

#[test]
fn the_robot_writes_its_frames() {
    let clock = Arc::new(AtomicU64::new(0));
    let nanos = Arc::clone(&clock);
    let seconds = move || Duration::from_nanos(nanos.load(Ordering::Relaxed)).as_secs_f64();
    let camera = CameraConfig::new("cam", [1, 1, 3]);
    let sensors = Sensors::with_clock([camera], [], seconds).unwrap();
    let start = start();
    let mut server = Server::new(start, server::Config::default());
    server.set_sensors(sensors.clone());
    // The parts of the time of the action, as the document shows them; they end at 1.5 s.
    let [sensor_wait, network, hold, queue] =
        [31_250, 125_000, 250_000, 93_750].map(Duration::from_micros);
    let at = |elapsed: Duration| {
        clock.store(elapsed.as_nanos() as u64, Ordering::Relaxed);
        start + elapsed
    };
    let captured = ms(1500) - sensor_wait - network - hold - queue;
    at(captured);
    sensors.update_image("cam", &[7_u8; 3]).unwrap();
    let timestamps = sensors.snapshot_now().camera_timestamps();
    let mut given = action(1);
    given.sent = Some(Sent { seq: 3, hold: Some(hold) });
    given.obs_timestamps = Some(timestamps.with_snap(Some(captured + sensor_wait)));
    let frame_of_action = ClientMessage::ApplyAction(given).encode().to_bytes();
    server.handle_message(at(ms(1500) - queue), frame_of_action);
    assert!(matches!(server.poll_event(at(ms(1500))), Some(Event::Action(_))));

    let now = at(ms(2000));
    server.handle_message(now, ClientMessage::Observe.encode().to_bytes());
    let Some(Event::Observe(reply)) = server.poll_event(now) else { panic!("a request") };
    let observation = Observation { timestamp: 2.0, ..Observation::default() };
    server.reply_observation(reply, observation).unwrap();
    assert_eq!(server.poll_transmit(now).unwrap().to_bytes(), frame("obs_response"));
}
