//! What somebody else on the network gets who wants to drive a robot, to disturb its policy, or to
//! be taken for either: directly, where robot and policy meet, and through a router.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, ConnectionError};
use chiral_zenoh::{Config, Error, Listener, Secret};
use zenoh::bytes::ZBytes;
use zenoh::query::QueryTarget;
use zenoh::sample::Sample;
use zenoh::{Session, Wait as _};

use crate::network::{router, router_with, stranger};
use crate::pair::{Policy, Robot, SOON, Seen, metadata};

const PIXELS: [usize; 3] = [48, 64, 3];
/// How long an attack is given to have an effect that it is not to have.
const PAUSE: Duration = Duration::from_millis(400);
const SECRET: &str = "89ab0123456789abcdef0123456789abcdef";

/// A named robot, its policy's configuration, and where a stranger connects.
struct Scene {
    robot: Robot,
    config: Config,
    endpoint: String,
    router: Option<Session>,
}

impl Scene {
    fn direct(secret: Option<&str>) -> Self {
        let config = with("zenoh:tcp/127.0.0.1:0?robot=arm", secret);
        let robot = Robot::serve_with(config, "arm", PIXELS);
        let uri = robot.config.to_string();
        let endpoint = uri.trim_start_matches("zenoh:").split('?').next().expect("an endpoint");
        let (config, endpoint) = (with(&uri, secret), endpoint.to_owned());
        Self { robot, config, endpoint, router: None }
    }

    fn routed(secret: Option<&str>) -> Self {
        let (router, endpoint) = router();
        let config = with(&format!("zenoh:?robot=arm&connect={endpoint}"), secret);
        let robot = Robot::serve_with(config.clone(), "arm", PIXELS);
        Self { robot, config, endpoint, router: Some(router) }
    }

    fn new(is_routed: bool, secret: Option<&str>) -> Self {
        if is_routed { Self::routed(secret) } else { Self::direct(secret) }
    }

    /// Each way to meet, without a secret and with one.
    fn all() -> impl Iterator<Item = Self> {
        let ways = [(false, None), (true, None), (false, Some(SECRET)), (true, Some(SECRET))];
        ways.into_iter().map(|(is_routed, secret)| Self::new(is_routed, secret))
    }

    fn with_secret() -> impl Iterator<Item = Self> {
        [false, true].into_iter().map(|is_routed| Self::new(is_routed, Some(SECRET)))
    }

    fn stranger(&self) -> Session {
        stranger(&self.endpoint, &[])
    }

    /// A policy that the robot has seen.
    #[track_caller]
    fn policy(&self) -> Policy {
        let policy = Policy::connect(&self.config);
        assert_eq!(self.robot.sees(), Seen::Policy);
        policy
    }

    #[track_caller]
    fn assert_nothing_seen(&self) {
        if let Ok(seen) = self.robot.log.recv_timeout(PAUSE) {
            panic!("{seen:?}");
        }
    }
}

fn with(uri: &str, secret: Option<&str>) -> Config {
    let config: Config = uri.parse().expect(uri);
    match secret {
        None => config,
        Some(secret) => config.with_secret(Secret::new(secret).expect("it is long enough")),
    }
}

/// Everything that is published under the robots' keys, as a stranger receives it.
fn listen_in(session: &Session) -> (zenoh::pubsub::Subscriber<()>, Receiver<Sample>) {
    let (sender, samples) = channel();
    let subscriber = session.declare_subscriber("chiral/**").callback(move |sample| {
        let _ = sender.send(sample);
    });
    (subscriber.wait().expect("a subscriber"), samples)
}

fn action(value: f32) -> Vec<u8> {
    ClientMessage::ApplyAction(Action::from([value])).encode().to_bytes().to_vec()
}

/// The sample with this payload.
#[cfg(feature = "shm")]
#[track_caller]
fn wait_for(samples: &Receiver<Sample>, payload: &[u8]) -> Sample {
    let is_it = |sample: &Sample| sample.payload().to_bytes() == payload;
    let until = Instant::now() + SOON;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let sample = samples.recv_timeout(left).expect("it is heard soon");
        if is_it(&sample) {
            return sample;
        }
    }
}

