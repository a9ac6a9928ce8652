//! Namespaced mode: the robot has keys of its own. A policy requests admission; it is given keys that
//! no other policy has, or is refused because another one drives the robot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use chiral_driver::client::CancelToken;
use zenoh::liveliness::LivelinessToken;
use zenoh::query::{ConsolidationMode, Query, QueryTarget, Queryable};
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use super::ServerContext;
use crate::authentication::{
    Challenge, Hello, Nonce, Parties, Proof, Request, Secret, SessionKeys, nonce,
};
use crate::background::sleep_until;
use crate::config::{Config, RobotName, Role};
use crate::error::Error;
use crate::keys::{self, Keys};
use crate::transport::{
    TransportState, Writer, ZenohTransport, declare_publisher, subscribe, watch_subscriber,
};

/// What Zenoh's callbacks and the connections report to the server's thread.
enum Event {
    /// A policy requests to drive the robot.
    AdmissionRequested(Query),
    /// Somebody requests the robot's metadata.
    MetadataRequested(Query),
    /// A policy's liveliness token has gone.
    Gone(String),
    /// Everything that the connection of this session had declared is undeclared.
    Ended(String),
    Stop,
}

/// Events that may wait. Only a flood of requests is longer; those that find no room get no answer.
const MAX_EVENTS: usize = 64;
/// How long to wait before a name that is taken is looked up again.
const NAME_RETRY: Duration = Duration::from_millis(200);
/// How long the network may take to tell whether a policy or a robot is on it.
const PRESENCE_TIMEOUT: Duration = Duration::from_millis(500);
/// Handshakes that may be under way. The oldest is given up for a newer one; its policy tries again.
const MAX_HANDSHAKES: usize = 256;

/// Accepts policies until the returned function is called.
pub(super) fn accept_policies(
    context: ServerContext,
    robot: &RobotName,
    cancel: &CancelToken,
) -> Result<impl FnOnce() + Send + Sync + use<>, Error> {
    let config = context.config.clone();
    let secret = context.secret.clone();
    let fail = |error: zenoh::Error| Error::open(&config, &error);
    let session = context.session.clone();
    let node = session.zid().to_string();
    let token = session.liveliness().declare_token(keys::robot_token(robot.as_str(), &node));
    let token = Arc::new(token.wait().map_err(fail)?);
    let (sender, events) = sync_channel(MAX_EVENTS);
    let gone = sender.clone();
    let policies = session
        .liveliness()
        .declare_subscriber(keys::policy_token(robot, "*"))
        .history(true)
        .callback(move |sample| {
            let policy = sample.key_expr().as_str().rsplit('/').next().unwrap_or_default();
            if sample.kind() == SampleKind::Delete {
                let _ = gone.try_send(Event::Gone(policy.to_owned()));
            }
        })
        .wait()
        .map_err(fail)?;
    let metadata_key = keys::metadata(robot.as_str());
    let metadata = declare_queryable(&session, metadata_key, &sender, Event::MetadataRequested);
    let admission_key = keys::admission(robot);
    let admission = declare_queryable(&session, admission_key, &sender, Event::AdmissionRequested);
    let declared = (admission.map_err(fail)?, metadata.map_err(fail)?, policies);
    let is_open = Arc::<AtomicBool>::default();
    let name = NameCheck {
        session: session.clone(),
        robot: robot.clone(),
        node: node.clone(),
        secret: secret.clone(),
    };
    let server = NamedServer {
        context,
        robot: robot.clone(),
        node,
        secret,
        token,
        is_open: Arc::clone(&is_open),
        events: sender.clone(),
        handshakes: VecDeque::new(),
        current: None,
    };
    let thread = std::thread::Builder::new().name("chiral-zenoh-server".to_owned());
    let thread = thread.spawn(move || {
        server.run(&events);
        drop(declared);
        drop(session);
    });
    let thread = thread.map_err(|error| Error::Thread(error.to_string()))?;
    let stop = move || {
        let _ = sender.send(Event::Stop);
        let _ = thread.join();
    };
    // It answers already, so that of two robots that start at once both know of each other.
    if let Err(error) = name.wait_until_free(&config, cancel) {
        stop();
        return Err(error);
    }
    is_open.store(true, Ordering::Relaxed);
    Ok(stop)
}

/// Whether another robot has the name: a policy would not know which it drives.
struct NameCheck {
    session: Session,
    robot: RobotName,
    node: String,
    secret: Option<Secret>,
}

impl NameCheck {
    /// A robot that crashed counts as present until its lease ends, so its name is waited for. One
    /// that has not answered by then is none: somebody else has declared its token.
    fn wait_until_free(&self, config: &Config, cancel: &CancelToken) -> Result<(), Error> {
        let until = Instant::now() + config.lease * 3 / 2;
        let fail = |error: zenoh::Error| Error::open(config, &error);
        while self.has_token_of_another().map_err(fail)? {
            if Instant::now() >= until {
                if self.another_answers(config)? {
                    return Err(Error::NameTaken(self.robot.to_string()));
                }
                tracing::warn!(
                    "found the token of another robot `{}` that does not answer, expected none: \
                     somebody may want to keep this one from starting",
                    self.robot
                );
                return Ok(());
            }
            sleep_until(cancel, Instant::now() + NAME_RETRY)?;
        }
        Ok(())
    }

