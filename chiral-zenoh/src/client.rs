//! The policy's side: finding the robot, and being let in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use zenoh::bytes::ZBytes;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use crate::config::{Config, RobotName, Role};
use crate::error::{Error, words};
use crate::keys::{self, Keys};
use crate::layout::Layout;
use crate::link::{Link, Shared, Wire, declare, receive, watch};
use crate::opening::{GivenUp, Opening};

/// How often a server that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(100);
/// How often the robot is asked whether it is there, in compatible mode.
const PROBE: Duration = Duration::from_millis(500);
/// How long a policy waits for the one before it that may just be going: the robot may hear of its
/// end later than of the new one.
const HANDOVER: Duration = Duration::from_millis(250);
/// How long a robot may take to let a policy in.
const ANSWER: Duration = Duration::from_secs(2);

/// Connects to a robot, and waits for one that is not there yet: for `timeout`, or for ever.
///
/// In compatible mode it is connected when the robot has answered a request for its metadata,
/// which is repeated every 500 ms until then. Answers to repeated ones may come later: give the
/// client's state machine [`lossy`](crate::lossy), which passes them over.
///
/// The result fails when the configuration cannot be used, no robot is there in time, or the robot
/// is driven by another policy.
///
/// ```no_run
/// use std::time::Duration;
///
/// let config = "zenoh:?robot=arm-3&connect=tcp/router:7447".parse()?;
/// let link = chiral_zenoh::connect(config, Some(Duration::from_secs(10))).wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(config: Config, timeout: Option<Duration>) -> Opening<Link> {
    Opening::spawn(move |given_up| {
        let mut approach = Approach::new(config, timeout, given_up);
        loop {
            let session = approach.open()?;
            let attempt = match approach.config.robot().cloned() {
                None => approach.probe(session),
                Some(robot) => approach.ask(&session, &robot),
            };
            match attempt {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(last)) => approach.again(last)?,
                Err(Error::Busy(_)) if approach.may_be_free_soon() => given_up.pause(RETRY)?,
                Err(error) => return Err(error),
            }
        }
    })
}

/// How a [`Client`](chiral_proto::client::Client) is to be configured over a link: messages may
/// come twice, as answers to the probing of [`connect`], and a peer that is not ours may drop what
/// a congested network does not take.
///
/// A request is sent again after 2 s, longer than a large observation takes on a slow network; see
/// [`Lossy`](chiral_proto::client::Lossy) for what is never sent twice.
///
/// ```
/// let config = chiral_proto::client::Config {
///     lossy: Some(chiral_zenoh::lossy()),
///     ..Default::default()
/// };
/// ```
pub fn lossy() -> chiral_proto::client::Lossy {
    chiral_proto::client::Lossy {
        retry_after: Duration::from_secs(2),
        ..chiral_proto::client::Lossy::default()
    }
}

/// One try; the inner error says why there is none yet.
type Attempt = Result<Result<Link, String>, Error>;

/// The way to a robot, with its patience.
struct Approach<'a> {
    config: Config,
    given_up: &'a GivenUp,
    start: Instant,
    deadline: Option<Instant>,
    has_noticed: bool,
    /// Since when the robot has had another policy.
    busy_since: Option<Instant>,
}

impl<'a> Approach<'a> {
    fn new(config: Config, timeout: Option<Duration>, given_up: &'a GivenUp) -> Self {
        let start = Instant::now();
        let deadline = timeout.and_then(|timeout| start.checked_add(timeout));
        Self { config, given_up, start, deadline, has_noticed: false, busy_since: None }
    }