#[test]
fn actions_of_somebody_else_do_not_reach_the_robot() {
    for scene in Scene::all() {
        let stranger = scene.stranger();
        let (_subscriber, samples) = listen_in(&stranger);
        let mut policy = scene.policy();
        policy.act(&[0.0]);
        assert_eq!(scene.robot.sees(), Seen::Action(vec![0.0]));
        // Whoever is at the same router hears the action, with its key and its tag.
        let is_routed = scene.router.is_some();
        let heard = samples.recv_timeout(if is_routed { SOON } else { PAUSE }).ok();
        assert!(heard.is_some() || !is_routed);
        let made_up = ZBytes::from(vec![0; 41]);
        let tag = heard.as_ref().map_or(&made_up, |it| it.attachment().expect("it has a tag"));
        let heard_key = heard.as_ref().map(|sample| sample.key_expr().as_str());
        for key in [Some("chiral/arm/session/*/c2s"), heard_key].into_iter().flatten() {
            stranger.put(key, action(1.0)).wait().expect("it is sent");
            stranger.put(key, action(1.0)).attachment(tag.clone()).wait().expect("it is sent");
            // What the policy itself has sent, once more.
            if let Some(heard) = &heard {
                let again = stranger.put(key, heard.payload().clone()).attachment(tag.clone());
                again.wait().expect("it is sent");
            }
            // The number that the policy's next action will have.
            let mut next = tag.to_bytes().to_vec();
            next[1] += 1;
            stranger.put(key, action(1.0)).attachment(next).wait().expect("it is sent");
            stranger.put(key, "no frame").wait().expect("it is sent");
            stranger.delete(key).wait().expect("it is sent");
        }
        scene.assert_nothing_seen();
        policy.act(&[0.5]);
        assert_eq!(scene.robot.sees(), Seen::Action(vec![0.5]), "the honest policy runs on");
    }
}

#[test]
fn answers_of_somebody_else_do_not_reach_the_policy() {
    for scene in Scene::all() {
        let stranger = scene.stranger();
        let mut policy = scene.policy();
        let fake = ServerMessage::Metadata(metadata("fake")).encode().to_bytes().to_vec();
        for _ in 0..3 {
            stranger.put("chiral/arm/session/*/s2c", fake.clone()).wait().expect("it is sent");
        }
        let deadline = Instant::now() + SOON;
        while policy.transport.counts().read().frames_rejected < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(policy.metadata(), metadata("arm"));
        let stats = policy.transport.counts().read();
        assert_eq!((stats.frames_received, stats.frames_rejected), (1, 3), "{stats:?}");
    }
}

#[test]
fn close_messages_of_somebody_else_do_not_end_the_connection() {
    for scene in Scene::all() {
        let stranger = scene.stranger();
        let mut policy = scene.policy();
        let close = [&1000_u16.to_le_bytes()[..], b"go away"].concat();
        for direction in ["c2s", "s2c"] {
            let key = format!("chiral/arm/session/*/{direction}/close");
            stranger.put(&*key, close.clone()).wait().expect("it is sent");
            stranger.delete(&*key).wait().expect("it is sent");
        }
        scene.assert_nothing_seen();
        assert_eq!(policy.metadata(), metadata("arm"));
        // The policy's own does.
        policy.close();
        assert!(matches!(scene.robot.sees(), Seen::Gone(ConnectionError::ClosedByPeer { .. })));
    }
}

#[test]
fn tokens_of_somebody_else_do_not_end_the_connection() {
    for scene in Scene::all() {
        let stranger = scene.stranger();
        let mut policy = scene.policy();
        let tokens = stranger.liveliness().get("chiral/**").wait().expect("a query");
        let keys: Vec<_> = tokens
            .iter()
            .filter_map(|token| token.into_result().ok())
            .map(|token| token.key_expr().to_string())
            .collect();
        assert_eq!(keys.len(), 2, "the robot's and the policy's: {keys:?}");
        for key in keys {
            let token = stranger.liveliness().declare_token(key).wait().expect("a token");
            token.undeclare().wait().expect("it is taken back");
        }
        scene.assert_nothing_seen();
        assert_eq!(policy.metadata(), metadata("arm"));
    }
}

#[test]
fn a_bare_token_does_not_keep_a_robot_from_starting() {
    let lease = Duration::from_millis(300);
    for secret in [None, Some(SECRET)] {
        let (_router, endpoint) = router();
        let stranger = stranger(&endpoint, &[]);
        let token = stranger.liveliness().declare_token("chiral/arm/robot/f00d");
        let _token = token.wait().expect("a token");
        let config = with(&format!("zenoh:?robot=arm&connect={endpoint}"), secret);
        let listener = Listener::open(config.clone().with_lease(lease)).wait();
        let listener = listener.expect("nobody else is that robot");
        // But a robot does.
        let second = Listener::open(config.with_lease(lease)).wait().map(drop);
        assert_eq!(second, Err(Error::NameTaken("arm".to_owned())));
        drop(listener);
    }
}

