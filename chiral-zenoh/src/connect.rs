//! The policy's side: finding the robot, and being admitted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_driver::client::{CancelToken, ClientSettings, WaitForServer};
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use chiral_proto::{ConnectionError, printable};
use zenoh::bytes::ZBytes;
use zenoh::query::{ConsolidationMode, QueryTarget};
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use crate::authentication::{Challenge, Hello, Parties, Proof, Secret, SessionKeys, Signer, nonce};
use crate::background::{Background, sleep_until};
use crate::config::{Config, RobotName, Role};
use crate::encode::Encoder;
use crate::error::{Error, message_of};
use crate::keys::{self, Keys};
use crate::transport::{
    TransportState, Writer, ZenohTransport, declare_publisher, subscribe, watch_subscriber,
};

/// How often the robot is asked whether it is there, in compatible mode.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a robot may take to admit a policy.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Characters of somebody's answer that an error quotes, at the most.
const QUOTED_CHARS: usize = 120;

/// Connects to a robot, and waits for one that is not there yet or has another policy: for
/// `timeout`, or for ever. The log says after a second what is waited for.
///
/// In compatible mode it is connected when the robot has answered a request for its metadata,
/// which is repeated every 500 ms until then. Answers to repeated requests may come later: give the
/// client's state machine [`lossy`](crate::lossy), which ignores them.
///
/// The result fails when the configuration cannot be used, or when no robot is there in time or
/// another policy drives it all the while. In compatible mode a robot that has a policy cannot be
/// told from none.
///
/// ```no_run
/// use std::time::Duration;
///
/// let config = "zenoh:?robot=arm-3&connect=tcp/router:7447".parse()?;
/// let transport = chiral_zenoh::connect(config, Some(Duration::from_secs(10))).wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(config: Config, timeout: Option<Duration>) -> Background<ZenohTransport> {
    let settings = ClientSettings { connect_timeout: timeout, ..ClientSettings::default() };
    let wait = WaitForServer::new(&config.to_string(), &settings);
    connect_waiting(config, wait)
}

/// As [`connect`], with a wait that has begun already.
pub(crate) fn connect_waiting(config: Config, wait: WaitForServer) -> Background<ZenohTransport> {
    Background::spawn(move |cancel| {
        let secret = config.secret()?;
        let mut connecting = Connecting { config, secret, cancel, wait };
        loop {
            let session = connecting.open()?;
            let attempt = match connecting.config.robot().cloned() {
                None => connecting.probe(session),
                Some(robot) => connecting.request_admission(&session, &robot),
            };
            match attempt {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(last)) => connecting.wait_to_retry(last)?,
                Err(Error::Busy(why)) => connecting.wait_for_turn(why)?,
                Err(error) => return Err(error),
            }
        }
    })
}

/// How a [`Client`](chiral_proto::client::Client) is to be configured in compatible mode: messages
/// may come twice, as answers to the repeated requests of [`connect`], and a peer without this
/// crate may drop what a congested network does not take.
///
/// A request for metadata or for an observation is sent again after 2 s, longer than a large
/// observation takes on a slow network; see [`Lossy`](chiral_proto::client::Lossy) for what is never
/// sent twice. A `reset` or `step` is not, for each moves the robot: one that is lost ends with its
/// deadline, by default after 120 s, and the robot may or may not have done it. Ask for an
/// observation then.
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

/// One try to connect; the inner error is the reason to try again.
type Attempt = Result<Result<ZenohTransport, String>, Error>;

/// A connection that is being made.
struct Connecting<'a> {
    config: Config,
    secret: Option<Secret>,
    cancel: &'a CancelToken,
    wait: WaitForServer,
}

