//! Who comes when: a second policy, a policy before its robot, and one after the other.

use std::time::Duration;

use chiral_proto::ConnectionError;
use chiral_tests::{Entry, Recorder, Work};

use crate::adapter::{ClientSettings, ServerSettings};
use crate::pair::{Pair, action, hz};
use crate::supervise::{aside, ask, eventually, soon};

pub(crate) fn a_second_policy_is_refused_and_the_first_continues(pair: Pair) {
    let (served, first) = pair.meet(Recorder::small());
    first.start_obs_stream(hz(200.0)).unwrap();
    soon(|| first.next_obs()).unwrap();

    let before = first.stats().observations.count();
    let connect_timeout = Some(Duration::from_secs(3));
    let settings = ClientSettings { connect_timeout, ..ClientSettings::default() };
    let error = pair.client.try_connect(&served.uri, settings).map(drop).unwrap_err();
    assert!(pair.client.0.is_refusal(&error), "{error}");
    eventually(|| first.stats().observations.count() >= before + 5);
    assert_eq!(first.error(), None);
    assert_eq!(served.robot.history(), [Entry::Connected]);

    soon(|| drop(first));
    let second = pair.client.connect(&served.uri);
    soon(|| second.metadata()).unwrap();
}

pub(crate) fn a_policy_waits_for_its_turn(pair: Pair) {
    let (served, first) = pair.meet(Recorder::small());
    soon(|| first.metadata()).unwrap();
    let (client, uri) = (pair.client, served.uri.clone());
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    // Longer than one refusal takes.
    std::thread::sleep(Duration::from_millis(600));
    assert!(!connecting.is_done());
    assert_eq!(first.error(), None);
    soon(|| first.close());
    let second = connecting.done().expect("it is its turn");
    soon(|| second.metadata()).unwrap();
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 2);
}

pub(crate) fn the_newest_policy_takes_the_robot_over(pair: Pair) {
    let settings = ServerSettings { take_over: true, ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let mut before = pair.client.connect(&served.uri);
    for _ in 0..3 {
        soon(|| before.metadata()).unwrap();
        let next = pair.client.connect(&served.uri);
        soon(|| next.metadata()).unwrap();
        eventually(|| before.error().is_some());
        let error = before.error().unwrap();
        let text = "another policy has taken the robot over";
        assert!(
            matches!(&error, ConnectionError::ClosedByPeer { code: Some(1013), reason } if reason == text),
            "{error:?}"
        );
        before = next;
    }
    served.robot.wait_for_disconnects(3);
    for visit in served.robot.history().chunks(2) {
        let over = Entry::Disconnected(ConnectionError::TakenOver);
        assert!(visit == [Entry::Connected] || visit == [Entry::Connected, over], "{visit:?}");
    }
    soon(|| before.observe()).unwrap();
}

pub(crate) fn a_policy_is_admitted_as_soon_as_the_previous_one_leaves(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    for round in 0..6 {
        let policy = pair.client.connect(&served.uri);
        soon(|| policy.metadata()).unwrap();
        if round % 2 == 0 {
            soon(|| policy.close());
        }
        // Without a second try, while the one before is just going.
        soon(|| drop(policy));
    }
    served.robot.wait_for_disconnects(6);
    let history = served.robot.history();
    for visit in history.chunks(2) {
        assert_eq!(visit[0], Entry::Connected, "{history:?}");
        let by_peer = |code| matches!(code, ConnectionError::ClosedByPeer { code: Some(1000), .. });
        assert!(
            matches!(&visit[1], Entry::Disconnected(end) if by_peer(end.clone())),
            "{history:?}"
        );
    }
}

pub(crate) fn a_policy_waits_for_a_robot_that_is_not_up_yet(pair: Pair) {
    let address = pair.server.network.unused_address();
    let client = pair.client;
    let uri = client.0.uri(&address);
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!connecting.is_done());
    let served = pair.server.serve_at(&address, Recorder::small());
    let policy = connecting.done().expect("it was waited for");
    soon(|| policy.metadata()).unwrap();
    assert_eq!(served.robot.history(), [Entry::Connected]);
}

pub(crate) fn a_reset_queued_before_disconnect_is_not_executed(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small().held(Work::Apply));
    let before = served.frames_received();
    policy.send_action(action(1)).unwrap();
    served.robot.wait_for_begun(Work::Apply, 1);
    let resetting = ask(&policy, |policy| policy.reset());
    eventually(|| served.frames_received() == before + 2);
    soon(|| policy.close());
    resetting.done().unwrap_err();
    served.robot.release(Work::Apply);
    served.robot.wait_for_disconnects(1);
    soon(|| served.server.shut_down());
    let history = served.robot.history();
    assert!(matches!(history[..], [_, Entry::Applied(_), Entry::Disconnected(_)]), "{history:?}");
}

pub(crate) fn a_policy_over_the_server_limits_is_told_why(pair: Pair) {
    let mut settings = ServerSettings::default();
    settings.machine.limits.frame_len = 1000;
    settings.machine.pending_replies = 3;
    let served = pair.server.serve_with(Recorder::small().held(Work::Observe), settings);

    let long = pair.client.connect(&served.uri);
    long.send_action([0.0; 200].into()).unwrap();
    served.robot.wait_for_applied(1);
    long.send_action([0.0; 400].into()).unwrap();
    let error = soon(|| long.metadata()).unwrap_err().to_string();
    assert!(error.contains("(code 1009): "), "{error}");
    assert!(error.contains("at most 1000"), "{error}");
    served.robot.wait_for_disconnects(1);

    let curious = pair.client.connect(&served.uri);
    let asking: Vec<_> = (0..4).map(|_| ask(&curious, |policy| policy.observe())).collect();
    eventually(|| curious.error().is_some());
    served.robot.release(Work::Observe);
    for asking in asking {
        let error = asking.done().unwrap_err().to_string();
        assert!(error.contains("(code 1008): the client has 3 requests unanswered"), "{error}");
    }
    served.robot.wait_for_disconnects(2);
}