/// The handshake without this crate, as docs/PROTOCOL.md describes it, for a robot without a secret.
struct Handshake {
    master: [u8; 32],
}

impl Handshake {
    fn new(node: &str, policy: &str, policy_nonce: &[u8], robot_nonce: &[u8]) -> Self {
        let key = blake3::derive_key("chiral zenoh 2 without a secret", b"");
        let mut bytes = Vec::new();
        for text in ["arm", node, policy] {
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(policy_nonce);
        bytes.extend_from_slice(robot_nonce);
        Self { master: blake3::keyed_hash(&key, &bytes).into() }
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::keyed_hash(&self.master, purpose.as_bytes()).into()
    }
}

/// Answers as the robot `arm` would, and keeps what it is asked.
fn impostor(session: &Session) -> (zenoh::query::Queryable<()>, Receiver<Vec<u8>>) {
    let (sender, requests) = channel();
    let queryable = session.declare_queryable("chiral/arm/ask").complete(true).callback(
        move |query: zenoh::query::Query| {
            let request = query.payload().map(|bytes| bytes.to_bytes().into_owned());
            let request = request.expect("a policy sends one");
            let answer = if request[..2] == [2, 1] {
                let policy = std::str::from_utf8(&request[35..]).expect("an id");
                let handshake = Handshake::new("f00d", policy, &request[3..35], &[7; 32]);
                [&[2, 3, 0], &[7; 32][..], &handshake.derive("robot"), b"f00d"].concat()
            } else {
                b"yes".to_vec()
            };
            query.reply("chiral/arm/ask", answer).wait().expect("it is sent");
            let _ = sender.send(request);
        },
    );
    (queryable.wait().expect("a queryable"), requests)
}

#[test]
fn with_a_secret_nobody_else_is_taken_for_the_robot() {
    for scene in Scene::with_secret() {
        let stranger = scene.stranger();
        let (_queryable, requests) = impostor(&stranger);
        std::thread::sleep(PAUSE);
        let mut policy = scene.policy();
        assert_eq!(policy.metadata(), metadata("arm"));
        policy.act(&[0.5]);
        assert_eq!(scene.robot.sees(), Seen::Action(vec![0.5]));
        assert!(requests.try_recv().is_ok(), "it was asked");
    }
}

#[test]
fn without_a_secret_a_policy_does_not_choose_among_two_robots() {
    for scene in [Scene::direct(None), Scene::routed(None)] {
        let stranger = scene.stranger();
        let (_queryable, _) = impostor(&stranger);
        std::thread::sleep(PAUSE);
        let connected = chiral_zenoh::connect(scene.config.clone(), Some(Duration::from_secs(1)));
        let error = connected.wait().map(drop).expect_err("it is not known which is the robot");
        assert!(error.to_string().contains("found 2 that answer as the robot `arm`"), "{error}");
        scene.assert_nothing_seen();
    }
}

#[test]
fn a_recorded_handshake_admits_nobody() {
    for scene in Scene::with_secret() {
        let stranger = scene.stranger();
        let (_queryable, requests) = impostor(&stranger);
        std::thread::sleep(PAUSE);
        let mut policy = scene.policy();
        policy.close();
        assert!(matches!(scene.robot.sees(), Seen::Gone(_)));
        drop(policy);
        let recorded: Vec<_> = requests.try_iter().collect();
        assert!(recorded.iter().any(|request| request[..2] == [2, 2]), "{recorded:?}");
        for request in recorded {
            let replies = stranger.get("chiral/arm/ask").target(QueryTarget::All).payload(request);
            replies.wait().expect("a query").iter().for_each(drop);
        }
        scene.assert_nothing_seen();
    }
}

#[test]
fn a_policy_without_the_robots_secret_is_told_so_and_not_admitted() {
    let other = format!("{SECRET}0");
    for (robot, policy, reason) in [
        (Some(SECRET), None, "has a secret, which its policies must have too"),
        (Some(SECRET), Some(&other[..]), "does not show that it has the secret"),
        (None, Some(SECRET), "does not show that it has the secret"),
    ] {
        let scene = Scene::direct(robot);
        let config = with(&scene.robot.config.to_string(), policy);
        let error = chiral_zenoh::connect(config, Some(Duration::from_millis(500))).wait();
        let error = error.map(drop).expect_err("it has no secret of this robot's").to_string();
        assert!(error.contains(reason), "{error}");
        scene.assert_nothing_seen();
    }
}

#[test]
fn a_secret_comes_from_a_file_named_in_the_uri() {
    let path = std::env::temp_dir().join(format!("chiral-zenoh-secret-{}", std::process::id()));
    std::fs::write(&path, SECRET).expect("the temporary folder can be written");
    let uri = format!("zenoh:tcp/127.0.0.1:0?robot=arm&secret-file={}", path.display());
    let listener = Listener::open(uri.parse().expect("a URI")).wait().expect("it listens");
    let uri = listener.uri();
    assert!(uri.contains("secret-file=") && !uri.contains(SECRET), "{uri}");
    let policy = chiral_zenoh::connect(uri.parse().expect("a URI"), Some(SOON)).wait();
    std::fs::remove_file(&path).expect("it was just written");
    assert!(policy.is_ok(), "{policy:?}");
    // Without the file there is no robot, rather than one without a secret.
    let error = Listener::open(uri.parse().expect("a URI")).wait().map(drop).expect_err("no file");
    assert!(matches!(error, Error::Config(_)), "{error}");
    // Nor does one without a name listen as if it had a secret.
    let error = Listener::open(with("tcp/127.0.0.1:0", Some(SECRET))).wait().map(drop);
    let error = error.expect_err("nobody would be asked for it").to_string();
    assert!(error.contains("expected `robot=NAME`"), "{error}");
}

#[test]
fn a_robot_without_a_name_does_not_begin_behind_a_router() {
    let (_router, endpoint) = router();
    let config = with(&format!("zenoh:?connect={endpoint}"), None);
    let error = Listener::open(config).wait().map(drop).expect_err("it has no name").to_string();
    assert!(error.contains("expected a name (`robot=NAME`)"), "{error}");
}

#[test]
fn a_robot_without_a_name_refuses_policies_behind_a_router() {
    let robot = Robot::serve("tcp/127.0.0.1:0", "arm", PIXELS);
    let reached = ("connect/endpoints", format!("[\"{}\"]", robot.config));
    let (_router, endpoint) = router_with(&[reached]);
    let config: Config = endpoint.parse().expect("an endpoint");
    // A request that comes before the end of the one before is not answered.
    let mut errors = std::iter::repeat_with(|| {
        let error = chiral_zenoh::connect(config.clone(), Some(Duration::from_secs(2))).wait();
        error.map(drop).expect_err("others could come through the router").to_string()
    });
    let is_told = |error: String| error.contains("a Zenoh router between the policy and a robot");
    assert!(errors.by_ref().take(5).any(is_told), "{:?}", errors.next());
    assert!(robot.log.try_recv().is_err());
}

#[test]
fn nobody_gets_in_beside_the_policy_of_a_robot_without_a_name() {
    let robot = Robot::serve("tcp/127.0.0.1:0", "arm", PIXELS);
    let mut policy = Policy::connect(&robot.config);
    assert_eq!(robot.sees(), Seen::Policy);
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"client\"".to_owned()),
        ("connect/endpoints", format!("[\"{}\"]", robot.config)),
        ("connect/timeout_ms", "500".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).expect(key);
    }
    assert!(zenoh::open(config).wait().is_err(), "Zenoh lets one session in");
    policy.act(&[0.5]);
    assert_eq!(robot.sees(), Seen::Action(vec![0.5]));
}

