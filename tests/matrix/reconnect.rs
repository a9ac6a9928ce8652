//! A connection that is lost and made again: what goes on, what fails, what is never sent, and what
//! ends it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiral_driver::client::{ConnectionEvent, OnConnection};
use chiral_driver::server::Accept;
use chiral_driver::{CallError, Rejection};
use chiral_proto::ConnectionError;
use chiral_proto::client::{ConnectionState, Misuse, NotQueuedReason, Reconnect, RequestError};
use chiral_proto::timeline::BasisError;
use chiral_proto::wire::RequestKind;
use chiral_tests::{Entry, RawServer, Recorder, SOON, Work};

use crate::adapter::{ClientSettings, Policy, ServerSettings};
use crate::network::Relay;
use crate::pair::{Client, Pair, Served, action, actions, hz, values};
use crate::relay::SocketRelay;
use crate::supervise::{A_WHILE, aside, ask, eventually, soon};

/// Tries often enough for a test.
fn quick() -> Reconnect {
    let initial = Duration::from_millis(20);
    Reconnect { initial, max: Duration::from_millis(100), ..Reconnect::default() }
}

fn with(reconnect: Reconnect) -> ClientSettings {
    ClientSettings { reconnect: Some(reconnect), ..ClientSettings::default() }
}

/// A policy that is connected again, with calls that wait or that fail.
#[track_caller]
fn connect(pair: Pair, uri: &str, reconnect: Reconnect) -> Arc<dyn Policy> {
    let policy = pair.client.try_connect(uri, with(reconnect)).expect("the server takes it");
    soon(|| policy.metadata()).unwrap();
    policy
}

#[track_caller]
fn next_event(policy: &Arc<dyn Policy>) -> ConnectionEvent {
    soon(|| policy.next_connection_event_within(SOON)).expect("something happens")
}

