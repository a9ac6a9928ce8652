//! A scripted session, and what must hold however it ends.

use std::collections::HashSet;
use std::time::Duration;

use chiral_proto::client::{self, RequestKey};
use chiral_proto::server::{self, ActionQueue};
use chiral_proto::testing::{Faults, Happening, Link, SessionPair, Side};
use chiral_proto::ws::{self, Keepalive};
use chiral_proto::{ActionSpec, Array, ConnectionError, Map, Observation, Rate, ResetResult};

use crate::support::{action, metadata, observation, start};

const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_secs(2), timeout: Duration::from_secs(2) };
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a session may take from the moment that the policy closes it: the handshake for 10 s, pings
/// for 4 s, a closing handshake, and a second for the peer to hang up; these twice, as one side may find
/// out by the end of the other one.
const PATIENCE: Duration = Duration::from_secs(10 + 2 * (4 + 1 + 1));

/// What the policy of a session does: it asks for metadata and resets, streams observations while it
/// dispatches actions, asks for one more observation, and then somebody ends it. When a request fails,
/// or this takes longer than it should, the policy closes earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    pub(crate) ending: Ending,
    pub(crate) queue: ActionQueue,
    /// Requests of the stream in flight.
    pub(crate) window: usize,
    pub(crate) observations: u64,
    pub(crate) actions: u32,
    /// Bytes of an observation's image; 0 for no camera.
    pub(crate) image: usize,
    /// Of the actions; observations come at half of it. In a silence each tick costs the test time.
    pub(crate) hz: u32,
    pub(crate) patience: Duration,
}

impl Script {
    /// A session of few bytes, for those who try each of them.
    pub(crate) const SHORT: Self = Self {
        ending: Ending::PolicyCloses,
        queue: ActionQueue::InOrder { capacity: 4096 },
        window: 1,
        observations: 2,
        actions: 6,
        image: 0,
        hz: 20,
        patience: Duration::from_secs(30),
    };
    /// The same with a camera, whose calibration and image can be corrupted.
    pub(crate) const WITH_CAMERA: Self = Self { image: 12, ..Self::SHORT };
    /// A session of some 25 kB.
    pub(crate) const LONG: Self = Self {
        observations: 10,
        actions: 40,
        image: 1500,
        hz: 50,
        patience: Duration::from_secs(20),
        ..Self::SHORT
    };

    /// Another way to end, another queue and another window for each seed.
    pub(crate) fn vary(self, seed: u64) -> Self {
        use Ending::{PolicyCloses, RobotFails, ServerShutsDown, TakenOver};
        let endings = [PolicyCloses, ServerShutsDown, RobotFails, TakenOver];
        let queues = [
            ActionQueue::InOrder { capacity: 4096 },
            ActionQueue::InOrder { capacity: 1 },
            ActionQueue::Latest,
            ActionQueue::MaxAge(Duration::from_millis(50)),
        ];
        Self {
            ending: endings[(seed / 4 % 4) as usize],
            queue: queues[(seed % 4) as usize],
            window: 1 + (seed / 16 % 3) as usize,
            ..self
        }
    }
}

/// Who ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    PolicyCloses,
    ServerShutsDown,
    RobotFails,
    /// Another policy gets the robot.
    TakenOver,
}

/// What came of a session.
pub(crate) struct Outcome {
    pub(crate) policy_ended: ConnectionError,
    pub(crate) robot_ended: ConnectionError,
    /// The numbers of the actions, as they were applied.
    pub(crate) applied: Vec<f32>,
    pub(crate) streamed: u64,
    pub(crate) bytes_sent: [u64; 2],
}

/// Where the script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Describing,
    Resetting,
    Streaming,
    Observing,
    Closing,
}

struct World {
    script: Script,
    pair: SessionPair,
    stage: Stage,
    open_requests: HashSet<RequestKey>,
    spec: ActionSpec,
    applied: Vec<f32>,
    streamed: u64,
    policy_ended: Option<ConnectionError>,
    robot_ended: Option<ConnectionError>,
}