/// Why source information is not what decides: whoever publishes writes what they like into it.
#[cfg(feature = "shm")]
#[test]
fn the_source_information_of_a_sample_can_be_forged() {
    use zenoh::sample::SourceInfo;
    let (_router, endpoint) = router();
    let sessions = [(); 3].map(|()| stranger(&endpoint, &[]));
    let [witness, policy, attacker] = &sessions;
    let heard = [witness, attacker].map(listen_in);
    let publisher = policy.declare_publisher("chiral/x").wait().expect("a publisher");
    std::thread::sleep(PAUSE);
    let source = SourceInfo::new(publisher.id(), 1);
    publisher.put("true").source_info(source).wait().expect("it is sent");
    let source = wait_for(&heard[1].1, b"true").source_info().expect("it was given").clone();
    attacker.put("chiral/x", "false").source_info(source).wait().expect("it is sent");
    let samples = ["true", "false"].map(|text| wait_for(&heard[0].1, text.as_bytes()));
    let [honest, forged] = samples.each_ref().map(|sample| format!("{:?}", sample.source_info()));
    assert!(honest.starts_with("Some("), "{honest}");
    assert_eq!(honest, forged);
}

/// A router with the access control that this crate writes, where everybody has a user and a
/// password.
#[cfg(feature = "auth")]
mod access_control {
    use chiral_zenoh::{AccessControl, Identity};