#[track_caller]
fn wait_for_interruption(policy: &Arc<dyn Policy>) -> ConnectionError {
    match next_event(policy) {
        ConnectionEvent::Disconnected { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn wait_for_reconnection(policy: &Arc<dyn Policy>) {
    match next_event(policy) {
        ConnectionEvent::Reconnected { attempts: 1.., down_for, .. } if !down_for.is_zero() => {}
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn wait_for_end(policy: &Arc<dyn Policy>) -> ConnectionError {
    let error = match next_event(policy) {
        ConnectionEvent::Ended { error, .. } => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(policy.error().as_ref(), Some(&error));
    assert_eq!(policy.next_connection_event_within(SOON), None, "nothing comes after the end");
    error
}

/// Takes the robot out of service, and returns where it was.
fn stop(served: Served) -> String {
    let address = served.address();
    soon(|| served.server.shut_down());
    served.assert_closed();
    soon(|| drop(served));
    address
}

pub(crate) fn a_policy_goes_on_with_a_restarted_robot(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let told = Arc::<Mutex<Vec<ConnectionEvent>>>::default();
    let hook = Arc::clone(&told);
    let on_connection = OnConnection::new(move |event| hook.lock().unwrap().push(event.clone()));
    let settings = ClientSettings { on_connection, ..with(quick()) };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    assert_eq!(policy.connection_state(), ConnectionState::Connected);
    policy.start_obs_stream(hz(100.0)).unwrap();
    policy.start_action_dispatch(hz(100.0)).unwrap();
    let before = soon(|| policy.next_obs()).unwrap();
    policy.put_chunk(&before, actions(1000..1900)).unwrap();
    served.robot.wait_for_applied(2);

    let address = stop(served);
    let lost = wait_for_interruption(&policy);
    assert!(lost.may_pass(), "{lost:?}");
    let refused = policy.put_action(action(2000)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Interrupted(lost.clone()));
    let refused = policy.send_action(action(2000)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Interrupted(lost.clone()));
    let failed = soon(|| policy.observe()).unwrap_err();
    assert_eq!(failed, CallError::Misuse(Misuse::Interrupted(lost.clone())));
    assert_eq!(soon(|| policy.next_obs()).unwrap_err(), failed);
    assert_eq!((policy.error(), policy.queued_actions()), (None, 0));
    assert!(matches!(policy.connection_state(), ConnectionState::Interrupted { .. }));

    let served = pair.server.serve_at(&address, Recorder::small());
    wait_for_reconnection(&policy);
    assert_eq!(policy.connection_state(), ConnectionState::Connected);
    let after = soon(|| policy.next_obs()).expect("the stream goes on");
    soon(|| policy.next_obs()).expect("and on");
    let refused = policy.follow(&before, actions([2000])).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Basis(BasisError::FormerConnection));
    policy.put_chunk(&after, actions([7, 8, 9])).unwrap();
    served.robot.wait_for_applied(3);
    assert_eq!(values(&served.robot.applied()), [7.0, 8.0, 9.0]);
    assert_eq!(policy.stats().reconnects, 1);

    soon(|| policy.close());
    assert_eq!(wait_for_end(&policy), ConnectionError::ClosedLocally);
    eventually(|| told.lock().unwrap().len() == 3);
    let told = told.lock().unwrap();
    assert!(matches!(&told[0], ConnectionEvent::Disconnected { error, .. } if *error == lost));
    assert!(matches!(&told[1], ConnectionEvent::Reconnected { .. }), "{told:?}");
    assert!(matches!(&told[2], ConnectionEvent::Ended { .. }), "{told:?}");
}

pub(crate) fn requests_in_flight_fail_once_when_the_network_drops_the_connection(pair: Pair) {
    let served = pair.server.serve(Recorder::small().held(Work::Reset));
    let relay = served.relay();
    let policy = connect(pair, relay.uri(), quick());
    let resetting = ask(&policy, |policy| policy.reset());
    served.robot.wait_for_begun(Work::Reset, 1);
    let sent = policy.stats().frames_sent;
    let asking = ask(&policy, |policy| policy.observe());
    eventually(|| policy.stats().frames_sent > sent);
    relay.cut();
    for (failed, kind) in [
        (resetting.done().map(drop), RequestKind::Reset),
        (asking.done().map(drop), RequestKind::Observe),
    ] {
        match failed.unwrap_err() {
            CallError::Unanswered(RequestError::Interrupted { request, sent: true, error }) => {
                assert!(request == kind && error.is_lost(), "{request}: {error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(wait_for_interruption(&policy).is_lost());
    served.robot.release_all();
    wait_for_reconnection(&policy);
    // The answer of the reset before would be one too many.
    soon(|| policy.reset()).unwrap();
    soon(|| policy.observe()).unwrap();
    policy.send_action(action(7)).unwrap();
    served.robot.wait_for_applied(1);
    assert_eq!(policy.error(), None);
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 2);
}

pub(crate) fn a_supervised_policy_does_not_notice_a_restart(pair: Pair) {
    /// A policy as it would be written for a robot that never restarts.
    fn drive(policy: &dyn Policy, is_over: impl Fn() -> bool) -> Result<(), String> {
        let shown = |error: &dyn std::error::Error| error.to_string();
        policy.start_obs_stream(hz(100.0)).map_err(|error| shown(&error))?;
        policy.start_action_dispatch(hz(100.0)).map_err(|error| shown(&error))?;
        for round in 0_u16.. {
            let observation = policy.next_obs().map_err(|error| shown(&error))?;
            let rows = actions([round; 5]);
            policy.follow(&observation, rows).map_err(|error| shown(&error))?;
            if round % 4 == 0 {
                policy.observe().map_err(|error| shown(&error))?;
                policy.metadata().map_err(|error| shown(&error))?;
            }
            if is_over() {
                break;
            }
        }
        Ok(())
    }

    let mut served = pair.server.serve(Recorder::small());
    let reconnect = Reconnect { hold_calls: true, ..quick() };
    let policy = connect(pair, &served.uri, reconnect);
    let over = Arc::<Mutex<bool>>::default();
    let (theirs, is_over) = (policy.another(), Arc::clone(&over));
    let driving = aside(move || drive(&*theirs, || *is_over.lock().unwrap()));
    served.robot.wait_for_applied(3);
    for _ in 0..2 {
        let address = stop(served);
        wait_for_interruption(&policy);
        served = pair.server.serve_at(&address, Recorder::small());
        wait_for_reconnection(&policy);
        served.robot.wait_for_applied(3);
    }
    *over.lock().unwrap() = true;
    driving.done().expect("it has noticed nothing");
    assert_eq!(policy.stats().reconnects, 2);
}

pub(crate) fn no_plan_is_asked_for_while_the_robot_is_away(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let policy = connect(pair, &served.uri, Reconnect { hold_calls: true, ..quick() });
    let address = stop(served);
    wait_for_interruption(&policy);
    let planning = ask(&policy, |policy| policy.plan_low());
    std::thread::sleep(A_WHILE);
    assert!(!planning.is_done());
    let _served = pair.server.serve_at(&address, Recorder::small());
    planning.done().expect("it waits for the robot");
}

pub(crate) fn a_robot_that_stays_away_is_given_up(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let give_up_after = Some(Duration::from_millis(300));
    let reconnect = Reconnect { give_up_after, hold_calls: true, ..quick() };
    let policy = connect(pair, &served.uri, reconnect);
    stop(served);
    wait_for_interruption(&policy);
    let asking = ask(&policy, |policy| policy.observe());
    let waiting = ask(&policy, |policy| policy.next_obs());
    let ended = wait_for_end(&policy);
    assert!(matches!(ended, ConnectionError::NotReconnected { .. }), "{ended:?}");
    let failed = CallError::Unanswered(RequestError::Disconnected(ended.clone()));
    assert_eq!(waiting.done().unwrap_err(), failed);
    match asking.done().unwrap_err() {
        error if error == failed => {}
        // It was asked when the end had come.
        CallError::Misuse(Misuse::Disconnected(error)) if error == ended => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_policy_is_closed_at_once_in_a_pause_between_two_tries(pair: Pair) {
    // Over sooner than the first pause, a thousand times.
    let pause = Duration::from_secs(3600);
    for drops in [false, true] {
        let served = pair.server.serve(Recorder::small());
        let reconnect = Reconnect { initial: pause, max: pause, ..quick() };
        let policy = connect(pair, &served.uri, reconnect);
        stop(served);
        wait_for_interruption(&policy);
        if drops {
            soon(|| drop(policy));
        } else {
            soon(|| policy.close());
            assert_eq!(wait_for_end(&policy), ConnectionError::ClosedLocally);
        }
    }
}

pub(crate) fn a_policy_is_closed_at_once_in_the_middle_of_a_handshake(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let connecting = aside(move || client.0.connect(&uri, with(quick())));
    let peer = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it was accepted");
    drop(peer);
    wait_for_interruption(&policy);
    let _silent = soon(|| server.socket());
    let start = Instant::now();
    soon(|| policy.close());
    assert!(start.elapsed() < Duration::from_secs(5), "a try takes 10 s");
    assert_eq!(wait_for_end(&policy), ConnectionError::ClosedLocally);
}

pub(crate) fn a_server_that_rejects_the_policy_ends_it(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let policy = connect(pair, &served.uri, quick());
    let address = stop(served);
    let accept = Accept::new(|_| Err(Rejection::new(401, "the token is another one now")));
    let settings = ServerSettings { accept, ..ServerSettings::default() };
    let _served = pair.server.serve_with_at(&address, Recorder::small(), settings);
    wait_for_interruption(&policy);
    match wait_for_end(&policy) {
        ConnectionError::NotReconnected { found, .. } => {
            assert!(found.contains("401") && found.contains("the token is another one"), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_robot_that_was_taken_over_is_not_taken_back(pair: Pair) {
    let settings = ServerSettings { take_over: true, ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let first = connect(pair, &served.uri, quick());
    let second = connect(pair, &served.uri, quick());
    match wait_for_end(&first) {
        ConnectionError::ClosedByPeer { code: Some(1013), .. } => {}
        other => panic!("{other:?}"),
    }
    std::thread::sleep(A_WHILE);
    soon(|| second.observe()).unwrap();
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 2);
    assert_eq!(second.stats().reconnects, 0);
}

pub(crate) fn a_stream_goes_on_after_a_loss_in_a_large_observation(pair: Pair) {
    // 17 MB.
    let served = pair.server.serve(Recorder::new(8, [480, 640]));
    let relay = SocketRelay::to(&served.uri);
    let policy = connect(pair, relay.uri(), quick());
    policy.start_obs_stream(hz(100.0)).unwrap();
    let whole = soon(|| policy.next_obs()).unwrap();
    relay.cut_after(9_000_000);
    let lost = wait_for_interruption(&policy);
    assert!(lost.is_lost(), "{lost:?}");
    wait_for_reconnection(&policy);
    let after = soon(|| policy.next_obs()).unwrap();
    assert_eq!(after.cameras, whole.cameras);
    assert_eq!(policy.stats().strays, 0);
}
