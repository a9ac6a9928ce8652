//! The action queue and its dispatch.

use chiral_proto::client::{Config, Event, NotQueuedReason};
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, Timestamps};

use super::support::*;
use super::{Policy, hz, untimed};

fn dispatching(config: Config) -> Policy {
    let mut policy = Policy::new(config);
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    policy
}

fn put(policy: &mut Policy, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        policy.client.put_action(policy.now, action(number)).unwrap();
    }
}

/// The numbers of the actions that the client sends now; nothing else must be sent.
fn acts(policy: &mut Policy) -> Vec<u32> {
    let number = |message| match message {
        ClientMessage::ApplyAction(action) => number_of(&action),
        other => panic!("{other:?}"),
    };
    policy.sends_all().into_iter().map(number).collect()
}

/// Makes the observation of that number the latest.
fn sees(policy: &mut Policy, number: u32) {
    policy.client.request_observation(policy.now, None).unwrap();
    assert_eq!(policy.sends(), Some(ClientMessage::Observe));
    policy.hears(ServerMessage::Observation(observation(number)));
    policy.events();
}

#[test]
fn one_action_is_sent_per_tick_in_order() {
    let mut policy = dispatching(untimed());
    assert!(policy.client.is_dispatching());
    put(&mut policy, 0..3);
    for number in 0..3 {
        assert_eq!(acts(&mut policy), [number]);
        assert_eq!(policy.sleeps_for(), Some(ms(10)));
        policy.wait(ms(9));
        assert_eq!(acts(&mut policy), []);
        policy.wait(ms(1));
    }
    assert_eq!(acts(&mut policy), []);
    assert_eq!(policy.client.stats(policy.now).actions.count(), 3);
}

#[test]
fn an_empty_queue_sends_nothing_and_counts_as_starved() {
    let mut policy = dispatching(untimed());
    assert_eq!(acts(&mut policy), []);
    policy.wait(ms(5));
    put(&mut policy, [1]);
    assert_eq!(acts(&mut policy), [], "between two ticks");
    policy.wait(ms(5));
    assert_eq!(acts(&mut policy), [1]);
    policy.wait(ms(10));
    assert_eq!(acts(&mut policy), []);
    assert_eq!(policy.client.stats(policy.now).starvations, 2);
    assert_eq!(policy.client.stats(policy.now).dispatch_ticks_missed, 0);
}

#[test]
fn missed_ticks_are_skipped_not_caught_up() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..10);
    assert_eq!(acts(&mut policy), [0]);
    policy.wait(ms(45));
    assert_eq!(acts(&mut policy), [1]);
    assert_eq!(policy.sleeps_for(), Some(ms(5)), "the grid stays where it was");
    assert_eq!(policy.client.stats(policy.now).dispatch_ticks_missed, 3);
    assert_eq!(policy.client.queued_actions(), 8, "a missed tick costs no action");
}

#[test]
fn a_busy_transport_delays_an_action_by_less_than_one_tick() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..10);
    policy.wait(ms(7)); // The tick came, but the transport took nothing.
    assert_eq!(acts(&mut policy), [0]);
    policy.wait(ms(3));
    policy.wait(ms(10)); // Two ticks without room for a frame: one is missed.
    assert_eq!(acts(&mut policy), [1]);
    assert_eq!(policy.client.stats(policy.now).dispatch_ticks_missed, 1);
}

#[test]
fn actions_are_sent_before_requests_and_requests_before_the_stream() {
    let mut policy = dispatching(untimed());
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap();
    policy.client.request_metadata(policy.now, None).unwrap();
    put(&mut policy, [1]);
    let sent = policy.sends_all();
    let types: Vec<_> = sent.iter().map(|message| message.message_type().name()).collect();
    assert_eq!(types, ["apply_action", "metadata", "obs_request"]);
}

#[test]
fn a_queued_action_is_stamped_with_the_latest_observation_when_sent() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..2);
    let Some(ClientMessage::ApplyAction(unstamped)) = policy.sends() else { panic!() };
    assert_eq!(unstamped.obs_timestamps, Some(Timestamps::default()), "nothing was seen yet");
    sees(&mut policy, 5);
    policy.wait(ms(10));
    let Some(ClientMessage::ApplyAction(sent)) = policy.sends() else { panic!() };
    assert_eq!(sent.obs_timestamps, Some(stamped(5)));
}