    fn has_token_of_another(&self) -> zenoh::Result<bool> {
        let ours = keys::robot_token(self.robot.as_str(), &self.node);
        let tokens = self.session.liveliness().get(keys::robot_token(self.robot.as_str(), "*"));
        Ok(tokens
            .wait()?
            .iter()
            .filter_map(|reply| reply.into_result().ok())
            .any(|sample| sample.key_expr().as_str() != ours))
    }

    /// Whether another robot answers under the name and, if there is a secret, shows that it has it.
    fn another_answers(&self, config: &Config) -> Result<bool, Error> {
        let policy = self.node.clone();
        let hello = Hello { has_secret: self.secret.is_some(), nonce: nonce()?, policy };
        let query = self.session.get(keys::admission(&self.robot));
        let query = query.target(QueryTarget::All).consolidation(ConsolidationMode::None);
        let query = query.payload(hello.encode()).timeout(PRESENCE_TIMEOUT);
        let answers = query.wait().map_err(|error| Error::open(config, &error))?;
        let is_robot = |challenge: Challenge| {
            let parties = Parties {
                robot: self.robot.as_str(),
                node: &challenge.node,
                policy: &hello.policy,
                policy_nonce: &hello.nonce,
                robot_nonce: &challenge.nonce,
            };
            let keys = SessionKeys::new(self.secret.as_ref(), parties);
            challenge.node != self.node && keys.robot_proof() == challenge.proof
        };
        Ok(answers
            .iter()
            .filter_map(|reply| reply.into_result().ok())
            .filter_map(|sample| Challenge::decode(&sample.payload().to_bytes()))
            .any(is_robot))
    }
}

/// Passes queries on to the server's thread.
fn declare_queryable(
    session: &Session,
    key: String,
    events: &SyncSender<Event>,
    event: fn(Query) -> Event,
) -> zenoh::Result<Queryable<()>> {
    let events = events.clone();
    let queryable = session.declare_queryable(key);
    queryable
        .callback(move |query| {
            // A query that is dropped gets no answer, and is made again.
            let _ = events.try_send(event(query));
        })
        .wait()
}

/// Decides which policy drives the robot.
struct NamedServer {
    context: ServerContext,
    robot: RobotName,
    node: String,
    secret: Option<Secret>,
    /// Shows that the robot is there. The connection keeps it too: a server that accepts no more
    /// policies still serves the one that it has.
    token: Arc<LivelinessToken>,
    /// Whether policies are admitted: not before the name is known to be free.
    is_open: Arc<AtomicBool>,
    events: SyncSender<Event>,
    /// Policies that were sent a challenge, the oldest first.
    handshakes: VecDeque<Handshake>,
    current: Option<Current>,
}

/// A policy that was sent a challenge.
struct Handshake {
    policy: String,
    /// The policy's, by which its next request is matched.
    nonce: Nonce,
    keys: SessionKeys,
}

/// The policy that drives the robot.
struct Current {
    policy: String,
    session: String,
    connection: Arc<TransportState>,
}

