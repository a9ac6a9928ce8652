//! Only a living policy is obeyed: what becomes of actions that are late, stale, too many or not
//! what the robot accepts.

use std::time::Duration;

use chiral_driver::CallError;
use chiral_driver::monotonic_seconds;
use chiral_proto::client::{self, RequestError};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{ActionQueue, DropReason};
use chiral_proto::wire::ClientMessage;
use chiral_proto::{Action, ActionSpec, Array, CameraConfig};
use chiral_tests::{Entry, Opcode, Raw, RawServer, Recorder, Work, message};

use crate::adapter::{ClientSettings, ServerSettings};
use crate::network::address_of;
use crate::pair::{Client, Pair, Server, action, hz, values};
use crate::supervise::{A_WHILE, aside, ask, eventually, soon};

/// An action as a WebSocket message of a client.
fn message_of(action: Action) -> Vec<u8> {
    message(Opcode::Binary, &ClientMessage::ApplyAction(action).encode().to_bytes(), true)
}

/// Numbered actions, one message behind the other.
fn messages_of(numbers: std::ops::Range<u16>) -> Vec<u8> {
    numbers.flat_map(|number| message_of(action(number))).collect()
}

/// Ends a connection as a process does that is killed with unread data: by a reset.
fn reset(raw: Raw) {
    #[cfg(unix)]
    rustix::net::sockopt::set_socket_linger(&raw.socket, Some(Duration::ZERO)).unwrap();
    drop(raw);
}

/// Ends a connection as a process does that ends.
fn hang_up(raw: Raw) {
    drop(raw);
}

/// A robot that is called by its connection, and one that blocks threads of its own.
fn robots() -> [Recorder; 2] {
    [Recorder::small(), Recorder::small().blocking()]
}

fn settings(action_queue: ActionQueue) -> ServerSettings {
    let mut settings = ServerSettings::default();
    settings.machine.action_queue = action_queue;
    settings
}

pub(crate) fn pending_actions_are_dropped_when_the_policy_is_killed(adapter: Server) {
    const SENT: u16 = 1000;
    let queues = [
        ActionQueue::Latest,
        ActionQueue::InOrder { capacity: 4096 },
        ActionQueue::InOrder { capacity: 1 },
    ];
    for queue in queues {
        for (robot, kill) in robots().into_iter().zip([reset as fn(Raw), hang_up]) {
            let served = adapter.serve_with(robot.held(Work::Apply), settings(queue));
            let mut raw = Raw::complete_handshake(address_of(&served.uri));
            raw.send(&messages_of(0..SENT));
            served.robot.wait_for_begun(Work::Apply, 1);
            eventually(|| served.frames_received() == u64::from(SENT));
            kill(raw);
            // The end is noticed while the robot is still at its first action.
            eventually(|| {
                let stats = served.server.stats();
                stats.is_some_and(|stats| stats.actions_dropped.disconnected > 0)
            });
            served.robot.release(Work::Apply);
            served.robot.wait_for_disconnects(1);
            let history = served.robot.history();
            assert!(
                matches!(
                    history[..],
                    [Entry::Connected, Entry::Applied(_), Entry::Disconnected(_)]
                ),
                "{queue:?}: {history:?}"
            );
        }
    }
}

pub(crate) fn an_ordered_queue_holds_a_fast_policy_up_and_loses_no_action(adapter: Server) {
    const SENT: u16 = 2000;
    let mut settings = settings(ActionQueue::InOrder { capacity: 1 });
    settings.machine.queue_bytes = 8 << 10;
    settings.machine.limits.frame_len = 1 << 10;
    for robot in robots() {
        let served = adapter.serve_with(robot.held(Work::Apply), settings.clone());
        let mut raw = Raw::complete_handshake(address_of(&served.uri));
        raw.send(&messages_of(0..SENT));
        raw.send_message(Opcode::Ping, b"behind the actions");
        served.robot.wait_for_begun(Work::Apply, 1);
        std::thread::sleep(A_WHILE);
        let received = served.frames_received();
        assert!(received < 200, "{received} actions were taken from the transport");
        served.robot.release(Work::Apply);
        served.robot.wait_for_applied(usize::from(SENT));
        let expected: Vec<f32> = (0..SENT).map(f32::from).collect();
        assert_eq!(values(&served.robot.applied()), expected);
        assert_eq!(raw.frame(), Some((Opcode::Pong, b"behind the actions".to_vec())));
    }
}

