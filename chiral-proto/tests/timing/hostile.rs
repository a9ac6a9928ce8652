//! Peers that say what is not so. Nothing panics, grows, or is believed that cannot be.

use std::time::Duration;

use chiral_proto::client::Config;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, Map, Sent, Value, server};
use proptest::prelude::*;

use super::link::Link;
use super::support::*;

fn time() -> impl Strategy<Value = Option<Duration>> {
    let any_time = (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n));
    proptest::option::of(prop_oneof![
        any_time,
        (0_u64..5000).prop_map(Duration::from_millis),
        Just(Duration::MAX),
    ])
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(Value::from),
        (-1.0..10.0).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..10).prop_map(Value::from),
        Just(Value::Nil),
        Just(Value::from("1")),
    ]
}

proptest! {
    #[test]
    fn a_policy_that_lies_confuses_only_its_own_numbers(
        lies in proptest::collection::vec((any::<u64>(), time(), time(), 0_u64..500), 1..20),
    ) {
        let mut link = Link::new(Config::default(), server::Config {
            max_obs_age: None,
            ..server::Config::default()
        });
        link.capture("cam");
        for (seq, snap, hold, wait) in lies {
            link.wait(ms(wait));
            let mut lie = Action { sent: Some(Sent { seq, hold }), ..action(1) };
            let stamps = link.sensors.snapshot_now().camera_timestamps();
            lie.obs_timestamps = Some(stamps.with_snap(snap));
            link.robot_hears(&ClientMessage::ApplyAction(lie).encode());
            link.wait(ms(wait));
            link.robot_is_given();
            let _ = link.observe(ms(1), ms(1));
            prop_assert_eq!(link.server.error(), None);
            if let Some(last) = link.server.stats().latency.last {
                // What is told adds up.
                let parts = [last.sensor_wait, last.network].into_iter().flatten();
                prop_assert!(last.age.is_none_or(|age| parts.into_iter().all(|part| part <= age)));
            }
        }
    }

    #[test]
    fn a_robot_that_lies_does_no_harm(
        numbers in proptest::collection::vec(number(), 9),
        ages in proptest::collection::vec(number(), 0..5),
    ) {
        let mut link = Link::default();
        link.send(action(1));
        let entry = |key: &str, value: &Value| (Value::from(key), value.clone());
        let [v, applied, snap, seq, age, sensor, net, queue, other] = &numbers[..] else { panic!() };
        let last = Value::Map(vec![
            entry("seq", seq),
            entry("age", age),
            entry("sensor", sensor),
            entry("net", net),
            entry("queue", queue),
        ]);
        let v = if other.is_nil() { v.clone() } else { 1.into() };
        let told = Value::Map(vec![
            entry("v", &v),
            entry("applied", applied),
            entry("snap", snap),
            entry("ages", &Value::Array(ages.clone())),
            entry("last", &last),
        ]);
        let mut lie = observation(1);
        lie.extra = Map::new().with("chiral", told);
        link.client.request_observation(link.now(), None).unwrap();
        link.policy_sends();
        link.policy_hears(&ServerMessage::Observation(lie).encode());
        prop_assert_eq!(link.client.error(), None);
        let seen = link.client.latest_observation().unwrap().observation.clone();
        if let Some(timing) = seen.timing() {
            prop_assert!(timing.ages.len() <= seen.cameras.len());
        }
        prop_assert!(seen.age(link.now()).is_some());
        prop_assert!(seen.camera_age("cam", link.now()).is_ok());
        let _ = link.client.stats(link.now()).to_string();
        // An action decided on it leaves, and the robot takes it.
        link.client.send_action(link.now(), action(2).decided_on(&seen)).unwrap();
        let frame = link.policy_sends();
        link.robot_hears(&frame);
        link.robot_is_given();
        prop_assert_eq!(link.server.error(), None);
    }
}
