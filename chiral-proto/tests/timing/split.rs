//! Where the time of an action went.

use std::time::Duration;

use chiral_proto::client::{Config, Event};
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::{Observation, Rate, server};
use proptest::prelude::*;

use super::link::Link;
use super::support::*;

/// The parts of one action's time.
#[derive(Debug, Clone, Copy)]
struct Parts {
    sensor_wait: Duration,
    down: Duration,
    inference: Duration,
    queue: Duration,
    up: Duration,
    robot_queue: Duration,
}

fn parts() -> impl Strategy<Value = Parts> {
    let time = || (0_u64..2_000_000_000).prop_map(Duration::from_nanos);
    (time(), time(), time(), time(), time(), time()).prop_map(
        |(sensor_wait, down, inference, queue, up, robot_queue)| Parts {
            sensor_wait,
            down,
            inference,
            queue,
            up,
            robot_queue,
        },
    )
}

/// Lets one action take this time.
fn act(link: &mut Link, parts: Parts) {
    link.capture("cam");
    link.wait(parts.sensor_wait);
    let observation = link.observe(Duration::ZERO, parts.down);
    link.wait(parts.inference);
    link.client.put_chunk(link.now(), &observation, [action(1)]).unwrap();
    link.wait(parts.queue);
    link.client.start_action_dispatch(link.now(), Rate::hz(1.0).unwrap()).unwrap();
    let frame = link.policy_sends();
    link.wait(parts.up);
    link.robot_hears(&frame);
    link.wait(parts.robot_queue);
    assert_eq!(number_of(&link.robot_is_given()), 1);
}

fn check(parts: Parts) {
    let unlimited = server::Config { max_obs_age: None, ..server::Config::default() };
    let mut link = Link::new(Config::default(), unlimited);
    act(&mut link, parts);
    let Parts { sensor_wait, down, inference, queue, up, robot_queue } = parts;

    let known = link.server.stats().latency;
    let robot = known.last.expect("a numbered action");
    let age = sensor_wait + down + inference + queue + up + robot_queue;
    assert_eq!(robot.seq, 1);
    assert_close(robot.age, age);
    assert_close(robot.sensor_wait, sensor_wait);
    assert_close(robot.network, down + up);
    assert_eq!(robot.queue, robot_queue);
    assert_eq!(known.hold.count(), 1);

    // The policy hears of it with the next observation, and knows how it held the last one.
    link.observe(ms(1), ms(1));
    let policy = link.client.stats(link.now()).latency;
    let last = policy.last.expect("the robot has told");
    assert_eq!(last.robot.seq, 1);
    assert_close(last.robot.age, age);
    assert_close(last.robot.network, down + up);
    assert_eq!((last.inference, last.queue), (Some(inference), queue));
    let whole = last.robot.sensor_wait.unwrap()
        + last.robot.network.unwrap()
        + inference
        + queue
        + last.robot.queue;
    assert_close(last.robot.age, whole);
    assert_eq!((policy.age.count(), policy.robot_queue.count()), (1, 1));
    assert_eq!((policy.inference.count(), policy.queue.count()), (1, 1));
}

/// To the rounding of seconds in floats, of which the robot's clock has some thousand.
#[track_caller]
fn assert_close(found: Option<Duration>, expected: Duration) {
    let found = found.expect("it is known");
    assert!(found.abs_diff(expected) <= Duration::from_nanos(3), "{found:?}, not {expected:?}");
}

#[test]
fn the_parts_of_an_action_s_time_are_those_that_it_took() {
    check(Parts {
        sensor_wait: ms(30),
        down: ms(40),
        inference: ms(150),
        queue: ms(15),
        up: ms(20),
        robot_queue: ms(10),
    });
}

#[test]
fn no_time_at_all_is_known_too() {
    let zero = Duration::ZERO;
    check(Parts {
        sensor_wait: zero,
        down: zero,
        inference: zero,
        queue: zero,
        up: zero,
        robot_queue: zero,
    });
}

proptest! {
    #[test]
    fn whatever_the_parts_are_they_are_found(parts in parts()) {
        check(parts);
    }
}

/// Over a link with latencies, at rates: each action has the same parts.
#[test]
fn a_stream_of_actions_is_split_exactly() {
    let mut pair = Pair::new(start(), Config::default(), server::Config::default());
    (pair.to_server, pair.to_client) =
        (Network::default().latency(ms(20)), Network::default().latency(ms(30)));
    let rate = Rate::hz(10.0).unwrap();
    pair.client.start_obs_stream(pair.now(), rate).unwrap();
    pair.client.start_action_dispatch(pair.now(), rate).unwrap();
    let until = pair.now() + Duration::from_secs(10);
    // The policy thinks for 30 ms about each observation; its action then waits 20 ms for the tick.
    let mut thinking: Option<(std::time::Instant, std::sync::Arc<Observation>)> = None;
    let mut seen = 0;
    loop {
        let next = thinking.as_ref().map_or(until, |(done, _)| *done).min(until);
        match pair.next(next) {
            Some(Happening::Server(server::Event::Observe(reply))) => {
                seen += 1;
                pair.server.reply_observation(reply, observation(seen)).unwrap();
            }
            Some(Happening::Client(Event::Streamed(observation))) => {
                thinking = Some((pair.now() + ms(30), observation));
            }
            Some(_) => {}
            None => match thinking.take() {
                Some((_, observation)) if pair.now() < until => {
                    pair.client.put_chunk(pair.now(), &observation, [action(seen)]).unwrap();
                }
                _ => break,
            },
        }
    }
    let robot = pair.server.stats().latency;
    let policy = pair.client.stats(pair.now()).latency;
    assert_eq!((robot.hold.count(), robot.network.count()), (99, 99), "{robot}");
    assert_eq!(robot.last.unwrap().network, Some(ms(50)));
    assert!(robot.network.max() == ms(50) && robot.network.mean() == ms(50), "{robot}");
    assert!(robot.hold.max() == ms(50) && robot.hold.mean() == ms(50));
    assert!(policy.inference.max() == ms(30) && policy.inference.mean() == ms(30));
    assert!(policy.queue.max() == ms(20) && policy.queue.mean() == ms(20));
    assert_eq!(policy.network.mean(), ms(50));
    // A robot that was not told of its sensors cannot know how old what it sees is.
    assert_eq!((robot.age.count(), policy.age.count()), (0, 0));
    assert_eq!(
        policy.to_string(),
        "network, both ways 50.0ms + inference 30.0ms + queue 20.0ms + robot queue 0.0ns"
    );
}

#[test]
fn one_line_says_where_the_time_went() {
    let mut link = Link::default();
    act(
        &mut link,
        Parts {
            sensor_wait: ms(30),
            down: ms(40),
            inference: ms(150),
            queue: ms(15),
            up: ms(20),
            robot_queue: ms(10),
        },
    );
    link.observe(ms(1), ms(1));
    assert_eq!(
        link.server.stats().latency.to_string(),
        "265.0ms from sensor to action: sensor wait 30.0ms + network, both ways 60.0ms + policy 165.0ms + robot queue 10.0ms"
    );
    assert_eq!(
        link.client.stats(link.now()).latency.to_string(),
        "265.0ms from sensor to action: sensor wait 30.0ms + network, both ways 60.0ms + inference 150.0ms + queue 15.0ms + robot queue 10.0ms"
    );
    assert_eq!(server::LatencyStats::default().to_string(), "not measured");
}
