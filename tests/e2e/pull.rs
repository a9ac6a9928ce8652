//! Robots that pull their commands, with each adapter's server: when they are to hold still.

use std::net::SocketAddr;

use chiral_driver::{Command, Commands, Hold, ServerConfig};
use chiral_proto::sensors::Sensors;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{
    Action, ActionSpec, Arming, CameraConfig, Map, Observation, Rate, ResetResult, map,
};
use chiral_tests::{Opcode, Patience, Raw, SOON};

fn sensors() -> Sensors {
    Sensors::new([CameraConfig::new("wrist_cam", [2, 2, 3])], []).unwrap()
}

/// Runs a test with the commands of each adapter's server, all settings at their defaults.
fn for_each_adapter(test: impl Fn(&str, Commands, SocketAddr)) {
    for_each_adapter_with(&ServerConfig::default(), test);
}

fn for_each_adapter_with(config: &ServerConfig, test: impl Fn(&str, Commands, SocketAddr)) {
    let address_of = |uri: String| uri.trim_start_matches("ws://").parse().unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (commands, uri) = runtime.block_on(async {
        let config = config.clone();
        let server = chiral_tokio::PolicyServer::bind_with("127.0.0.1:0", config).await.unwrap();
        (server.pull(&sensors(), Map::new()).unwrap(), server.uri().unwrap())
    });
    test("tokio", commands, address_of(uri));

    let (commands, uri) = smol::block_on(async {
        let config = config.clone();
        let server = chiral_smol::PolicyServer::bind_with("127.0.0.1:0", config).await.unwrap();
        (server.pull(&sensors(), Map::new()).unwrap(), server.uri().unwrap())
    });
    test("smol", commands, address_of(uri));

    let server = chiral_blocking::PolicyServer::bind_with("127.0.0.1:0", config.clone()).unwrap();
    let commands = server.pull(&sensors(), Map::new()).unwrap();
    test("blocking", commands, address_of(server.uri().unwrap()));
}

