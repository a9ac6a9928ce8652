//! The network breaks, at any moment: both sides are told, and the next connection is as good as
//! the first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::{CallError, ConnectError};
use chiral_proto::ConnectionError;
use chiral_proto::client::RequestError;
use chiral_proto::ws::Keepalive;
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{ClientSettings, Policy, ServerSettings};
use crate::network::Relay;
use crate::pair::{Pair, Served, action, hz};
use crate::relay::SocketRelay;
use crate::supervise::{ask, eventually, soon};

/// A robot and a policy with a relay between them.
struct Line {
    pair: Pair,
    served: Served,
    relay: Box<dyn Relay>,
    policy: Arc<dyn Policy>,
}

impl Line {
    fn new(pair: Pair, robot: Recorder) -> Self {
        let served = pair.server.serve(robot);
        let relay = served.relay();
        let policy = pair.client.connect(relay.uri());
        // The server is through with the handshake, too.
        soon(|| policy.metadata()).unwrap();
        Self { pair, served, relay, policy }
    }

    /// Asserts that both sides hear of the end, and that another policy can do everything.
    fn assert_both_sides_notice_and_can_reconnect(self) {
        let Self { pair, served, relay, policy } = self;
        eventually(|| policy.error().is_some());
        let error = policy.error().unwrap();
        assert!(error.is_lost(), "{error:?}");
        soon(|| policy.metadata()).unwrap_err();
        policy.send_action(action(0)).unwrap_err();
        served.robot.release_all();
        let reason = served.robot.wait_for_disconnects(1);
        assert!(reason.is_lost(), "{reason:?}");

        let applied = served.robot.applied().len();
        let next = pair.client.connect(relay.uri());
        soon(|| next.metadata()).unwrap();
        soon(|| next.reset()).unwrap();
        assert!(soon(|| next.observe()).unwrap().timestamp > 0.0);
        next.send_action(action(7)).unwrap();
        served.robot.wait_for_applied(applied + 1);
        soon(|| next.close());
        served.robot.wait_for_disconnects(2);
        assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 2);
    }
}