/// Runs a session over a link to its end, and checks what must hold over any link.
pub(crate) fn run(script: Script, link: Link) -> Outcome {
    let faults = [Side::Client, Side::Server].map(|side| link.faults(side).clone());
    let outcome = World::new(script, link).run();
    let applied = &outcome.applied;
    assert!(applied.len() <= script.actions as usize, "more actions than were sent: {applied:?}");
    if !faults.iter().any(Faults::corrupts) {
        let sent: Vec<f32> = (0..script.actions).map(|number| number as f32).collect();
        if let ActionQueue::InOrder { .. } = script.queue {
            assert_eq!(*applied, sent[..applied.len()], "not what was sent, from the first on");
        } else {
            let is_ordered = applied.windows(2).all(|two| two[0] < two[1]);
            assert!(is_ordered, "not in order, or twice: {applied:?}");
            assert!(applied.iter().all(|number| sent.contains(number)), "not sent: {applied:?}");
        }
        for ended in [&outcome.policy_ended, &outcome.robot_ended] {
            assert!(
                !matches!(
                    ended,
                    ConnectionError::BadFrame(_)
                        | ConnectionError::UnexpectedReply { .. }
                        | ConnectionError::TransportViolation(_)
                ),
                "an intact stream was misread: {ended}"
            );
        }
    }
    outcome
}

impl World {
    fn new(script: Script, link: Link) -> Self {
        let spec = ActionSpec::vector(1);
        let config = server::Config {
            action_queue: script.queue,
            action_spec: spec.clone(),
            ..server::Config::default()
        };
        let client = client::Config { stream_window: script.window, ..client::Config::default() };
        let session = ws::Config {
            keepalive: Some(KEEPALIVE),
            close_timeout: CLOSE_TIMEOUT,
            ..ws::Config::default()
        };
        let pair = SessionPair::new(start(), client, config, &session, link);
        let mut world = Self {
            script,
            pair,
            stage: Stage::Describing,
            open_requests: HashSet::new(),
            spec,
            applied: Vec::new(),
            streamed: 0,
            policy_ended: None,
            robot_ended: None,
        };
        let id = world.pair.client.request_metadata(world.pair.now(), None).unwrap();
        world.open_requests.insert(id.into());
        world
    }

    fn run(mut self) -> Outcome {
        let give_up = self.pair.now() + self.script.patience;
        while let Some(happening) = self.pair.next(give_up) {
            self.handle(happening);
        }
        self.close();
        let end = self.pair.now() + PATIENCE;
        while let Some(happening) = self.pair.next(end) {
            self.handle(happening);
        }
        assert!(self.pair.is_over(), "a side has not hung up: {:?}", self.pair);
        assert!(self.open_requests.is_empty(), "unanswered: {:?}", self.open_requests);
        Outcome {
            policy_ended: self.policy_ended.expect("the policy is told of the end"),
            robot_ended: self.robot_ended.expect("the robot is told of the end"),
            applied: self.applied,
            streamed: self.streamed,
            bytes_sent: [Side::Client, Side::Server].map(|side| self.pair.link.bytes_sent(side)),
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Client(event) => self.policy_hears(event),
            Happening::Server(event) => self.robot_hears(event),
        }
    }