    use super::*;
    use crate::pair::image;

    const USERS: [&str; 5] = ["arm", "arm-policy", "other", "other-policy", "guest"];

    struct Lab {
        _router: Session,
        endpoint: String,
        folder: std::path::PathBuf,
    }

    impl Lab {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("chiral-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
            let users = USERS.map(|user| format!("{user}:of-{user}\n")).concat();
            std::fs::write(folder.join("users"), users).expect("it can be written");
            let user = |name: &str| Identity::User(name.to_owned());
            let access = ["arm", "other"].iter().fold(AccessControl::new(), |access, robot| {
                let policy = user(&format!("{robot}-policy"));
                access.with_robot(robot.parse().expect("a name"), user(robot), [policy])
            });
            let access = zenoh::Config::from_json5(&access.to_string()).expect("Zenoh reads it");
            let access = access.get_json("access_control").expect("it is there");
            let usrpwd = format!(
                "{{ user: 'router', password: 'of-router', dictionary_file: '{}' }}",
                folder.join("users").display()
            );
            let (router, endpoint) =
                router_with(&[("access_control", access), ("transport/auth/usrpwd", usrpwd)]);
            Self { _router: router, endpoint, folder }
        }

        fn config(&self, user: &str, robot: &str) -> Config {
            let path = self.folder.join(user);
            let text = format!("{{ transport: {{ auth: {{ usrpwd: {} }} }} }}", credentials(user));
            std::fs::write(&path, text).expect("it can be written");
            with(&format!("zenoh:?robot={robot}&connect={}", self.endpoint), None)
                .with_config_file(path)
        }

        fn stranger(&self, user: &str) -> Session {
            stranger(&self.endpoint, &[("transport/auth/usrpwd", credentials(user))])
        }
    }

    impl Drop for Lab {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn credentials(user: &str) -> String {
        format!("{{ user: '{user}', password: 'of-{user}' }}")
    }

    #[test]
    fn a_router_with_access_control_stops_everybody_but_the_robots_own_policy() {
        let lab = Lab::new("access");
        let robot = Robot::serve_with(lab.config("arm", "arm"), "arm", PIXELS);
        for user in ["guest", "other-policy", "other"] {
            let stranger = lab.stranger(user);
            let (_subscriber, samples) = listen_in(&stranger);
            let (_queryable, requests) = impostor(&stranger);
            let token = stranger.liveliness().declare_token("chiral/arm/robot/f00d");
            let _token = token.wait().expect("it is sent");
            std::thread::sleep(PAUSE);
            let mut policy = Policy::connect(&lab.config("arm-policy", "arm"));
            assert_eq!(robot.sees(), Seen::Policy);
            let expected = image("arm", PIXELS.iter().product());
            assert_eq!(*policy.observe()["cam"].image.bytes(), expected);
            for direction in ["c2s", "s2c", "c2s/close", "s2c/close"] {
                let key = format!("chiral/arm/session/*/{direction}");
                stranger.put(key, action(1.0)).wait().expect("it is sent");
            }
            std::thread::sleep(PAUSE);
            policy.act(&[0.5]);
            assert_eq!(robot.sees(), Seen::Action(vec![0.5]));
            // Not even rejected by the policy: nothing came.
            assert_eq!(policy.transport.counts().read().frames_rejected, 0);
            policy.close();
            assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::ClosedByPeer { .. })));
            let is_own = |sample: Sample| sample.payload().to_bytes() == action(1.0);
            assert!(samples.try_iter().all(is_own), "{user} reads nothing");
            assert!(requests.try_recv().is_err(), "{user} is asked nothing");
        }
    }

    #[test]
    fn a_policy_of_another_robot_is_not_admitted_by_the_router() {
        let lab = Lab::new("admission");
        let robot = Robot::serve_with(lab.config("arm", "arm"), "arm", PIXELS);
        let config = lab.config("other-policy", "arm");
        let error = chiral_zenoh::connect(config, Some(Duration::from_secs(1))).wait().map(drop);
        let error = error.expect_err("the router does not pass it on");
        assert!(matches!(error, Error::NoRobot { .. }), "{error}");
        assert!(robot.log.try_recv().is_err());
        let mut policy = Policy::connect(&lab.config("arm-policy", "arm"));
        assert_eq!(policy.metadata(), metadata("arm"));
    }
}
