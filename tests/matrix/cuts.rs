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
use crate::cable::Cable;
use crate::pair::{Pair, Served, action, hz};
use crate::supervise::{ask, eventually, soon};

/// A robot and a policy with a cable between them.
struct Line {
    pair: Pair,
    served: Served,
    cable: Cable,
    policy: Arc<dyn Policy>,
}

impl Line {
    fn new(pair: Pair, robot: Recorder) -> Self {
        let served = pair.server.serve(robot);
        let cable = Cable::to(&served.uri);
        let policy = pair.client.connect(cable.uri());
        // The server is through with the handshake, too.
        soon(|| policy.metadata()).unwrap();
        Self { pair, served, cable, policy }
    }

    /// Asserts that both sides hear of the end, and that another policy can do everything.
    fn hear_and_mend(self) {
        let Self { pair, served, cable, policy } = self;
        eventually(|| policy.error().is_some());
        let error = policy.error().unwrap();
        assert!(error.is_lost(), "{error:?}");
        soon(|| policy.metadata()).unwrap_err();
        policy.send_action(action(0)).unwrap_err();
        served.robot.release_all();
        let reason = served.robot.until_gone(1);
        assert!(reason.is_lost(), "{reason:?}");

        let applied = served.robot.applied().len();
        let next = pair.client.connect(cable.uri());
        soon(|| next.metadata()).unwrap();
        soon(|| next.reset()).unwrap();
        assert!(soon(|| next.observe()).unwrap().timestamp > 0.0);
        next.send_action(action(7)).unwrap();
        served.robot.until_applied(applied + 1);
        soon(|| next.close());
        served.robot.until_gone(2);
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

pub(crate) fn while_the_opening_handshake_is_under_way(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let cable = Cable::to(&served.uri);
    // In the middle of the server's answer.
    cable.cut_behind(40);
    let cut = pair.client.try_connect(cable.uri(), ClientSettings::default());
    match cut.map(drop).unwrap_err() {
        ConnectError::Handshake { .. } => {}
        other => panic!("{other:?}"),
    }
    // For the server that was a policy, and it has gone; or it did not even come.
    let policy = pair.client.connect(cable.uri());
    soon(|| policy.metadata()).unwrap();
}

pub(crate) fn before_the_handshake_is_answered(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let cable = Cable::to(&served.uri);
    // The first byte of the answer is lost with the connection: it may be a server that is going.
    cable.cut_behind(0);
    let policy = pair.client.connect(cable.uri());
    soon(|| policy.metadata()).expect("it has tried again");
}

pub(crate) fn while_nothing_happens(pair: Pair) {
    let line = Line::new(pair, Recorder::small());
    line.cable.cut();
    line.hear_and_mend();
}

pub(crate) fn while_requests_wait(pair: Pair) {
    let line = Line::new(pair, Recorder::small().held(Work::Observe));
    let asking = [(); 3].map(|()| ask(&line.policy, |policy| policy.observe()));
    let waiting = ask(&line.policy, |policy| policy.next_obs());
    line.served.robot.until_begun(Work::Observe, 1);
    eventually(|| line.policy.stats().frames_sent == 1 + 3);
    line.cable.cut();
    for asking in asking {
        assert_lost(asking.done());
    }
    assert_lost(waiting.done());
    line.hear_and_mend();
}

pub(crate) fn while_the_robot_resets(pair: Pair) {
    let line = Line::new(pair, Recorder::small().held(Work::Reset));
    let resetting = ask(&line.policy, |policy| policy.reset());
    line.served.robot.until_begun(Work::Reset, 1);
    line.cable.cut();
    assert_lost(resetting.done());
    line.hear_and_mend();
}

pub(crate) fn in_the_middle_of_a_large_observation(pair: Pair) {
    let line = Line::new(pair, Recorder::large());
    line.cable.cut_behind(3_000_000);
    assert_lost(soon(|| line.policy.observe()));
    line.hear_and_mend();
}

pub(crate) fn while_a_large_observation_is_stuck_on_its_way(pair: Pair) {
    let line = Line::new(pair, Recorder::large());
    line.cable.hold_back_server();
    let asking = ask(&line.policy, |policy| policy.observe());
    eventually(|| line.served.server.stats().is_some_and(|stats| stats.observations.count() == 1));
    line.cable.cut();
    assert_lost(asking.done());
    line.hear_and_mend();
}

pub(crate) fn while_observations_stream_and_actions_are_dispatched(pair: Pair) {
    let line = Line::new(pair, Recorder::small());
    line.policy.start_obs_stream(hz(500.0)).unwrap();
    line.policy.start_action_dispatch(hz(500.0)).unwrap();
    let first = soon(|| line.policy.next_obs()).unwrap();
    line.policy.put_chunk(&first, (0..1000).map(action).collect()).unwrap();
    line.served.robot.until_applied(5);
    line.cable.cut();
    let error = soon(|| {
        loop {
            if let Err(error) = line.policy.next_obs() {
                break error;
            }
        }
    });
    assert_lost(Err::<(), _>(error));
    line.hear_and_mend();
}

/// Short enough to wait for, and long enough for a busy machine to answer in time.
const QUICK: Keepalive =
    Keepalive { interval: Duration::from_millis(20), timeout: Duration::from_millis(300) };

pub(crate) fn a_silent_line_is_given_up_by_both(pair: Pair) {
    let settings = ServerSettings { keepalive: Some(QUICK), ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let cable = Cable::to(&served.uri);
    let settings = ClientSettings { keepalive: Some(QUICK), ..ClientSettings::default() };
    let policy = pair.client.try_connect(cable.uri(), settings).unwrap();
    soon(|| policy.metadata()).unwrap();
    let start = Instant::now();
    cable.freeze();
    let waiting = soon(|| policy.observe());
    let reason = served.robot.until_gone(1);
    assert!(matches!(reason, ConnectionError::Unresponsive { .. }), "{reason:?}");
    match waiting.unwrap_err() {
        CallError::Unanswered(RequestError::Disconnected(ConnectionError::Unresponsive {
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
    // Pings come at an interval, so that the first that was lost may have left at once.
    assert!(start.elapsed() >= QUICK.timeout, "{:?}", start.elapsed());
    cable.thaw();
    let next = pair.client.connect(&served.uri);
    soon(|| next.metadata()).unwrap();
}

pub(crate) fn whoever_answers_pings_may_be_busy(pair: Pair) {
    let settings = ServerSettings { keepalive: Some(QUICK), ..ServerSettings::default() };
    let robot = Recorder::small().blocking().held(Work::Observe);
    let served = pair.server.serve_with(robot, settings);
    let settings = ClientSettings { keepalive: Some(QUICK), ..ClientSettings::default() };
    let policy = pair.client.try_connect(&served.uri, settings).unwrap();
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.until_begun(Work::Observe, 1);
    std::thread::sleep(QUICK.interval + QUICK.timeout + QUICK.interval);
    assert_eq!(policy.error(), None);
    served.robot.release(Work::Observe);
    asking.done().unwrap();
}
