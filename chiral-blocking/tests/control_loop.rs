//! A robot that pulls its commands, and threads that come to their end.

use std::time::{Duration, Instant};

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::server::{ActionQueue, Config};
use chiral_blocking::proto::{
    Action, CameraConfig, ConnectionError, Map, Observation, ProprioConfig, ResetResult, StepResult,
};
use chiral_blocking::{
    Command, Commands, Hold, PolicyClient, PolicyServer, Robot, RobotError, ServerConfig,
};

/// How long something may take that happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(10);

fn sensors() -> Sensors {
    let camera = CameraConfig::new("cam", [4, 6, 3]).depth([4, 6]);
    Sensors::new([camera], [ProprioConfig::new("joints", 2)]).expect("the sizes fit")
}

struct Loop {
    server: PolicyServer,
    commands: Commands,
    uri: String,
}

fn start(config: ServerConfig) -> Loop {
    let server = PolicyServer::bind_with("127.0.0.1:0", config).expect("loopback");
    let commands = server.pull(&sensors(), Map::new().with("robot", "puller")).expect("it listens");
    let uri = format!("ws://{}", server.local_addr().expect("it is bound"));
    Loop { server, commands, uri }
}

/// Asks again and again until there is an answer.
#[track_caller]
fn soon<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < SOON, "still waiting after {SOON:?}");
        std::thread::yield_now();
    }
}

#[test]
fn actions_arrive_in_order_and_the_robot_holds_after_the_policy_disconnects() {
    let mut config = ServerConfig::default();
    config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
    let Loop { mut commands, uri, .. } = start(config);
    assert!(commands.must_hold() && !commands.is_connected());
    let policy = PolicyClient::connect(&uri).unwrap();
    for n in 0..20_u8 {
        policy.send_action([f32::from(n)]).unwrap();
    }
    for n in 0..20_u8 {
        assert_eq!(*soon(|| commands.try_next_action()).to_f32(), [f32::from(n)]);
        assert!(!commands.must_hold() && commands.is_connected());
    }
    assert_eq!(commands.stats().expect("there is a policy").actions.count(), 20);
    drop(policy);
    assert_eq!(soon(|| commands.must_hold().then_some(commands.try_next_action())), None);
}

#[test]
fn observations_and_metadata_are_answered_without_the_control_loop() {
    let Loop { commands, uri, .. } = start(ServerConfig::default());
    let policy = PolicyClient::connect(&uri).unwrap();
    assert_eq!(policy.metadata().unwrap().get("robot"), Some("puller".into()));
    for _ in 0..3 {
        let observation = policy.observe().unwrap();
        assert_eq!((observation.cameras.len(), observation.proprios.len()), (1, 1));
    }
    drop(commands);
}

#[test]
fn watchdog_and_disconnect_are_delivered_as_commands() {
    let machine = Config { watchdog: Some(Duration::from_millis(20)), ..Config::default() };
    let config = ServerConfig { machine, ..ServerConfig::default() };
    let Loop { mut commands, uri, .. } = start(config);
    let policy = PolicyClient::connect(&uri).unwrap();
    policy.send_action([1.0]).unwrap();
    assert!(matches!(soon(|| commands.try_next()), Command::Action(_)));
    match soon(|| commands.try_next()) {
        Command::Hold(Hold::Watchdog { silent_for }) => {
            assert!(silent_for >= Duration::from_millis(20));
        }
        other => panic!("{other:?}"),
    }
    assert!(commands.must_hold());
    policy.close();
    match soon(|| commands.try_next()) {
        Command::Hold(Hold::Disconnected(ConnectionError::ClosedByPeer { code, .. })) => {
            assert_eq!(code, Some(1000));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_loop_answers_resets_and_steps_in_order() {
    let Loop { mut commands, uri, .. } = start(ServerConfig::default());
    let policy = PolicyClient::connect(&uri).unwrap();
    let observation = |timestamp| Observation { timestamp, ..Observation::default() };
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            policy.send_action([1.0]).unwrap();
            let reset = policy.reset().unwrap();
            policy.send_action([2.0]).unwrap();
            let step = policy.step(Action::from([3.0])).unwrap();
            (reset, step)
        });
        assert!(matches!(soon(|| commands.try_next()), Command::Action(a) if *a.to_f32() == [1.0]));
        let Command::Reset(reply) = soon(|| commands.try_next()) else { panic!("a reset is next") };
        let result = ResetResult { observation: observation(7.0), info: Map::new().with("a", 1) };
        commands.reply_reset(reply, result.clone()).unwrap();
        assert!(matches!(soon(|| commands.try_next()), Command::Action(a) if *a.to_f32() == [2.0]));
        let Command::Step(action, reply) = soon(|| commands.try_next()) else {
            panic!("a step is next")
        };
        assert_eq!(*action.to_f32(), [3.0]);
        let done =
            StepResult { observation: observation(8.0), reward: 0.5, ..StepResult::default() };
        commands.reply_step(reply, done.clone()).unwrap();
        let (mut reset, mut stepped) = asking.join().unwrap();
        // The robot's machine tells of time in `extra`.
        for observation in [&mut reset.observation, &mut stepped.observation] {
            assert!(observation.timing().is_some());
            observation.extra = Map::new();
        }
        assert_eq!((reset, stepped), (result, done));
    });
}