impl Connecting<'_> {
    /// Waits before the next try, if there is time for one.
    fn wait_to_retry(&mut self, last: String) -> Result<(), Error> {
        if let Some(retry_at) = self.wait.retry_soon(&last) {
            return self.sleep_until(retry_at);
        }
        let (config, waited) = (self.config.to_string(), self.wait.waited());
        let last = if self.config.is_listened_on() {
            format!(
                "{last}; but somebody listens there: does another policy drive the robot, or is it \
                 no Zenoh?"
            )
        } else {
            last
        };
        Err(Error::NoRobot { config, waited, last })
    }

    /// As [`wait_to_retry`](Self::wait_to_retry), for a robot that has another policy.
    fn wait_for_turn(&mut self, why: String) -> Result<(), Error> {
        match self.wait.retry_later(&why) {
            Some(retry_at) => self.sleep_until(retry_at),
            None => Err(Error::Busy(why)),
        }
    }

    fn sleep_until(&self, at: Instant) -> Result<(), Error> {
        sleep_until(self.cancel, at)
    }

    fn open(&mut self) -> Result<Session, Error> {
        loop {
            let (zenoh, _) = self.config.to_zenoh(Role::Client)?;
            match zenoh::open(zenoh).wait() {
                Ok(session) => return Ok(session),
                Err(error) => self.wait_to_retry(message_of(&error))?,
            }
        }
    }

    /// Requests metadata until it comes: all that shows a compatible robot to be there.
    fn probe(&mut self, session: Session) -> Attempt {
        let config = self.config.clone();
        let fail = |error: zenoh::Error| Error::open(&config, &error);
        let keys = Keys::compatible();
        let state = Arc::new(TransportState::new(self.config.limits.clone()));
        let writer = declare(session, &keys, &state, None).map_err(fail)?;
        let request = ZBytes::from(ClientMessage::Metadata.encode().to_bytes());
        loop {
            writer.frames.put(request.clone()).wait().map_err(fail)?;
            let until = Instant::now() + PROBE_INTERVAL;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let Some(payload) = state.receive_timeout(left) else { break };
                if self.is_metadata(payload.into_bytes()) {
                    return start(state, writer).map(Ok);
                }
            }
            if state.is_ended() {
                let why = match state.end() {
                    Some(ConnectionError::ClosedByPeer { reason, .. }) if !reason.is_empty() => {
                        format!(": {reason}")
                    }
                    _ => String::new(),
                };
                // It answers the close message.
                drop(start(state, writer)?);
                return Ok(Err(format!("the robot's server has closed the connection{why}")));
            }
            self.wait_to_retry("it does not answer a request for its metadata".to_owned())?;
        }
    }

    fn is_metadata(&self, message: Bytes) -> bool {
        let limits = &self.config.limits;
        let frame = Frame::parse(message, limits);
        let message = frame.and_then(|frame| ServerMessage::decode(&frame, limits));
        matches!(message, Ok(ServerMessage::Metadata(_)))
    }

    /// Requests to drive the robot, over keys of this policy's own.
    fn request_admission(&mut self, session: &Session, robot: &RobotName) -> Attempt {
        let config = self.config.clone();
        let fail = |error: zenoh::Error| Error::open(&config, &error);
        let policy = session.zid().to_string();
        let token = session.liveliness().declare_token(keys::policy_token(robot, &policy));
        let token = token.wait().map_err(fail)?;
        let (challenge, session_keys, hello) = match self.find_robot(session, robot, policy)? {
            Ok(found) => found,
            Err(last) => return Ok(Err(last)),
        };
        let keys = Keys::session(robot, &session_keys.session_id());
        let verifiers = session_keys.verifiers(Role::Client);
        let state = TransportState::authenticated(self.config.limits.clone(), verifiers);
        let state = Arc::new(state);
        let signers = session_keys.signers(Role::Client);
        let writer = declare(session.clone(), &keys, &state, Some(signers));
        let mut writer = writer.map_err(fail)?;
        let proof = Proof { nonce: hello.nonce, proof: session_keys.policy_proof().into() };
        let mut is_admitted = false;
        for answer in ask(session, robot, proof.encode()).map_err(fail)? {
            match answer {
                Ok(yes) if session_keys.admitted() == yes[..] => {
                    is_admitted = true;
                    break;
                }
                Err(no) => {
                    if let Some(why) = session_keys.refused(&no) {
                        return Err(Error::Busy(why));
                    }
                }
                Ok(_) => {}
            }
        }
        if !is_admitted {
            return Ok(Err(format!("the robot `{robot}` does not answer")));
        }
        let node = challenge.node;
        let watched = Arc::clone(&state);
        let robots = session
            .liveliness()
            .declare_subscriber(keys::robot_token(robot.as_str(), &node))
            .history(true)
            .callback(move |sample| {
                if sample.kind() == SampleKind::Delete {
                    watched.lose("the robot has left the network");
                }
            });
        let robots = robots.wait().map_err(fail)?;
        writer.declared = Box::new((robots, token, writer.declared));
        start(state, writer).map(Ok)
    }

    /// Finds the robot, and agrees on keys with it. The inner error is the reason to try again.
    fn find_robot(
        &self,
        session: &Session,
        robot: &RobotName,
        policy: String,
    ) -> Result<Result<(Challenge, SessionKeys, Hello), String>, Error> {
        let hello = Hello { has_secret: self.secret.is_some(), nonce: nonce()?, policy };
        let answers = ask(session, robot, hello.encode());
        let answers = answers.map_err(|error| Error::open(&self.config, &error))?;
        let mut found = Vec::new();
        let mut last = format!("no robot named `{robot}` is on the network");
        for answer in answers {
            let challenge = match answer {
                Ok(challenge) => Challenge::decode(&challenge),
                Err(why) => {
                    // Zenoh's own error for a query that nobody has answered.
                    last = match &why[..] {
                        b"Timeout" => format!("the robot `{robot}` does not answer"),
                        // It is anybody's, whoever has a secret.
                        why => printable(&String::from_utf8_lossy(why), QUOTED_CHARS),
                    };
                    continue;
                }
            };
            let Some(challenge) = challenge else {
                last = format!("the robot `{robot}` gives no answer of this version");
                continue;
            };
            let parties = Parties {
                robot: robot.as_str(),
                node: &challenge.node,
                policy: &hello.policy,
                policy_nonce: &hello.nonce,
                robot_nonce: &challenge.nonce,
            };
            let keys = SessionKeys::new(self.secret.as_ref(), parties);
            let is_proven = keys.robot_proof() == challenge.proof;
            match (&self.secret, is_proven) {
                // Whoever else answers does not matter.
                (Some(_), true) => return Ok(Ok((challenge, keys, hello))),
                (None, true) => found.push((challenge, keys)),
                (Some(_), false) => {
                    last = format!(
                        "whoever answers as the robot `{robot}` does not show that it has the secret: \
                         give both sides the same `secret-file`"
                    );
                }
                (None, false) => {
                    last = format!("the robot `{robot}` gives a false answer");
                }
            }
        }
        if found.len() > 1 {
            let count = found.len();
            return Ok(Err(format!(
                "found {count} that answer as the robot `{robot}`, expected one: with a \
                 `secret-file` on both sides it is known which is the robot"
            )));
        }
        Ok(found.pop().map(|(challenge, keys)| (challenge, keys, hello)).ok_or(last))
    }
}