#[test]
fn an_explicitly_bound_action_keeps_its_observation() {
    let mut policy = dispatching(untimed());
    policy.client.put_action(policy.now, action(0).decided_on(&observation(3))).unwrap();
    sees_before_acting(&mut policy, 5);
    let Some(ClientMessage::ApplyAction(sent)) = policy.sends() else { panic!() };
    assert_eq!(sent.obs_timestamps, Some(stamped(3)));
}

#[test]
fn a_chunk_carries_the_timestamps_of_its_observation() {
    let mut policy = dispatching(untimed());
    policy.client.put_chunk(policy.now, &observation(3), [action(0), action(1)]).unwrap();
    sees_before_acting(&mut policy, 5);
    for _ in 0..2 {
        let Some(ClientMessage::ApplyAction(sent)) = policy.sends() else { panic!() };
        assert_eq!(sent.obs_timestamps, Some(stamped(3)));
        policy.wait(ms(10));
    }
}

/// Makes the observation the latest while the first tick is not due yet.
fn sees_before_acting(policy: &mut Policy, number: u32) {
    policy.client.stop_action_dispatch();
    sees(policy, number);
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
}

#[test]
fn an_action_older_than_max_age_is_never_sent() {
    let mut policy = dispatching(Config { max_age: Some(ms(25)), ..untimed() });
    assert_eq!(acts(&mut policy), []);
    policy.wait(ms(5));
    put(&mut policy, 0..4); // Due at 10, 20, 30 and 40 ms; 30 ms is the last that is in time.
    let mut left = Vec::new();
    for _ in 0..10 {
        policy.wait(ms(5));
        left.extend(acts(&mut policy));
    }
    assert_eq!(left, [0, 1, 2]);
    assert_eq!(policy.client.stats(policy.now).actions_expired, 1);
    assert_eq!(policy.client.queued_actions(), 0);
}

#[test]
fn an_action_that_expires_while_the_transport_is_blocked_is_never_sent() {
    let mut policy = dispatching(Config { max_age: Some(ms(5)), ..untimed() });
    put(&mut policy, [1]);
    policy.wait(ms(0)); // The tick is due,
    policy.wait(ms(6)); // and the transport takes a frame 6 ms later.
    assert_eq!(acts(&mut policy), []);
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.actions_expired, stats.starvations), (1, 1));
}

#[test]
fn a_tick_skips_expired_actions_and_sends_the_next_valid_one() {
    let mut policy = dispatching(Config { max_age: Some(ms(5)), ..untimed() });
    acts(&mut policy);
    put(&mut policy, [1, 2]);
    policy.wait(ms(9));
    put(&mut policy, [3]);
    policy.wait(ms(1));
    assert_eq!(acts(&mut policy), [3]);
    assert_eq!(policy.client.stats(policy.now).starvations, 1, "the first tick's");
}

#[test]
fn replacing_the_queue_is_atomic() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..5);
    assert_eq!(acts(&mut policy), [0]);
    policy.wait(ms(10)); // A tick is due, its action not sent yet.
    let dropped =
        policy.client.replace_actions(policy.now, &observation(3), [action(10), action(11)]);
    assert_eq!(dropped, Ok(4));
    let Some(ClientMessage::ApplyAction(sent)) = policy.sends() else { panic!() };
    assert_eq!((number_of(&sent), sent.obs_timestamps), (10, Some(stamped(3))));
    policy.wait(ms(10));
    assert_eq!(acts(&mut policy), [11]);
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.actions_dropped, stats.starvations), (4, 0));
}

#[test]
fn replacing_with_an_empty_chunk_clears_the_queue() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..5);
    assert_eq!(policy.client.replace_actions(policy.now, &observation(3), []), Ok(5));
    assert_eq!(acts(&mut policy), []);
    assert_eq!(policy.client.queued_actions(), 0);
}

