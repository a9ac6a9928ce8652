//! Actions in the queue that nothing sends.

use std::time::Duration;

use chiral_proto::client::{Config, Event};

use super::support::*;
use super::{Policy, hz, untimed};

fn policy() -> Policy {
    let policy = Policy::new(Config { undispatched: Some(ms(1000)), ..untimed() });
    assert_eq!(Config::default().undispatched, Some(Duration::from_secs(1)));
    policy
}

#[test]
fn actions_that_nothing_sends_are_told_of_once() {
    let mut policy = policy();
    policy.client.put_action(policy.now, action(0)).unwrap();
    assert!(policy.client.needs_wake(), "a first deadline");
    policy.wait(ms(400));
    policy.client.put_action(policy.now, action(1)).unwrap();
    assert_eq!(policy.sleeps_for(), Some(ms(600)));
    policy.wait(ms(599));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    assert_eq!(policy.events(), [Event::Undispatched { queued: 2 }]);
    assert_eq!(policy.sleeps_for(), None);
    policy.client.clear_actions();
    policy.client.put_action(policy.now, action(2)).unwrap();
    policy.wait(ms(60_000));
    assert_eq!(policy.events(), []);
    assert!(policy.sends().is_none(), "it changes nothing else");
}

#[test]
fn a_dispatch_that_runs_or_comes_in_time_is_no_reason() {
    let mut policy = policy();
    policy.client.send_action(policy.now, action(0)).unwrap();
    policy.wait(ms(5000));
    policy.client.put_action(policy.now, action(1)).unwrap();
    policy.wait(ms(999));
    policy.client.start_action_dispatch(policy.now, hz(0.1)).unwrap();
    policy.client.put_action(policy.now, action(2)).unwrap();
    policy.wait(ms(5000));
    assert_eq!(policy.events(), [], "a slow one runs");
}

#[test]
fn a_stopped_dispatch_counts_from_its_end() {
    let mut policy = policy();
    policy.client.start_action_dispatch(policy.now, hz(1.0)).unwrap();
    policy.client.put_chunk(policy.now, &observation(1), (0..20).map(action)).unwrap();
    policy.wait(ms(5000));
    policy.client.stop_action_dispatch();
    policy.wait(ms(999));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    let events = policy.events();
    assert!(matches!(events[..], [Event::Undispatched { .. }]), "{events:?}");
}

#[test]
fn none_never_tells() {
    let mut policy = Policy::new(untimed());
    policy.client.put_action(policy.now, action(0)).unwrap();
    assert_eq!(policy.sleeps_for(), None);
    policy.wait(ms(60_000));
    assert_eq!(policy.events(), []);
}