/// Asks everybody who answers as the robot, not only the one whom Zenoh would choose. What they
/// answer comes one by one, errors as such.
fn ask(
    session: &Session,
    robot: &RobotName,
    request: Vec<u8>,
) -> zenoh::Result<impl Iterator<Item = Result<Vec<u8>, Vec<u8>>>> {
    let query = session
        .get(keys::admission(robot))
        .target(QueryTarget::All)
        .consolidation(ConsolidationMode::None)
        .payload(request)
        .timeout(ADMISSION_TIMEOUT);
    let bytes = |payload: &ZBytes| payload.to_bytes().into_owned();
    Ok(query.wait()?.into_iter().map(move |reply| match reply.into_result() {
        Ok(sample) => Ok(bytes(sample.payload())),
        Err(error) => Err(bytes(error.payload())),
    }))
}

/// Declares what a connection over these keys needs.
fn declare(
    session: Session,
    keys: &Keys,
    state: &Arc<TransportState>,
    signers: Option<[Signer; 2]>,
) -> zenoh::Result<Writer> {
    let (frame_target, close_target) = (Arc::clone(state), Arc::clone(state));
    let subscribers = subscribe(
        &session,
        &keys.s2c,
        move |frame| frame_target.receive(frame),
        move |message| close_target.receive_close(message),
    )?;
    let frames = declare_publisher(&session, &keys.c2s, Role::Client)?;
    let closes = declare_publisher(&session, &keys::close(&keys.c2s), Role::Client)?;
    let watcher = Arc::clone(state);
    let watch = watch_subscriber(&frames, move |is_subscribed| {
        watcher.subscription_reported(is_subscribed, "robot");
    })?;
    let (encoder, declared) = (Encoder::default(), Box::new((watch, subscribers)));
    Ok(Writer { frames, closes, signers, encoder, declared, session })
}

fn start(state: Arc<TransportState>, writer: Writer) -> Result<ZenohTransport, Error> {
    ZenohTransport::start(state, writer, || {}).map_err(|error| Error::Thread(error.to_string()))
}