impl NamedServer {
    fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv() {
            match event {
                Event::AdmissionRequested(query) => self.answer(&query),
                Event::MetadataRequested(query) => self.answer_metadata(&query),
                Event::Gone(policy) => self.policy_gone(&policy),
                Event::Ended(session) => {
                    self.current.take_if(|current| current.session == session);
                }
                Event::Stop => return,
            }
        }
    }

    fn policy_gone(&mut self, policy: &str) {
        let is_current = self.current.as_ref().is_some_and(|current| current.policy == policy);
        // Somebody else may have declared its token too, and taken it back.
        if is_current
            && !self.is_present(policy)
            && let Some(current) = self.current.take()
        {
            current.connection.lose("the policy has left the network");
        }
    }

    fn answer_metadata(&self, query: &Query) {
        let metadata = self.context.metadata.lock();
        let metadata = metadata.unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Err(error) = query.reply(keys::metadata(self.robot.as_str()), metadata).wait() {
            tracing::debug!("a request for the metadata is not answered: {error}");
        }
    }

    fn answer(&mut self, query: &Query) {
        let request = query.payload().map(zenoh::bytes::ZBytes::to_bytes);
        let answered = match request.and_then(|request| Request::decode(&request)) {
            None => {
                let why = "found a request of no known kind, expected one of version 2: use the same \
                           release of chiral on both sides";
                query.reply_err(why).wait()
            }
            Some(Request::Hello(hello)) => self.answer_hello(query, hello),
            Some(Request::Proof(proof)) => self.answer_proof(query, &proof),
        };
        if let Err(error) = answered {
            tracing::debug!("a policy that requests {} is not answered: {error}", self.robot);
        }
    }

    /// Shows a policy that the robot is there and has the secret, and challenges it to do the same.
    fn answer_hello(&mut self, query: &Query, hello: Hello) -> zenoh::Result<()> {
        let has_secret = self.secret.is_some();
        if has_secret && !hello.has_secret {
            let why = format!(
                "the robot `{}` has a secret, which its policies must have too: `secret-file`",
                self.robot
            );
            return query.reply_err(why).wait();
        }
        let nonce = nonce()?;
        let parties = Parties {
            robot: self.robot.as_str(),
            node: &self.node,
            policy: &hello.policy,
            policy_nonce: &hello.nonce,
            robot_nonce: &nonce,
        };
        let keys = SessionKeys::new(self.secret.as_ref(), parties);
        let proof = keys.robot_proof().into();
        if self.handshakes.len() >= MAX_HANDSHAKES {
            self.handshakes.pop_front();
        }
        self.handshakes.push_back(Handshake { policy: hello.policy, nonce: hello.nonce, keys });
        let challenge = Challenge { has_secret, nonce, proof, node: self.node.clone() };
        query.reply(keys::admission(&self.robot), challenge.encode()).wait()
    }

    /// Admits a policy, or refuses it with the reason.
    fn answer_proof(&mut self, query: &Query, proof: &Proof) -> zenoh::Result<()> {
        // Each challenge counts once: a policy's request that is sent again by another is none.
        let is_asked = |handshake: &Handshake| {
            handshake.nonce == proof.nonce && handshake.keys.policy_proof() == proof.proof
        };
        let position = self.handshakes.iter().position(is_asked);
        let Some(Handshake { policy, keys, .. }) =
            position.and_then(|position| self.handshakes.remove(position))
        else {
            return query.reply_err("found an answer to no challenge").wait();
        };
        let takes_over = self.context.takes_over.load(Ordering::Relaxed);
        let refusal = match &self.current {
            _ if !self.is_open.load(Ordering::Relaxed) => {
                format!("`{}` is not ready yet", self.robot)
            }
            Some(current) if !takes_over && !current.connection.is_ended() => {
                format!("`{}` is driven by another policy", self.robot)
            }
            // It would have the robot until its missing messages are noticed.
            _ if !self.is_present(&policy) => {
                format!("found no policy `{policy}` on the network")
            }
            _ => match self.admit(policy, &keys) {
                Ok(()) => {
                    let yes = keys.admitted().as_bytes().to_vec();
                    return query.reply(keys::admission(&self.robot), yes).wait();
                }
                Err(error) => format!("the robot failed: {error}"),
            },
        };
        query.reply_err(keys.refuse(&refusal)).wait()
    }

    /// Whether a policy's liveliness token is there; a policy declares it before its request.
    fn is_present(&self, policy: &str) -> bool {
        let token = keys::policy_token(&self.robot, policy);
        let found = self.context.session.liveliness().get(token).timeout(PRESENCE_TIMEOUT).wait();
        found.is_ok_and(|tokens| tokens.iter().any(|reply| reply.into_result().is_ok()))
    }

    fn admit(&mut self, policy: String, session_keys: &SessionKeys) -> zenoh::Result<()> {
        let session_id = session_keys.session_id();
        let keys = Keys::session(&self.robot, &session_id);
        let session = &self.context.session;
        let limits = self.context.config.limits.clone();
        let verifiers = session_keys.verifiers(Role::Server);
        let connection = Arc::new(TransportState::authenticated(limits, verifiers));
        let (frame_target, close_target) = (Arc::clone(&connection), Arc::clone(&connection));
        let subscribers = subscribe(
            session,
            &keys.c2s,
            move |frame| frame_target.receive(frame),
            move |message| close_target.receive_close(message),
        )?;
        let frames = declare_publisher(session, &keys.s2c, Role::Server)?;
        let closes = declare_publisher(session, &keys::close(&keys.s2c), Role::Server)?;
        let watcher = Arc::clone(&connection);
        let watch = watch_subscriber(&frames, move |is_subscribed| {
            watcher.subscription_reported(is_subscribed, "policy");
        })?;
        let writer = Writer {
            frames,
            closes,
            signers: Some(session_keys.signers(Role::Server)),
            encoder: self.context.encoder.clone(),
            declared: Box::new((watch, subscribers, Arc::clone(&self.token))),
            session: session.clone(),
        };
        let (events, id) = (self.events.clone(), session_id.clone());
        let ended = move || {
            let _ = events.send(Event::Ended(id));
        };
        let transport = ZenohTransport::start(Arc::clone(&connection), writer, ended)?;
        self.current = Some(Current { policy, session: session_id, connection });
        self.context.accept_queue.push(transport);
        Ok(())
    }
}