    /// Waits before the next try, if there is time for one.
    fn again(&mut self, last: String) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now() + RETRY) {
            let (config, waited) = (self.config.to_string(), self.start.elapsed());
            let last = if self.config.is_listened_on() {
                format!(
                    "{last}; but somebody listens there: does another policy drive the robot, or \
                     is it no Zenoh?"
                )
            } else {
                last
            };
            return Err(Error::NoRobot { config, waited, last });
        }
        if !std::mem::replace(&mut self.has_noticed, true) {
            tracing::info!("waiting for a robot at {} ({last})", self.config);
        }
        self.given_up.pause(RETRY)
    }

    /// Whether the policy that drives the robot may be one that is just going.
    fn may_be_free_soon(&mut self) -> bool {
        self.busy_since.get_or_insert_with(Instant::now).elapsed() < HANDOVER
    }

    fn open(&mut self) -> Result<Session, Error> {
        loop {
            let (zenoh, _) = self.config.to_zenoh(Role::Client)?;
            match zenoh::open(zenoh).wait() {
                Ok(session) => return Ok(session),
                Err(error) => self.again(words(&error))?,
            }
        }
    }

    /// Asks for metadata until it comes: a robot that knows nothing else is there then.
    fn probe(&mut self, session: Session) -> Attempt {
        let config = self.config.clone();
        let fail = |error: zenoh::Error| Error::open(&config, &error);
        let keys = Keys::compatible();
        let (shared, wire) = self.declare(session, &keys).map_err(fail)?;
        let request = ZBytes::from(ClientMessage::Metadata.encode().to_bytes());
        loop {
            wire.publisher.put(request.clone()).wait().map_err(fail)?;
            let until = Instant::now() + PROBE;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let Some(message) = shared.recv_timeout(left) else { break };
                if self.is_metadata(message.into_bytes()) {
                    return start(shared, wire).map(Ok);
                }
            }
            if shared.is_over() {
                return Ok(Err("the robot's server has gone again".to_owned()));
            }
            self.again("it does not answer a request for its metadata".to_owned())?;
        }
    }

    fn is_metadata(&self, message: Bytes) -> bool {
        let limits = &self.config.limits;
        let frame = Frame::parse(message, limits);
        let message = frame.and_then(|frame| ServerMessage::decode(&frame, limits));
        matches!(message, Ok(ServerMessage::Metadata(_)))
    }

    /// Asks the robot to be let in, and then has keys that nobody else has.
    fn ask(&mut self, session: &Session, robot: &RobotName) -> Attempt {
        let fail = |error: zenoh::Error| Error::open(&self.config, &error);
        let policy = session.zid().to_string();
        let token = session.liveliness().declare_token(keys::policy_token(robot, &policy));
        let token = token.wait().map_err(fail)?;
        let keys = Keys::session(robot, &policy);
        let (shared, mut wire) = self.declare(session.clone(), &keys).map_err(fail)?;
        let question = session.get(keys::ask(robot)).payload(policy).timeout(ANSWER);
        let answers = question.wait().map_err(fail)?;
        let Ok(answer) = answers.recv() else {
            return Ok(Err(format!("no robot named `{robot}` is on the network")));
        };
        let node = match answer.into_result() {
            Ok(sample) => sample.payload().to_bytes().into_owned(),
            Err(refusal) => {
                let why = refusal.payload().to_bytes();
                let why = String::from_utf8_lossy(&why).into_owned();
                // Zenoh's own word for a question that nobody has answered.
                if why == "Timeout" {
                    return Ok(Err(format!("the robot `{robot}` does not answer")));
                }
                return Err(Error::Busy(why));
            }
        };
        let node = String::from_utf8_lossy(&node).into_owned();
        let of_robot = Arc::clone(&shared);
        let robots = session
            .liveliness()
            .declare_subscriber(keys::robot_token(robot.as_str(), &node))
            .history(true)
            .callback(move |sample| {
                if sample.kind() == SampleKind::Delete {
                    of_robot.lose("the robot has left the network");
                }
            });
        let robots = robots.wait().map_err(fail)?;
        wire.keep = Box::new((robots, token, wire.keep));
        start(shared, wire).map(Ok)
    }

    /// Subscribes to what the robot sends, and prepares to publish.
    fn declare(&self, session: Session, keys: &Keys) -> zenoh::Result<(Arc<Shared>, Wire)> {
        let shared = Arc::new(Shared::new(self.config.limits.clone()));
        let (of_frames, of_farewells) = (Arc::clone(&shared), Arc::clone(&shared));
        let subscribers = receive(
            &session,
            &keys.s2c,
            move |frame| of_frames.receive(frame),
            move |farewell| of_farewells.peer_closed(farewell),
        )?;
        let publisher = declare(&session, &keys.c2s, Role::Client)?;
        let farewells = declare(&session, &keys::close(&keys.c2s), Role::Client)?;
        let of_watch = Arc::clone(&shared);
        let watch = watch(&publisher, move |is_heard| of_watch.heard(is_heard, "robot"))?;
        let (layout, keep) = (Layout::default(), Box::new((watch, subscribers)));
        Ok((shared, Wire { publisher, farewells, layout, keep, session }))
    }
}

fn start(shared: Arc<Shared>, wire: Wire) -> Result<Link, Error> {
    Link::start(shared, wire, || {}).map_err(|error| Error::Thread(error.to_string()))
}