#[test]
fn a_chunk_that_does_not_fit_is_returned_and_the_queue_is_unchanged() {
    let mut policy = Policy::new(Config { queue_capacity: 3, ..untimed() });
    put(&mut policy, 0..2);
    let plan: Vec<Action> = (10..12).map(action).collect();

    let refused = policy.client.put_chunk(policy.now, &observation(3), plan.clone()).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Full { waiting: 2, capacity: 3 });
    assert_eq!(refused.actions.iter().map(number_of).collect::<Vec<_>>(), [10, 11]);
    assert!(refused.to_string().starts_with("2 actions were not queued: 2 of 3 places"));

    let plan: Vec<Action> = (10..14).map(action).collect();
    let refused = policy.client.replace_actions(policy.now, &observation(3), plan).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Full { waiting: 0, capacity: 3 });
    assert_eq!(refused.actions.len(), 4);

    put(&mut policy, [2]);
    let refused = policy.client.put_action(policy.now, action(3)).unwrap_err();
    assert_eq!(refused.actions, [action(3)], "as it was given");

    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    let mut left = Vec::new();
    for _ in 0..5 {
        left.extend(acts(&mut policy));
        policy.wait(ms(10));
    }
    assert_eq!(left, [0, 1, 2]);
    assert_eq!(policy.client.stats(policy.now).actions_dropped, 0);
}

#[test]
fn stopping_dispatch_keeps_the_queue_for_the_next_start() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..3);
    assert_eq!(acts(&mut policy), [0]);
    policy.client.stop_action_dispatch();
    assert!(!policy.client.is_dispatching());
    assert_eq!(policy.sleeps_for(), None);
    policy.wait(ms(1000));
    assert_eq!(acts(&mut policy), []);
    assert_eq!(policy.client.queued_actions(), 2);
    policy.client.start_action_dispatch(policy.now, hz(50.0)).unwrap();
    assert_eq!(acts(&mut policy), [1]);
    assert_eq!(policy.sleeps_for(), Some(ms(20)));
}

#[test]
fn cleared_actions_are_counted_and_never_sent() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..3);
    policy.wait(ms(0)); // The tick is due: what it would have sent is gone.
    assert_eq!(policy.client.clear_actions(), 3);
    assert_eq!(acts(&mut policy), []);
    assert_eq!(policy.client.clear_actions(), 0);
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.actions_dropped, stats.starvations), (3, 1));
}

#[test]
fn expired_actions_free_their_places_in_the_queue() {
    let config = Config { queue_capacity: 2, max_age: Some(ms(50)), ..untimed() };
    let mut policy = Policy::new(config);
    put(&mut policy, 0..2);
    policy.wait(ms(51));
    put(&mut policy, 2..4);
    assert_eq!(policy.client.queued_actions(), 2);
    assert_eq!(policy.client.stats(policy.now).actions_expired, 2);
}

#[test]
fn every_dispatch_tick_is_counted_as_sent_starved_or_missed() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..9);
    let mut sent = acts(&mut policy).len() as u64;
    policy.wait(ms(25)); // 2 ticks: 1 missed, 1 due
    policy.client.stop_action_dispatch(); // whose action does not leave
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap(); // 1 tick, due
    policy.client.handle_timeout(policy.now);
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap(); // 1 tick instead
    sent += acts(&mut policy).len() as u64;
    let stats = policy.client.stats(policy.now);
    assert_eq!((sent, stats.starvations, stats.dispatch_ticks_missed), (2, 0, 3));
}

#[test]
fn send_action_goes_first_and_needs_no_dispatch() {
    let mut policy = Policy::default();
    policy.client.request_metadata(policy.now, None).unwrap();
    for number in [1, 2] {
        policy.client.send_action(policy.now, action(number)).unwrap();
    }
    assert_eq!(policy.sleeps_for(), None);
    let sent: Vec<_> =
        policy.sends_all().iter().map(|message| message.message_type().name()).collect();
    assert_eq!(sent, ["apply_action", "apply_action", "metadata"]);
    policy.hears(ServerMessage::Metadata(metadata(0)));

    // Between two ticks, and before the action of one.
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    put(&mut policy, [10, 11]);
    policy.client.send_action(policy.now, action(3)).unwrap();
    assert_eq!(acts(&mut policy), [3, 10]);
    policy.wait(ms(5));
    policy.client.send_action(policy.now, action(4)).unwrap();
    assert_eq!(acts(&mut policy), [4]);
    policy.wait(ms(5));
    assert_eq!(acts(&mut policy), [11]);
    assert_eq!(policy.client.stats(policy.now).actions.count(), 6);
}