#[test]
fn unhandled_resets_and_steps_get_a_default_answer() {
    let Loop { mut commands, uri, .. } = start(ServerConfig::default());
    let policy = PolicyClient::connect(&uri).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let reset = policy.reset().unwrap();
            let step = policy.step(Action::from([3.0])).unwrap();
            (reset.observation.cameras.len(), step.observation.cameras.len())
        });
        assert_eq!(*soon(|| commands.try_next_action()).to_f32(), [3.0]);
        // The next call says that the action is applied.
        assert_eq!(
            soon(|| asking.is_finished().then_some(()).or_else(|| {
                assert!(commands.try_next_action().is_none());
                None
            })),
            ()
        );
        assert_eq!(asking.join().unwrap(), (1, 1));
    });
}

#[test]
fn the_policy_is_disconnected_when_the_loop_ends() {
    let Loop { commands, uri, server } = start(ServerConfig::default());
    let policy = PolicyClient::connect(&uri).unwrap();
    policy.metadata().unwrap();
    drop(commands);
    let error = soon(|| policy.error());
    assert!(error.to_string().contains("control loop has ended"), "{error}");
    drop(server);
}

#[test]
fn policies_use_the_loop_one_after_another() {
    let Loop { mut commands, uri, .. } = start(ServerConfig::default());
    for n in 0..5_u8 {
        let policy = PolicyClient::connect(&uri).unwrap();
        policy.send_action([f32::from(n)]).unwrap();
        assert_eq!(*soon(|| commands.try_next_action()).to_f32(), [f32::from(n)]);
        policy.close();
        // The loop takes note of the end before it gets another policy.
        soon(|| {
            commands.must_hold().then_some(()).or_else(|| commands.try_next_action().map(drop))
        });
        assert!(!commands.is_connected());
    }
}

/// A robot whose every method blocks for as long as the test wants.
struct Slow {
    sensors: Sensors,
    applied: std::sync::mpsc::Sender<Action>,
    gate: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Robot for Slow {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        Ok(self.applied.send(action)?)
    }

    fn observe(&self) -> Result<chiral_blocking::proto::server::Answer, RobotError> {
        let _ = self.gate.lock().expect("no panic").recv();
        Ok((&self.sensors).into())
    }
}

#[test]
fn a_blocking_observe_does_not_delay_actions() {
    let (applied, actions) = std::sync::mpsc::channel();
    let (open, gate) = std::sync::mpsc::channel();
    let robot = Slow { sensors: sensors(), applied, gate: gate.into() };
    let server = PolicyServer::bind("127.0.0.1:0").unwrap();
    server.spawn(robot).unwrap();
    let policy = PolicyClient::connect(&format!("ws://{}", server.local_addr().unwrap())).unwrap();
    std::thread::scope(|scope| {
        let observing = scope.spawn(|| policy.observe().unwrap());
        for n in 0..10_u8 {
            policy.send_action([f32::from(n)]).unwrap();
            assert_eq!(*actions.recv_timeout(SOON).unwrap().to_f32(), [f32::from(n)]);
        }
        assert!(!observing.is_finished());
        drop(open);
        observing.join().unwrap();
    });
}

#[test]
fn waiting_for_an_observation_times_out() {
    let Loop { uri, commands, server } = start(ServerConfig::default());
    let policy = PolicyClient::connect(&uri).unwrap();
    assert_eq!(policy.next_obs(Duration::ZERO).unwrap(), None);
    let start = Instant::now();
    assert_eq!(policy.next_obs(Duration::from_millis(10)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(10));
    policy.observe().unwrap();
    assert!(policy.next_obs(None).unwrap().is_some());
    assert_eq!(policy.next_obs(Duration::ZERO).unwrap(), None);
    drop((commands, server));
    assert!(policy.next_obs(None).is_err());
}