pub(crate) fn a_held_up_policy_that_goes_ends_the_connection(adapter: Server) {
    let mut settings = settings(ActionQueue::InOrder { capacity: 1 });
    settings.machine.queue_bytes = 8 << 10;
    settings.machine.limits.frame_len = 1 << 10;
    for (robot, end) in robots().into_iter().zip([reset as fn(Raw), hang_up]) {
        let served = adapter.serve_with(robot.held(Work::Apply), settings.clone());
        let mut raw = Raw::complete_handshake(address_of(&served.uri));
        raw.send(&messages_of(0..500));
        served.robot.wait_for_begun(Work::Apply, 1);
        end(raw);
        served.robot.release(Work::Apply);
        served.robot.wait_for_disconnects(1);
        let next = Raw::complete_handshake(address_of(&served.uri));
        drop(next);
    }
}

pub(crate) fn a_slow_robot_applies_the_newest_action_and_is_told_of_the_others(adapter: Server) {
    for robot in robots() {
        let robot = robot.held(Work::Apply);
        let served = adapter.serve_with(robot, settings(ActionQueue::Latest));
        let mut raw = Raw::complete_handshake(address_of(&served.uri));
        raw.send(&messages_of(0..1));
        served.robot.wait_for_begun(Work::Apply, 1);
        raw.send(&messages_of(1..101));
        eventually(|| served.frames_received() == 101);
        served.robot.release(Work::Apply);
        served.robot.until(1, |entry| matches!(entry, Entry::ActionsDropped(..)));
        served.robot.wait_for_applied(2);
        assert_eq!(values(&served.robot.applied()), [0.0, 100.0]);
        let dropped = Entry::ActionsDropped(99, DropReason::Superseded);
        assert_eq!(served.robot.count(|entry| *entry == dropped), 1);
        assert_eq!(served.server.stats().unwrap().actions_dropped.superseded, 99);
    }
}

pub(crate) fn actions_decided_on_old_observations_are_dropped(pair: Pair) {
    const MAX_AGE: Duration = Duration::from_millis(400);
    const STALLED: u16 = 20;
    let camera = CameraConfig::new("wrist_cam", [2, 2, 3]);
    let sensors = Sensors::with_clock([camera], [], monotonic_seconds).unwrap();
    let mut settings = ServerSettings::default();
    settings.machine.max_obs_age = Some(MAX_AGE);
    let served = pair.server.serve_with(Recorder::of(sensors), settings);
    let relay = served.relay();
    let policy = pair.client.connect(relay.uri());
    let look = || {
        served.robot.sensors().update_image("wrist_cam", &[0_u8; 12]).unwrap();
        soon(|| policy.observe()).unwrap();
    };
    // In time, however busy the machine.
    eventually(|| {
        look();
        policy.send_action(action(0)).unwrap();
        !served.robot.applied().is_empty()
    });
    look();
    relay.freeze();
    let before = served.frames_received();
    for number in 1..=STALLED {
        policy.send_action(action(number)).unwrap();
    }
    std::thread::sleep(MAX_AGE);
    assert_eq!(served.frames_received(), before);
    relay.thaw();
    eventually(|| {
        let dropped = served.server.stats().unwrap().actions_dropped;
        dropped.stale_observation >= u64::from(STALLED)
    });
    eventually(|| {
        look();
        policy.send_action(action(STALLED + 1)).unwrap();
        values(&served.robot.applied()).contains(&f32::from(STALLED + 1))
    });
    let applied = values(&served.robot.applied());
    let late = applied.iter().filter(|value| (1.0..=f32::from(STALLED)).contains(*value)).count();
    assert_eq!(late, 0, "{applied:?}");
    assert!(
        served.robot.count(|entry| matches!(
            entry,
            Entry::ActionsDropped(_, DropReason::StaleObservation { .. })
        )) > 0
    );
}

