//! How old an observation is.

use std::time::Duration;

use chiral_proto::client::{Config, Event, NotFresh};
use chiral_proto::wire::ServerMessage;
use chiral_proto::{Age, Name, Observation, server};

use super::link::Link;
use super::support::*;

/// An age between these milliseconds.
fn between(at_least: u64, at_most: u64) -> Age {
    Age { at_least: ms(at_least), at_most: Some(ms(at_most)) }
}

/// To the rounding of the robot's clock.
#[track_caller]
fn assert_age(found: Option<Age>, expected: Age) {
    let Some(Age { at_least, at_most: Some(at_most) }) = found else { panic!("{found:?}") };
    let is_close = |a: Duration, b: Duration| a.abs_diff(b) < Duration::from_micros(1);
    let bound = expected.at_most.expect("it is tested with one");
    assert!(is_close(at_least, expected.at_least) && is_close(at_most, bound), "{found:?}");
}

#[test]
fn each_camera_has_an_age_which_lies_between_two_bounds() {
    let mut link = Link::default();
    link.send(action(1));
    link.robot_is_given();
    link.capture("other");
    link.wait(ms(400));
    link.capture("cam");
    link.wait(ms(20));
    // Taken 10 ms after it was asked for, and 30 ms under way; who sees only the answer cannot tell
    // how the 40 ms were divided.
    let seen = link.observe(ms(10), ms(30));
    assert_age(seen.camera_age("cam", link.now()).unwrap(), between(30, 70));
    assert_age(seen.camera_age("other", link.now()).unwrap(), between(430, 470));
    link.wait(ms(5));
    assert_age(seen.camera_age("cam", link.now()).unwrap(), between(35, 75));
    assert_age(seen.age(link.now()), between(435, 475));
    assert!(seen.camera_age("third", link.now()).unwrap_err().to_string().contains("third"));
    // How old they were when the observation was taken, robots know.
    let ages = seen.timing().unwrap().ages;
    assert!(ages[0].unwrap().abs_diff(ms(30)) < Duration::from_micros(1), "{ages:?}");
    let stats = link.server.stats();
    assert!(stats.cameras[1].age.unwrap().abs_diff(ms(465)) < Duration::from_micros(1));
}

#[test]
fn a_camera_that_never_delivered_has_no_age() {
    let mut link = Link::default();
    link.send(action(1));
    link.robot_is_given();
    link.capture("cam");
    let seen = link.observe(ms(10), ms(10));
    assert_eq!(seen.camera_age("other", link.now()), Ok(None));
    assert_age(seen.age(link.now()), between(10, 30));
}

#[test]
fn of_a_robot_that_tells_nothing_the_time_since_the_observation_is_known() {
    let mut link =
        Link::new(Config { timing: false, ..Config::default() }, server::Config::default());
    link.capture("cam");
    link.wait(ms(100));
    let seen = link.observe(ms(10), ms(30));
    link.wait(ms(7));
    assert_eq!(seen.age(link.now()), Some(between(7, 47)));
    assert_eq!(seen.camera_age("cam", link.now()), Ok(None));
    assert_eq!(Observation::default().age(link.now()), None);
}

#[test]
fn what_is_older_than_asked_for_is_refused() {
    let mut link = Link::default();
    let fresh = |link: &Link, max_age| {
        let found = link.client.fresh_observation(link.now(), max_age);
        found.map(|latest| latest.number)
    };
    assert_eq!(fresh(&link, ms(100)), Err(NotFresh::Nothing));
    link.send(action(1));
    link.robot_is_given();
    link.capture("cam");
    link.wait(ms(60));
    link.observe(ms(10), ms(10));
    assert_eq!(fresh(&link, ms(100)), Ok(1));
    link.wait(ms(40));
    // Not 100 ms since it came, but since its image was captured.
    let error = fresh(&link, ms(100)).unwrap_err();
    assert_eq!(error.to_string(), "the latest observation is 110.0ms to 130.0ms old, over 100.0ms");
    assert_eq!(fresh(&link, ms(115)), Ok(1));
    // A new observation with the same image is no fresher.
    link.observe(Duration::ZERO, Duration::ZERO);
    assert!(fresh(&link, ms(100)).is_err());
    link.capture("cam");
    link.observe(Duration::ZERO, Duration::ZERO);
    assert_eq!(fresh(&link, ms(100)), Ok(3));
}