/// Asserts that a call fails because the connection was lost.
#[track_caller]
fn assert_lost<T>(answer: Result<T, CallError>) {
    match answer.map(drop).unwrap_err() {
        CallError::Unanswered(RequestError::Disconnected(lost)) if lost.is_lost() => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) fn connection_lost_during_the_handshake(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let relay = SocketRelay::to(&served.uri);
    // In the middle of the server's answer.
    relay.cut_after(40);
    let cut = pair.client.try_connect(relay.uri(), ClientSettings::default());
    match cut.map(drop).unwrap_err() {
        ConnectError::Handshake { .. } => {}
        other => panic!("{other:?}"),
    }
    // For the server that was a policy, and it has gone; or it did not even come.
    let policy = pair.client.connect(relay.uri());
    soon(|| policy.metadata()).unwrap();
}

pub(crate) fn connection_lost_before_the_handshake_response(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let relay = SocketRelay::to(&served.uri);
    // The first byte of the answer is lost with the connection: it may be a server that is going.
    relay.cut_after(0);
    let policy = pair.client.connect(relay.uri());
    soon(|| policy.metadata()).expect("it has tried again");
}

pub(crate) fn connection_lost_while_idle(pair: Pair) {
    let line = Line::new(pair, Recorder::small());
    line.relay.cut();
    line.assert_both_sides_notice_and_can_reconnect();
}

pub(crate) fn connection_lost_with_pending_requests(pair: Pair) {
    let line = Line::new(pair, Recorder::small().held(Work::Observe));
    let asking = [(); 3].map(|()| ask(&line.policy, |policy| policy.observe()));
    let waiting = ask(&line.policy, |policy| policy.next_obs());
    line.served.robot.wait_for_begun(Work::Observe, 1);
    eventually(|| line.policy.stats().frames_sent == 1 + 3);
    line.relay.cut();
    for asking in asking {
        assert_lost(asking.done());
    }
    assert_lost(waiting.done());
    line.assert_both_sides_notice_and_can_reconnect();
}

pub(crate) fn connection_lost_during_a_reset(pair: Pair) {
    let line = Line::new(pair, Recorder::small().held(Work::Reset));
    let resetting = ask(&line.policy, |policy| policy.reset());
    line.served.robot.wait_for_begun(Work::Reset, 1);
    line.relay.cut();
    assert_lost(resetting.done());
    line.assert_both_sides_notice_and_can_reconnect();
}

pub(crate) fn connection_lost_during_a_large_observation(pair: Pair) {
    let served = pair.server.serve(Recorder::large());
    let relay = SocketRelay::to(&served.uri);
    let policy = pair.client.connect(relay.uri());
    soon(|| policy.metadata()).unwrap();
    relay.cut_after(3_000_000);
    assert_lost(soon(|| policy.observe()));
    let line = Line { pair, served, relay: Box::new(relay), policy };
    line.assert_both_sides_notice_and_can_reconnect();
}

pub(crate) fn connection_lost_while_a_large_observation_is_stalled(pair: Pair) {
    let line = Line::new(pair, Recorder::large());
    line.relay.freeze_server();
    let asking = ask(&line.policy, |policy| policy.observe());
    eventually(|| line.served.server.stats().is_some_and(|stats| stats.observations.count() == 1));
    line.relay.cut();
    assert_lost(asking.done());
    line.assert_both_sides_notice_and_can_reconnect();
}

pub(crate) fn connection_lost_while_streaming_and_dispatching(pair: Pair) {
    let line = Line::new(pair, Recorder::small());
    line.policy.start_obs_stream(hz(500.0)).unwrap();
    line.policy.start_action_dispatch(hz(500.0)).unwrap();
    let first = soon(|| line.policy.next_obs()).unwrap();
    line.policy.put_chunk(&first, (0..1000).map(action).collect()).unwrap();
    line.served.robot.wait_for_applied(5);
    line.relay.cut();
    let error = soon(|| {
        loop {
            if let Err(error) = line.policy.next_obs() {
                break error;
            }
        }
    });
    assert_lost(Err::<(), _>(error));
    line.assert_both_sides_notice_and_can_reconnect();
}

/// Short enough to wait for, and long enough for a busy machine to answer in time.
const QUICK: Keepalive =
    Keepalive { interval: Duration::from_millis(20), timeout: Duration::from_millis(300) };

pub(crate) fn a_silent_connection_times_out_on_both_sides(pair: Pair) {
    let settings = ServerSettings { keepalive: Some(QUICK), ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let relay = SocketRelay::to(&served.uri);
    let settings = ClientSettings { keepalive: Some(QUICK), ..ClientSettings::default() };
    let policy = pair.client.try_connect(relay.uri(), settings).unwrap();
    soon(|| policy.metadata()).unwrap();
    let start = Instant::now();
    relay.freeze();
    let waiting = soon(|| policy.observe());
    let reason = served.robot.wait_for_disconnects(1);
    assert!(matches!(reason, ConnectionError::Unresponsive { .. }), "{reason:?}");
    match waiting.unwrap_err() {
        CallError::Unanswered(RequestError::Disconnected(ConnectionError::Unresponsive {
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
    // Pings come at an interval, so that the first that was lost may have left at once.
    assert!(start.elapsed() >= QUICK.timeout, "{:?}", start.elapsed());
    relay.thaw();
    let next = pair.client.connect(&served.uri);
    soon(|| next.metadata()).unwrap();
}

pub(crate) fn a_busy_peer_that_answers_pings_is_kept(pair: Pair) {
    let settings = ServerSettings { keepalive: Some(QUICK), ..ServerSettings::default() };
    let robot = Recorder::small().blocking().held(Work::Observe);
    let served = pair.server.serve_with(robot, settings);
    let settings = ClientSettings { keepalive: Some(QUICK), ..ClientSettings::default() };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::Observe, 1);
    std::thread::sleep(QUICK.interval + QUICK.timeout + QUICK.interval);
    assert_eq!(policy.error(), None);
    served.robot.release(Work::Observe);
    asking.done().unwrap();
}
