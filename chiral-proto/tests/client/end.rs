//! The end of a connection.

use chiral_proto::ConnectionError;
use chiral_proto::client::{Config, Event, Misuse, NotQueuedReason, RequestError};
use chiral_proto::wire::{Limits, ServerMessage};

use super::support::*;
use super::{Policy, hz, untimed};

fn lost() -> ConnectionError {
    ConnectionError::Lost("reset by peer".to_owned())
}

#[test]
fn disconnect_fails_pending_requests_and_is_the_last_event() {
    let mut policy = Policy::default();
    let now = policy.now;
    let on_the_wire = policy.client.request_reset(now, None).unwrap().key();
    let expired = policy.client.request_metadata(now, Some(now + ms(5))).unwrap().key();
    policy.client.start_obs_stream(now, hz(100.0)).unwrap();
    policy.sends_all();
    let queued = policy.client.request_observation(now, None).unwrap().key();
    policy.wait(ms(5));
    assert_eq!(policy.events(), [super::timed_out(expired)]);

    policy.client.handle_disconnect(policy.now, lost());
    policy.client.handle_disconnect(policy.now, ConnectionError::ClosedLocally);
    policy.client.close(policy.now);
    policy.client.handle_message(policy.now, (&b"no frame"[..]).into());
    let failed = |id| Event::Failed { id, error: RequestError::Disconnected(lost()) };
    let told = policy.events();
    assert_eq!(told, [failed(on_the_wire), failed(queued), Event::Disconnected(lost())]);
    assert_eq!(policy.client.error(), Some(&lost()));
}

#[test]
fn nothing_happens_after_disconnect() {
    let mut policy = Policy::default();
    let id = policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap();
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    policy.client.put_action(policy.now, action(0)).unwrap();
    policy.client.close(policy.now);
    assert_eq!(policy.events().len(), 2);

    policy.hears(ServerMessage::Metadata(metadata(0)));
    policy.wait(ms(1000));
    assert_eq!(policy.sleeps_for(), None);
    assert_eq!(policy.sends(), None);
    assert!(!policy.client.cancel(policy.now, id));
    assert_eq!(policy.events(), []);
    assert!(!policy.client.is_streaming());
    assert!(!policy.client.is_dispatching());
    assert_eq!(policy.client.queued_actions(), 0);
    assert_eq!(policy.client.stats(policy.now).actions_dropped, 1);
    assert_eq!(policy.client.stats(policy.now).frames_received, 0);
}

#[test]
fn an_unpolled_observation_is_still_delivered_after_disconnect() {
    let mut policy = Policy::default();
    policy.client.start_obs_stream(policy.now, hz(100.0)).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Observation(observation(1)));
    policy.client.handle_disconnect(policy.now, lost());
    let told = policy.events();
    assert!(matches!(told[..], [Event::Streamed(_), Event::Disconnected(_)]), "{told:?}");
    assert_eq!(*policy.client.latest_observation().unwrap().observation, observation(1));
}

#[test]
fn an_unreadable_frame_ends_the_connection() {
    for message in [&b""[..], b"\xff\xff\xff\xff", b"\x01\0\0\0\xc1", b"\x01\0\0\0\x80"] {
        let mut policy = Policy::default();
        policy.client.handle_message(policy.now, message.into());
        let told = policy.events();
        assert!(matches!(told[..], [Event::Disconnected(ConnectionError::BadFrame(_))]));
        assert!(policy.client.error().unwrap().is_ours());
    }
}

#[test]
fn a_frame_over_the_limits_ends_the_connection() {
    let limits = Limits { frame_len: 100, ..Limits::default() };
    let mut policy = Policy::new(Config { limits, ..untimed() });
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Observation(observation(0)));
    assert_eq!(policy.client.error().unwrap().close_code(), 1009);
}

#[test]
fn a_request_that_expired_before_disconnect_reports_a_timeout() {
    let mut policy = Policy::default();
    let id = policy.client.request_metadata(policy.now, Some(policy.now + ms(5))).unwrap();
    policy.client.handle_disconnect(policy.now + ms(10), lost());
    assert_eq!(policy.events(), [super::timed_out(id), Event::Disconnected(lost())]);
}

#[test]
fn calls_after_disconnect_fail_and_return_the_actions() {
    let mut policy = Policy::new(Config { queue_capacity: 1, ..untimed() });
    let now = policy.now;
    policy.client.close(now);
    let ended = || Misuse::Disconnected(ConnectionError::ClosedLocally);
    assert_eq!(policy.client.request_metadata(now, None), Err(ended()));
    assert_eq!(policy.client.request_reset(now, None), Err(ended()));
    assert_eq!(policy.client.request_observation(now, None), Err(ended()));
    assert_eq!(policy.client.request_step(now, action(0), None), Err(ended()));
    assert_eq!(policy.client.start_obs_stream(now, hz(1.0)), Err(ended()));
    assert_eq!(policy.client.start_action_dispatch(now, hz(1.0)), Err(ended()));

    let reason = NotQueuedReason::Disconnected(ConnectionError::ClosedLocally);
    let two = [action(1), action(2)];
    let refused = [
        policy.client.put_action(now, action(1)).unwrap_err(),
        policy.client.send_action(now, action(1)).unwrap_err(),
        policy.client.put_chunk(now, &observation(0), two.clone()).unwrap_err(),
        policy.client.replace_actions(now, &observation(0), two).unwrap_err(),
    ];
    assert_eq!(refused.each_ref().map(|refused| refused.actions.len()), [1, 1, 2, 2]);
    assert_eq!(refused.map(|refused| refused.reason), [(); 4].map(|()| reason.clone()));
    policy.client.stop_obs_stream();
    policy.client.stop_action_dispatch();
    assert_eq!(policy.client.clear_actions(), 0);
    assert_eq!(policy.events(), [Event::Disconnected(ConnectionError::ClosedLocally)]);
}