/// The next command.
#[track_caller]
fn next(name: &str, commands: &mut Commands) -> Command {
    let mut patience = Patience::new(SOON);
    loop {
        if let Some(command) = commands.try_next() {
            return command;
        }
        assert!(!patience.is_over(), "{name}: no command for {SOON:?}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn send(raw: &mut Raw, message: &ClientMessage) {
    raw.send_message(Opcode::Binary, &message.encode().to_bytes());
}

fn act(raw: &mut Raw) {
    send(raw, &ClientMessage::ApplyAction(Action::from([0.5])));
}

#[test]
fn only_an_action_ends_a_hold() {
    for_each_adapter(|name, mut commands, address| {
        assert!(commands.must_hold(), "{name}");
        let mut first = Raw::complete_handshake(address);
        act(&mut first);
        assert!(matches!(next(name, &mut commands), Command::Action(_)), "{name}");
        assert!(!commands.must_hold(), "{name}");
        drop(first);
        let hold = next(name, &mut commands);
        assert!(matches!(hold, Command::Hold(Hold::Disconnected(_))), "{name}: {hold:?}");
        assert!(commands.must_hold(), "{name}");

        let mut second = Raw::complete_handshake(address);
        send(&mut second, &ClientMessage::Reset);
        let Command::Reset(reply) = next(name, &mut commands) else { panic!("{name}: no reset") };
        assert!(commands.must_hold(), "{name}: a reset is no action");
        commands.reply_reset(reply, ResetResult::default()).unwrap();
        assert!(commands.must_hold(), "{name}");
        act(&mut second);
        assert!(matches!(next(name, &mut commands), Command::Action(_)), "{name}");
        assert!(!commands.must_hold(), "{name}");
    });
}

#[test]
fn the_watchdog_is_on_by_default_and_armed_by_the_connection() {
    for_each_adapter(|name, mut commands, address| {
        let mut silent = Raw::complete_handshake(address);
        let hold = next(name, &mut commands);
        assert!(matches!(hold, Command::Hold(Hold::Watchdog { .. })), "{name}: {hold:?}");
        act(&mut silent);
        assert!(matches!(next(name, &mut commands), Command::Action(_)), "{name}");
        let hold = next(name, &mut commands);
        assert!(matches!(hold, Command::Hold(Hold::Watchdog { .. })), "{name}: {hold:?}");
        assert!(commands.must_hold(), "{name}");
    });
}

/// The server's answer.
#[track_caller]
fn answer(name: &str, raw: &mut Raw) -> ServerMessage {
    loop {
        let (opcode, bytes) = raw.frame().unwrap_or_else(|| panic!("{name}: no answer"));
        if opcode == Opcode::Binary {
            let frame = Frame::parse(bytes.into(), &Limits::default()).unwrap();
            return ServerMessage::decode(&frame, &Limits::default()).unwrap();
        }
    }
}

#[test]
fn a_loop_makes_its_observations_where_it_wants_to() {
    let config = ServerConfig { pull_observations: true, ..ServerConfig::default() };
    for_each_adapter_with(&config, |name, mut commands, address| {
        let mut policy = Raw::complete_handshake(address);
        send(&mut policy, &ClientMessage::Observe);
        let Command::Observe(reply) = next(name, &mut commands) else {
            panic!("{name}: it is not asked")
        };
        assert!(commands.must_hold(), "{name}: an observation is no action");
        let rendered = Observation { timestamp: 7.5, ..Observation::default() };
        commands.reply_observation(reply, rendered.clone()).unwrap();
        assert_eq!(answer(name, &mut policy), ServerMessage::Observation(rendered), "{name}");

        // Who only takes actions answers with the sensors.
        send(&mut policy, &ClientMessage::Observe);
        act(&mut policy);
        let mut patience = Patience::new(SOON);
        while commands.try_next_action().is_none() {
            assert!(!patience.is_over(), "{name}: no action for {SOON:?}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        while commands.try_next_action().is_some() {}
        let ServerMessage::Observation(observation) = answer(name, &mut policy) else {
            panic!("{name}: no observation")
        };
        assert_eq!(observation.cameras[0].name, "wrist_cam", "{name}");
    });
}

#[test]
fn a_loop_says_anew_what_its_robot_is() {
    for_each_adapter(|name, mut commands, address| {
        let ask = |policy: &mut Raw| {
            send(policy, &ClientMessage::Metadata);
            answer(name, policy)
        };
        let mut policy = Raw::complete_handshake(address);
        assert_eq!(ask(&mut policy), ServerMessage::Metadata(Map::new()), "{name}");
        // Before the loop has looked at the policy, and after.
        for calibrated in [false, true] {
            let metadata = map! { "robot" => "arm-3", "calibrated" => calibrated };
            commands.set_metadata(metadata.clone());
            assert_eq!(ask(&mut policy), ServerMessage::Metadata(metadata), "{name}");
            act(&mut policy);
            assert!(matches!(next(name, &mut commands), Command::Action(_)), "{name}");
        }
        drop(policy);
        while !matches!(next(name, &mut commands), Command::Hold(Hold::Disconnected(_))) {}
        let mut policy = Raw::complete_handshake(address);
        let metadata = map! { "robot" => "arm-3", "calibrated" => true };
        assert_eq!(ask(&mut policy), ServerMessage::Metadata(metadata), "{name}: the next policy");
    });
}

#[test]
fn a_loop_is_told_to_stop_and_arms_its_robot() {
    let mut config = ServerConfig::default();
    let rate = Rate::hz(100).unwrap();
    config.machine.action_spec =
        ActionSpec::vector(1).bounds(0.0, 1.0).rate(rate).stop_after(5).arming(Arming::Manual);
    for_each_adapter_with(&config, |name, mut commands, address| {
        assert!(!commands.arm(), "{name}: there is no policy");
        let mut policy = Raw::complete_handshake(address);
        act(&mut policy);
        let mut patience = Patience::new(SOON);
        while commands.stats().is_none_or(|stats| stats.contract.not_armed == 0) {
            assert!(commands.try_next().is_none(), "{name}: it is not armed");
            assert!(!patience.is_over(), "{name}");
        }
        assert!(commands.arm(), "{name}");
        send(&mut policy, &ClientMessage::ApplyAction(Action::from([1.5])));
        act(&mut policy);
        let Command::Action(action) = next(name, &mut commands) else { panic!("{name}") };
        assert_eq!(action.to_f32()[0].to_bits(), 0.5_f32.to_bits(), "{name}: what is in bounds");
        assert!(!commands.must_hold(), "{name}");

        // Then the policy says nothing.
        let mut hold = next(name, &mut commands);
        if matches!(hold, Command::Hold(Hold::Watchdog { .. })) {
            hold = next(name, &mut commands);
        }
        assert!(matches!(hold, Command::Hold(Hold::Stopped(_))), "{name}: {hold:?}");
        assert!(commands.must_hold(), "{name}");
        act(&mut policy);
        let mut patience = Patience::new(SOON);
        while commands.stats().is_some_and(|stats| stats.contract.not_armed == 1) {
            assert!(commands.try_next_action().is_none(), "{name}: it is stopped");
            assert!(!patience.is_over(), "{name}");
        }
        assert!(commands.arm(), "{name}");
        act(&mut policy);
        assert!(matches!(next(name, &mut commands), Command::Action(_)), "{name}");
        assert!(commands.stop_motion(), "{name}");
        while !matches!(next(name, &mut commands), Command::Hold(Hold::Stopped(_))) {}
    });
}