fn camera_events(link: &mut Link) -> Vec<Event> {
    let is_of_camera =
        |event: &Event| matches!(event, Event::CameraStalled { .. } | Event::CameraResumed { .. });
    std::iter::from_fn(|| link.client.poll_event()).filter(is_of_camera).collect()
}

#[test]
fn a_camera_that_stalls_is_told_once_and_so_is_its_return() {
    let mut link = Link::new(
        Config { camera_stall: Some(ms(500)), ..Config::default() },
        server::Config::default(),
    );
    let name = || Name::from("other");
    link.capture("other");
    for round in 0..20 {
        link.capture("cam");
        link.observe(Duration::ZERO, Duration::ZERO);
        let stalled = Event::CameraStalled { name: name(), unchanged_for: ms(500) };
        let expected = if round == 5 { vec![stalled] } else { vec![] };
        assert_eq!(camera_events(&mut link), expected, "after {round} rounds");
        link.wait(ms(100));
    }
    link.capture("other");
    link.observe(Duration::ZERO, Duration::ZERO);
    let resumed = Event::CameraResumed { name: name(), stalled_for: ms(2000) };
    assert_eq!(camera_events(&mut link), [resumed]);
}

#[test]
fn who_has_not_heard_of_a_stall_need_not_hear_of_its_end() {
    let mut link = Link::new(
        Config { camera_stall: Some(ms(500)), ..Config::default() },
        server::Config::default(),
    );
    for (wait, images) in [(0, &["cam", "other"][..]), (600, &["cam"]), (10, &["cam", "other"])] {
        link.wait(ms(wait));
        images.iter().for_each(|camera| link.capture(camera));
        link.observe(Duration::ZERO, Duration::ZERO);
    }
    assert_eq!(camera_events(&mut link), []);
    // Nor of one whose camera has gone since.
    link.wait(ms(600));
    link.observe(Duration::ZERO, Duration::ZERO);
    link.client.request_observation(link.now(), None).unwrap();
    link.policy_sends();
    link.policy_hears(&ServerMessage::Observation(observation(1)).encode());
    link.wait(ms(600));
    link.client.request_observation(link.now(), None).unwrap();
    link.policy_sends();
    link.policy_hears(&ServerMessage::Observation(observation(1)).encode());
    let stalled = Event::CameraStalled { name: "cam".into(), unchanged_for: ms(600) };
    assert_eq!(camera_events(&mut link), [stalled]);
}

#[test]
fn a_camera_without_timestamps_never_stalls() {
    let mut link = Link::new(
        Config { camera_stall: Some(ms(500)), ..Config::default() },
        server::Config::default(),
    );
    for _ in 0..10 {
        link.client.request_observation(link.now(), None).unwrap();
        link.policy_sends();
        link.policy_hears(&ServerMessage::Observation(observation(0)).encode());
        link.wait(ms(1000));
    }
    assert_eq!(camera_events(&mut link), []);
}

#[test]
fn a_robot_is_told_of_its_camera_that_is_over_its_maximal_age() {
    let mut robot = Link::with_max_age(ms(300));
    let mut news = |wait, images: &[&str]| {
        robot.wait(ms(wait));
        images.iter().for_each(|camera| robot.capture(camera));
        robot.observe(Duration::ZERO, Duration::ZERO);
        let told = std::iter::from_fn(|| robot.server.poll_event(robot.now()));
        told.map(|event| format!("{event:?}")).collect::<Vec<_>>()
    };
    assert!(news(0, &["cam", "other"]).is_empty());
    assert!(news(200, &["cam"]).is_empty());
    let told = news(200, &["cam"]);
    assert!(told.len() == 1 && told[0].contains("CameraStalled"), "{told:?}");
    assert!(told[0].contains("\"other\"") && told[0].contains("max_age: 300ms"), "{told:?}");
    assert!(news(200, &["cam"]).is_empty(), "told once");
    assert_eq!(news(1, &["other"]), ["CameraResumed { name: \"other\" }"]);
}
