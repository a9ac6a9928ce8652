//! Requests that nobody gave a deadline, and what their errors say.

use chiral_proto::client::{Config, Event, Lossy, RequestError, TimeoutCause};
use chiral_proto::wire::{ClientMessage, RequestKind, ServerMessage};

use super::support::*;
use super::{Policy, hz, timed_out, untimed};

fn policy() -> Policy {
    let config = Config { silence: None, ..Config::default() };
    assert_eq!(
        (config.request_timeout, config.motion_timeout),
        (Some(ms(10_000)), Some(ms(120_000)))
    );
    Policy::new(config)
}

/// The error of the only event there is.
fn error(policy: &mut Policy) -> RequestError {
    match policy.client.poll_event() {
        Some(Event::Failed { error, .. } | Event::StreamTimedOut(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn cause(policy: &mut Policy) -> TimeoutCause {
    match error(policy) {
        RequestError::TimedOut { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

#[test]
fn every_request_has_a_deadline() {
    for kind in RequestKind::ALL {
        let mut policy = policy();
        let (now, client) = (policy.now, &mut policy.client);
        let (id, timeout) = match kind {
            RequestKind::Metadata => (client.request_metadata(now, None).unwrap().key(), 10),
            RequestKind::Observe => (client.request_observation(now, None).unwrap().key(), 10),
            RequestKind::Reset => (client.request_reset(now, None).unwrap().key(), 120),
            _ => (client.request_step(now, action(0), None).unwrap().key(), 120),
        };
        policy.sends_all();
        assert_eq!(policy.sleeps_for(), Some(ms(timeout * 1000)));
        policy.wait(ms(timeout * 1000 - 1));
        assert_eq!(policy.events(), []);
        policy.wait(ms(1));
        assert_eq!(policy.events(), [timed_out(id)], "{kind}");
    }
}

#[test]
fn deadlines_are_paused_during_a_reset() {
    let mut policy = policy();
    policy.client.request_reset(policy.now, None).unwrap();
    let seen = policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    let queued = policy.client.request_metadata(policy.now, None).unwrap();
    policy.wait(ms(100_000));
    assert_eq!(policy.events(), []);
    policy.hears(ServerMessage::Reset(reset(1)));
    policy.events();
    policy.sends_all();
    policy.wait(ms(9_999));
    assert_eq!(policy.events(), []);
    policy.wait(ms(1));
    assert_eq!(policy.events(), [timed_out(seen), timed_out(queued)]);
}

#[test]
fn a_timed_out_reset_blocks_nothing() {
    let mut policy = policy();
    policy.client.request_reset(policy.now, None).unwrap();
    let seen = policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(120_000));
    assert_eq!(policy.events().len(), 1);
    policy.wait(ms(10_000));
    assert_eq!(policy.events(), [timed_out(seen)]);
}

#[test]
fn an_unanswered_stream_is_reported_once_and_continues() {
    let mut policy = policy();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    assert_eq!(policy.sends_all().len(), 1);
    policy.wait(ms(10_000));
    assert!(matches!(policy.events()[..], [Event::StreamTimedOut(_)]));
    policy.wait(ms(60_000));
    assert_eq!((policy.events(), policy.sends()), (vec![], None), "no request after request");

    policy.hears(ServerMessage::Observation(observation(1)));
    assert!(matches!(policy.events()[..], [Event::Streamed(_)]));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    policy.wait(ms(10_000));
    assert!(matches!(policy.events()[..], [Event::StreamTimedOut(_)]), "told again");

    let mut stopped = self::policy();
    stopped.client.start_obs_stream(stopped.now, hz(10.0)).unwrap();
    stopped.sends_all();
    stopped.client.stop_obs_stream();
    stopped.wait(ms(20_000));
    assert_eq!(stopped.events(), []);
}

/// A server that answers metadata, reset and step only, as the existing one in C++ does.
#[test]
fn a_server_without_observations_is_reported_and_stays_usable() {
    let mut policy = policy();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.client.request_reset(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.hears(ServerMessage::Reset(reset(2)));
    policy.events();

    policy.client.request_observation(policy.now, None).unwrap();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    policy.sends_all();
    policy.wait(ms(1));
    policy.client.note_activity(policy.now); // it answers pings
    policy.wait(ms(9_999));
    let text = "no obs_response after 10.0s: the server answered metadata and reset before, but never \
                a obs_request; if it answers only metadata, reset and step, use `step`";
    assert_eq!(error(&mut policy).to_string(), text.replace("a obs_request", "an obs_request"));
    assert_eq!(policy.events().len(), 1, "the stream's");

    // Two requests are unanswered for ever: the step's answer is not taken for a wrong one.
    policy.client.stop_obs_stream();
    for number in 3..6 {
        let id = policy.client.request_step(policy.now, action(0), None).unwrap();
        policy.sends_all();
        policy.hears(ServerMessage::Step(step(number)));
        assert_eq!(policy.events(), [Event::Step { id, result: step(number) }]);
    }
    assert_eq!(policy.client.error(), None);
}

#[test]
fn a_reply_after_the_timeout_is_dropped() {
    let mut policy = policy();
    policy.client.request_observation(policy.now, Some(policy.now + ms(10))).unwrap();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(10));
    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.hears(ServerMessage::Observation(observation(2)));
    assert_eq!((policy.client.error(), policy.client.stats(policy.now).strays), (None, 1));
    // A second one answers nothing that was ever asked.
    policy.hears(ServerMessage::Observation(observation(3)));
    assert!(policy.client.error().is_some());
}

#[test]
fn the_error_names_the_likely_cause() {
    // It was never sent.
    let mut policy = policy();
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.wait(ms(10_000));
    assert_eq!(cause(&mut policy), TimeoutCause::NotSent);

    // Nothing has come since.
    let mut policy = self::policy();
    policy.client.note_activity(policy.now);
    policy.wait(ms(1));
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(10_000));
    let silent = error(&mut policy).to_string();
    let text =
        "no metadata_response after 10.0s: nothing at all has come, the connection may be dead";
    assert_eq!(silent, text);

    // Pongs come, but no answer of any kind ever has.
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.client.note_activity(policy.now);
    policy.wait(ms(10_000));
    let request = RequestKind::Observe;
    assert_eq!(cause(&mut policy), TimeoutCause::NeverAnswered { answered: vec![], request });

    // It has answered such a request before.
    let mut policy = self::policy();
    for number in 0..2 {
        policy.client.request_observation(policy.now, None).unwrap();
        policy.sends_all();
        if number == 0 {
            policy.hears(ServerMessage::Observation(observation(1)));
            policy.events();
        }
    }
    policy.client.note_activity(policy.now);
    policy.wait(ms(10_000));
    assert_eq!(cause(&mut policy), TimeoutCause::Slow);
}

#[test]
fn a_reset_that_may_be_lost_is_not_blamed_on_the_robot() {
    let lossy = Some(Lossy::default());
    let mut policy = Policy::new(Config { lossy, silence: None, ..Config::default() });
    policy.client.request_reset(policy.now, None).unwrap();
    policy.sends_all();
    policy.wait(ms(120_000));
    let error = error(&mut policy).to_string();
    assert!(error.contains("may have been lost on the network"), "{error}");
    assert!(error.contains("not sent twice"), "{error}");
}

#[test]
fn without_timeouts_a_request_waits_for_ever() {
    let mut policy = Policy::new(untimed());
    policy.client.request_observation(policy.now, None).unwrap();
    policy.client.request_reset(policy.now, None).unwrap();
    policy.sends_all();
    assert_eq!(policy.sleeps_for(), None);
    policy.wait(ms(1_000_000));
    assert_eq!(policy.events(), []);
}
