//! The policy's side: finding the robot, and being admitted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_driver::client::{ClientSettings, WaitForServer};
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

/// How often the robot is asked whether it is there, in compatible mode.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a robot may take to admit a policy.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(2);
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
    Background::spawn(move |cancellation| {
        let mut connecting = Connecting { config, cancellation, wait };
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
    cancellation: &'a Cancellation,
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
        self.cancellation.sleep(at.saturating_duration_since(Instant::now()))
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