#[test]
fn send_action_is_stamped_when_it_is_transmitted() {
    let mut policy = Policy::default();
    sees(&mut policy, 5);
    policy.client.send_action(policy.now, action(1)).unwrap();
    policy.client.send_action(policy.now, action(2).decided_on(&observation(3))).unwrap();
    for number in [5, 3] {
        let Some(ClientMessage::ApplyAction(sent)) = policy.sends() else { panic!() };
        assert_eq!(sent.obs_timestamps, Some(stamped(number)));
    }
}

#[test]
fn send_action_expires_while_the_transport_is_blocked() {
    let mut policy = Policy::new(Config { max_age: Some(ms(20)), ..untimed() });
    policy.client.send_action(policy.now, action(1)).unwrap();
    policy.wait(ms(15));
    policy.client.send_action(policy.now, action(2)).unwrap();
    policy.wait(ms(6));
    assert_eq!(acts(&mut policy), [2]);
    assert_eq!(policy.client.stats(policy.now).actions_expired, 1);
}

#[test]
fn send_action_is_bounded_by_the_queue_capacity() {
    let config = Config { queue_capacity: 2, max_age: Some(ms(20)), ..untimed() };
    let mut policy = Policy::new(config);
    put(&mut policy, 0..2);
    for number in [1, 2] {
        policy.client.send_action(policy.now, action(number)).unwrap();
    }
    let refused = policy.client.send_action(policy.now, action(3)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Unsent { waiting: 2 });
    assert_eq!(refused.actions, [action(3)]);
    policy.wait(ms(21));
    policy.client.send_action(policy.now, action(4)).expect("the others have expired");
    assert_eq!(acts(&mut policy), [4]);
}

#[test]
fn clearing_also_drops_unsent_urgent_actions() {
    let mut policy = Policy::default();
    put(&mut policy, 0..2);
    policy.client.send_action(policy.now, action(5)).unwrap();
    assert_eq!(policy.client.clear_actions(), 3);
    assert_eq!(acts(&mut policy), []);
}

#[test]
fn replacing_the_queue_keeps_urgent_actions() {
    let mut policy = dispatching(untimed());
    put(&mut policy, 0..2);
    policy.client.send_action(policy.now, action(5)).unwrap(); // Open the gripper!
    let dropped = policy.client.replace_actions(policy.now, &observation(0), [action(10)]);
    assert_eq!(dropped, Ok(2));
    assert_eq!(acts(&mut policy), [5, 10]);
}

#[test]
fn a_queue_without_a_bound_takes_any_number_and_tells_once_that_it_is_long() {
    let config = Config { queue_capacity: usize::MAX, queue_warning: Some(1000), ..untimed() };
    let mut policy = Policy::new(config);
    let rows = |count: u16| (0..count).map(|n| Action::from([f32::from(n)]));
    for row in rows(999) {
        policy.client.put_action(policy.now, row).unwrap();
    }
    assert_eq!(policy.events(), []);
    policy.client.put_chunk(policy.now, &observation(1), rows(4000)).unwrap();
    assert_eq!(policy.events(), [Event::QueueLong { queued: 4999 }]);
    policy.client.clear_actions();
    policy.client.put_chunk(policy.now, &observation(1), rows(2000)).unwrap();
    assert_eq!(policy.events(), [], "it was told");
}

#[test]
fn actions_that_wait_for_the_transport_alone_are_bounded_in_any_case() {
    let mut policy = Policy::new(Config { queue_capacity: usize::MAX, ..untimed() });
    let sent = (0..).take_while(|_| policy.client.send_action(policy.now, action(0)).is_ok());
    assert_eq!(sent.count(), 1024);
}