pub(crate) fn a_frozen_camera_shows_in_the_statistics_of_both_sides(pair: Pair) {
    let cameras = ["dead", "alive"].map(|name| CameraConfig::new(name, [2, 2, 3]));
    let sensors = Sensors::with_clock(cameras, [], monotonic_seconds).unwrap();
    let (served, policy) = pair.meet(Recorder::of(sensors));
    let sensors = served.robot.sensors();
    sensors.update_image("dead", &[0_u8; 12]).unwrap();
    for _ in 0..5 {
        sensors.update_image("alive", &[0_u8; 12]).unwrap();
        soon(|| policy.observe()).unwrap();
        std::thread::sleep(A_WHILE);
    }
    let [dead, alive] = &served.server.stats().unwrap().cameras[..] else { panic!("two") };
    assert!(dead.age.unwrap() > alive.age.unwrap() && dead.repeated == 4 && alive.repeated == 0);
    let [dead, alive] = &policy.stats().cameras[..] else { panic!("two") };
    assert_eq!((dead.frames, alive.frames), (1, 5));
    assert!(dead.unchanged_for >= A_WHILE && dead.unchanged_for > alive.unchanged_for);
}

/// Linux keeps megabytes of what the network does not take; of a policy, as good as nothing.
#[cfg(target_os = "linux")]
pub(crate) fn actions_expire_while_the_network_is_stalled(client: Client) {
    const RATE: f64 = 250.0;
    let server = RawServer::new();
    // So that what waits does so at the client's end.
    rustix::net::sockopt::set_socket_recv_buffer_size(server.listener(), 4096).unwrap();
    let uri = server.uri();
    let max_age = Some(Duration::from_millis(50));
    // Without numbers, by which the frames of two same actions differ.
    let machine = client::Config { max_age, timing: false, ..Default::default() };
    let settings = ClientSettings { machine, ..ClientSettings::default() };
    let connecting = aside(move || client.0.connect(&uri, settings));
    let mut raw = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it is taken");
    let wide = |number: f32| {
        let mut values = vec![0.0; 500];
        values[0] = number;
        Action::from(values)
    };
    let mut number = 0.0;
    let sending = move || {
        number += 1.0;
        wide(number)
    };
    let end = std::time::Instant::now() + Duration::from_millis(600);
    soon(|| policy.send_actions(hz(RATE), end, Box::new(sending))).unwrap();
    let stats = policy.stats();
    assert!(stats.actions_expired > 20, "{stats}");
    // Up to the one that follows, all that was under way.
    let marker = action(7);
    let expected = ClientMessage::ApplyAction(marker.clone()).encode().to_bytes();
    let mut late = 0;
    let sent = aside(move || {
        while policy.send_action(marker.clone()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        policy
    });
    while soon(|| raw.frame()).expect("the connection is up").1 != expected {
        late += 1;
    }
    // A receive buffer of two or three of them, what is being sent, and one that is stamped.
    assert!(late < 20, "{late} actions of {stats} came late");
    drop(raw);
    drop(sent.done());
}

pub(crate) fn a_silent_server_is_noticed_and_calls_fail_by_their_deadline(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let machine = client::Config {
        silence: Some(Duration::from_millis(30)),
        request_timeout: Some(Duration::from_millis(100)),
        ..Default::default()
    };
    let settings = ClientSettings { machine, ..ClientSettings::default() };
    let connecting = aside(move || client.0.connect(&uri, settings));
    let mut raw = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it is taken");
    assert!(!policy.is_silent(), "nothing is waited for");
    let error = soon(|| policy.metadata()).unwrap_err();
    assert!(matches!(error, CallError::Unanswered(RequestError::TimedOut { .. })), "{error:?}");
    assert_eq!(policy.stats().silences, 1);
    let asking = ask(&policy, |policy| policy.metadata().unwrap_err());
    eventually(|| policy.is_silent());
    raw.send_message(Opcode::Ping, b"");
    eventually(|| !policy.is_silent());
    asking.done();
    assert_eq!(policy.error(), None);
    drop(raw);
}

pub(crate) fn a_policy_on_a_frozen_link_loses_the_robot_to_the_next(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let mut frozen = Raw::complete_handshake(address_of(&served.uri));
    frozen.send(&message_of(action(1)));
    served.robot.wait_for_applied(1);
    // It sends nothing, and answers no ping. Its keepalive would take 40 s.
    let mut next = Raw::complete_handshake(address_of(&served.uri));
    next.send(&message_of(action(2)));
    served.robot.wait_for_applied(2);
    let history = served.robot.history();
    assert!(
        matches!(
            &history[..],
            [
                Entry::Connected,
                Entry::Applied(_),
                Entry::Disconnected(_),
                Entry::Connected,
                Entry::Applied(_)
            ]
        ),
        "{history:?}"
    );
}

pub(crate) fn actions_that_do_not_fit_never_reach_the_robot(adapter: Server) {
    let numbers = |values: &[f32]| Action::from(values.to_vec());
    let mut bad = vec![
        numbers(&[0.0; 6]),
        numbers(&[0.0; 8]),
        numbers(&[]),
        numbers(&[0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0]),
        numbers(&[f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        numbers(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::NEG_INFINITY]),
        Array::from_slice([7, 1], &[0_f32; 7]).unwrap().into(),
        Array::from_slice([2000, 7], &[0_f32; 14_000]).unwrap().into(),
    ];
    let good = numbers(&[0.5; 7]);
    let mut settings = ServerSettings::default();
    settings.machine.action_spec = ActionSpec::vector(7);
    let served = adapter.serve_with(Recorder::small(), settings);
    let mut raw = Raw::complete_handshake(address_of(&served.uri));
    let count = bad.len() as u64;
    bad.push(good.clone());
    bad.into_iter().for_each(|action| raw.send(&message_of(action)));
    served.robot.wait_for_applied(1);
    let [applied] = &served.robot.applied()[..] else { panic!("one fits") };
    assert_eq!(applied.values, good.values);
    assert_eq!(served.server.stats().unwrap().actions_dropped.refused, count);

    // Without any declaration, what no robot can mean.
    let served = adapter.serve(Recorder::small());
    let mut raw = Raw::complete_handshake(address_of(&served.uri));
    for bad in [numbers(&[]), numbers(&[f32::NAN]), numbers(&[f32::INFINITY])] {
        raw.send(&message_of(bad));
    }
    raw.send(&message_of(action(1)));
    served.robot.wait_for_applied(1);
    assert_eq!(values(&served.robot.applied()), [1.0]);
}

pub(crate) fn a_slow_late_observation_delays_no_action(pair: Pair) {
    let robot = Recorder::small().blocking().late_observations().held(Work::ObserveLate);
    let (served, policy) = pair.meet(robot);
    let asking = ask(&policy, |policy| policy.observe());
    served.robot.wait_for_begun(Work::ObserveLate, 1);
    for number in 1..=20 {
        policy.send_action(action(number)).unwrap();
        served.robot.wait_for_applied(usize::from(number));
    }
    assert!(!asking.is_done());
    served.robot.release(Work::ObserveLate);
    asking.done().unwrap();
}
