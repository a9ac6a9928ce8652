//! The policy's side: finding the robot, and being admitted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use zenoh::bytes::ZBytes;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use crate::background::{Background, Cancellation};
use crate::config::{Config, RobotName, Role};
use crate::encode::Encoder;
use crate::error::{Error, message_of};
use crate::keys::{self, Keys};
use crate::transport::{
    TransportState, Writer, ZenohTransport, declare_publisher, subscribe, watch_subscriber,
};

/// How long to wait between two tries to connect.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How often the robot is asked whether it is there, in compatible mode.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a policy tries again when the robot has another one, which may be about to leave: the
/// robot may learn of its end later than of the new policy.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a robot may take to admit a policy.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long the log says what is waited for.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// Connects to a robot, and waits for one that is not there yet: for `timeout`, or for ever. The log
/// says after a second what is waited for.
///
/// In compatible mode it is connected when the robot has answered a request for its metadata,
/// which is repeated every 500 ms until then. Answers to repeated requests may come later: give the
/// client's state machine [`lossy`](crate::lossy), which ignores them.
///
/// The result fails when the configuration cannot be used, no robot is there in time, or, in
/// namespaced mode, another policy drives the robot. In compatible mode a robot that has a policy
/// cannot be told from none, and is waited for.
///
/// ```no_run
/// use std::time::Duration;
///
/// let config = "zenoh:?robot=arm-3&connect=tcp/router:7447".parse()?;
/// let transport = chiral_zenoh::connect(config, Some(Duration::from_secs(10))).wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(config: Config, timeout: Option<Duration>) -> Background<ZenohTransport> {
    Background::spawn(move |cancellation| {
        let mut connecting = Connecting::new(config, timeout, cancellation);
        loop {
            let session = connecting.open()?;
            let attempt = match connecting.config.robot().cloned() {
                None => connecting.probe(session),
                Some(robot) => connecting.request_admission(&session, &robot),
            };
            match attempt {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(last)) => connecting.wait_to_retry(last)?,
                Err(Error::Busy(_)) if connecting.may_be_free_soon() => {
                    cancellation.sleep(RETRY_INTERVAL)?;
                }
                Err(error) => return Err(error),
            }
        }
    })
}

/// How a [`Client`](chiral_proto::client::Client) is to be configured in compatible mode: messages
/// may come twice, as answers to the repeated requests of [`connect`], and a peer without this
/// crate may drop what a congested network does not take.
///
/// A request for metadata or for an observation is sent again after 2 s, longer than a large observation takes on a slow network; see
/// [`Lossy`](chiral_proto::client::Lossy) for what is never sent twice. A `reset` or `step` is not:
/// one that is lost ends with its deadline, by default after 10 s, and the robot may or may not
/// have done it.
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
    cancellation: &'a Cancellation,
    start: Instant,
    deadline: Option<Instant>,
    is_notice_logged: bool,
    /// Since when the robot has had another policy.
    busy_since: Option<Instant>,
}

impl<'a> Connecting<'a> {
    fn new(config: Config, timeout: Option<Duration>, cancellation: &'a Cancellation) -> Self {
        let start = Instant::now();
        let deadline = timeout.and_then(|timeout| start.checked_add(timeout));
        Self { config, cancellation, start, deadline, is_notice_logged: false, busy_since: None }
    }

    /// Waits before the next try, if there is time for one.
    fn wait_to_retry(&mut self, last: String) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now() + RETRY_INTERVAL) {
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
        if self.start.elapsed() >= NOTICE_AFTER && !self.is_notice_logged {
            self.is_notice_logged = true;
            tracing::warn!("still waiting for a robot at {}: {last}", self.config);
        }
        self.cancellation.sleep(RETRY_INTERVAL)
    }

    /// Whether the policy that drives the robot may be one that is about to leave.
    fn may_be_free_soon(&mut self) -> bool {
        self.busy_since.get_or_insert_with(Instant::now).elapsed() < HANDOVER_TIMEOUT
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
        let (state, writer) = self.declare(session, &keys).map_err(fail)?;
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
                return Ok(Err("the robot's server has closed the connection".to_owned()));
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
        let fail = |error: zenoh::Error| Error::open(&self.config, &error);
        let policy = session.zid().to_string();
        let token = session.liveliness().declare_token(keys::policy_token(robot, &policy));
        let token = token.wait().map_err(fail)?;
        let keys = Keys::session(robot, &policy);
        let (state, mut writer) = self.declare(session.clone(), &keys).map_err(fail)?;
        let request =
            session.get(keys::admission(robot)).payload(policy).timeout(ADMISSION_TIMEOUT);
        let replies = request.wait().map_err(fail)?;
        let Ok(reply) = replies.recv() else {
            return Ok(Err(format!("no robot named `{robot}` is on the network")));
        };
        let node = match reply.into_result() {
            Ok(sample) => sample.payload().to_bytes().into_owned(),
            Err(refusal) => {
                let why = refusal.payload().to_bytes();
                let why = String::from_utf8_lossy(&why).into_owned();
                // Zenoh's own error for a query that nobody has answered.
                if why == "Timeout" {
                    return Ok(Err(format!("the robot `{robot}` does not answer")));
                }
                return Err(Error::Busy(why));
            }
        };
        let node = String::from_utf8_lossy(&node).into_owned();
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

    /// Declares what a connection over these keys needs.
    fn declare(
        &self,
        session: Session,
        keys: &Keys,
    ) -> zenoh::Result<(Arc<TransportState>, Writer)> {
        let state = Arc::new(TransportState::new(self.config.limits.clone()));
        let (frame_target, close_target) = (Arc::clone(&state), Arc::clone(&state));
        let subscribers = subscribe(
            &session,
            &keys.s2c,
            move |frame| frame_target.receive(frame),
            move |message| close_target.close_received(message),
        )?;
        let frames = declare_publisher(&session, &keys.c2s, Role::Client)?;
        let closes = declare_publisher(&session, &keys::close(&keys.c2s), Role::Client)?;
        let watcher = Arc::clone(&state);
        let watch = watch_subscriber(&frames, move |is_subscribed| {
            watcher.subscription_reported(is_subscribed, "robot");
        })?;
        let (encoder, declared) = (Encoder::default(), Box::new((watch, subscribers)));
        Ok((state, Writer { frames, closes, encoder, declared, session }))
    }
}

fn start(state: Arc<TransportState>, writer: Writer) -> Result<ZenohTransport, Error> {
    ZenohTransport::start(state, writer, || {}).map_err(|error| Error::Thread(error.to_string()))
}