    fn robot_hears(&mut self, event: server::Event) {
        assert_eq!(self.robot_ended, None, "nothing comes after the end: {event:?}");
        let server = &mut self.pair.server;
        let answered = match event {
            server::Event::Action(action) => {
                assert_eq!(self.spec.check(&action), Ok(()), "an action that the robot forbids");
                return self.applied.push(action.to_f32()[0]);
            }
            server::Event::Metadata(reply) => server.reply_metadata(reply, metadata(1)),
            server::Event::Reset(reply) => {
                let result = ResetResult { observation: Observation::default(), info: Map::new() };
                server.reply_reset(reply, result)
            }
            server::Event::Observe(reply) => {
                let mut seen = observation(1);
                if self.script.image == 0 {
                    seen.cameras.clear();
                } else {
                    let image = vec![7_u8; self.script.image];
                    let image = Array::from_slice([self.script.image], &image);
                    seen.cameras[0].image = image.expect("the shape fits");
                }
                server.reply_observation(reply, seen)
            }
            // Only a corrupted message is one.
            server::Event::Step(_, reply) => {
                drop(reply);
                return;
            }
            server::Event::Disconnected(error) => return self.robot_ended = Some(error),
            server::Event::ActionsDropped { .. } => return,
            other => panic!("{other:?}"),
        };
        // It fails only when the connection has ended.
        assert!(answered.is_ok() || server.error().is_some());
    }

    fn policy_hears(&mut self, event: client::Event) {
        assert_eq!(self.policy_ended, None, "nothing comes after the end: {event:?}");
        let script = self.script;
        let client = &mut self.pair.client;
        match event {
            client::Event::Metadata { id, .. } => {
                self.is_answered(id);
                self.proceed(Stage::Resetting);
            }
            client::Event::Reset { id, .. } => {
                self.is_answered(id);
                self.proceed(Stage::Streaming);
            }
            client::Event::Streamed(_) => {
                self.streamed += 1;
                if self.stage == Stage::Streaming
                    && self.streamed >= script.observations
                    && client.queued_actions() == 0
                {
                    self.proceed(Stage::Observing);
                }
            }
            client::Event::Observation { id, .. } => {
                self.is_answered(id);
                self.end();
            }
            client::Event::Failed { id, .. } => {
                self.is_answered(id);
                self.close();
            }
            client::Event::StreamTimedOut(_) => self.close(),
            client::Event::Disconnected(error) => self.policy_ended = Some(error),
            client::Event::Silent { .. }
            | client::Event::Resumed { .. }
            | client::Event::CameraStalled { .. }
            | client::Event::CameraResumed { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn is_answered(&mut self, id: impl Into<RequestKey>) {
        assert!(
            self.open_requests.remove(&id.into()),
            "an answer to what was not asked, or a second one"
        );
    }

    /// Begins the next stage of the script.
    fn proceed(&mut self, stage: Stage) {
        if self.stage == Stage::Closing {
            return;
        }
        self.stage = stage;
        let now = self.pair.now();
        let client = &mut self.pair.client;
        let id: Option<RequestKey> = match stage {
            Stage::Resetting => client.request_reset(now, None).ok().map(Into::into),
            Stage::Streaming => {
                let hz = |hz: u32| Rate::hz(hz).expect("it is a rate");
                let _ = client.start_obs_stream(now, hz(self.script.hz / 2));
                let _ = client.start_action_dispatch(now, hz(self.script.hz));
                let basis: Observation = observation(0);
                let _ = client.put_chunk(now, &basis, (0..self.script.actions).map(action));
                None
            }
            Stage::Observing => {
                client.stop_obs_stream();
                client.stop_action_dispatch();
                client.request_observation(now, None).ok().map(Into::into)
            }
            Stage::Describing | Stage::Closing => None,
        };
        self.open_requests.extend(id);
    }

    /// Ends the session as the script says.
    fn end(&mut self) {
        let soon = self.pair.now() + Duration::from_secs(1);
        let server = &mut self.pair.server;
        match self.script.ending {
            Ending::PolicyCloses => return self.close(),
            Ending::ServerShutsDown => server.shut_down(soon),
            Ending::RobotFails => server.fail("joint 3"),
            Ending::TakenOver => server.hand_over(),
        }
        self.stage = Stage::Closing;
    }

    fn close(&mut self) {
        self.stage = Stage::Closing;
        self.pair.client.close(self.pair.now());
    }
}
