//! When another thread or task, the driver, must be woken.

use chiral_proto::client::Config;
use chiral_proto::wire::ServerMessage;

use super::support::*;
use super::{Policy, hz, untimed};

#[test]
fn the_driver_is_woken_for_transmits_earlier_timeouts_and_the_end() {
    let mut policy = Policy::default();
    assert!(!policy.client.needs_wake());

    policy.client.send_action(policy.now, action(0)).unwrap();
    assert!(policy.client.needs_wake(), "an action to send");
    policy.sends_all();
    assert!(!policy.client.needs_wake());

    let deadline = policy.now + ms(100);
    policy.client.request_reset(policy.now, Some(deadline)).unwrap();
    policy.sends_all();
    assert!(policy.client.needs_wake(), "a first deadline");
    assert_eq!(policy.client.poll_timeout(), Some(deadline));
    assert!(!policy.client.needs_wake(), "the driver knows it now");

    policy.client.request_metadata(policy.now, Some(deadline + ms(1))).unwrap();
    policy.sends_all();
    assert!(!policy.client.needs_wake(), "a later one");
    policy.client.request_metadata(policy.now, Some(policy.now + ms(99))).unwrap();
    policy.sends_all();
    assert!(policy.client.needs_wake(), "an earlier one");
    policy.client.poll_timeout();

    policy.client.close(policy.now);
    assert!(policy.client.needs_wake(), "the end");
}

#[test]
fn an_observation_without_follow_up_does_not_wake_the_driver() {
    let mut policy = Policy::new(Config { silence: Some(ms(2000)), ..untimed() });
    policy.client.start_obs_stream(policy.now, hz(30.0)).unwrap();
    assert!(policy.client.needs_wake());
    policy.sends_all();
    policy.client.poll_timeout();
    policy.wait(ms(10));
    policy.hears(ServerMessage::Observation(observation(1)));
    assert!(!policy.client.needs_wake(), "the next tick is still to come, as the driver knows");
}

#[test]
fn observations_are_numbered() {
    let mut policy = Policy::default();
    for number in 1..4 {
        policy.client.request_observation(policy.now, None).unwrap();
        policy.sends_all();
        policy.wait(ms(5));
        policy.hears(ServerMessage::Observation(observation(7)));
        let latest = policy.client.latest_observation().unwrap();
        assert_eq!((latest.number, latest.arrived), (number, policy.now));
    }
    policy.client.request_reset(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Reset(reset(8)));
    assert_eq!(policy.client.latest_observation().unwrap().number, 4, "a reset brings one too");
}

#[test]
fn every_call_with_a_time_advances_the_machine() {
    type Call = fn(&mut Policy);
    let calls: [Call; 3] = [
        |policy| {
            policy.sends();
        },
        |policy| policy.hears(ServerMessage::Metadata(metadata(1))),
        |policy| policy.client.note_activity(policy.now),
    ];
    for call in calls {
        let mut policy = Policy::default();
        policy.client.request_metadata(policy.now, None).unwrap();
        policy.sends_all();
        let now = policy.now;
        policy.client.request_reset(now, Some(now + ms(10))).unwrap();
        policy.client.shut_down(now, now + ms(20));
        policy.now += ms(15);
        call(&mut policy);
        let timed_out = policy.client.stats(policy.now).requests_timed_out;
        assert!(timed_out == 1 || policy.client.error().is_some());
        policy.now += ms(15);
        call(&mut policy);
        assert!(policy.client.error().is_some(), "the shutdown's deadline has passed");
    }
}
