//! Namespaced mode: the robot has keys of its own. A policy requests admission; it is given keys that
//! no other policy has, or is refused because another one drives the robot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use zenoh::liveliness::LivelinessToken;
use zenoh::query::{Query, Queryable};
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use super::ServerContext;
use crate::background::Cancellation;
use crate::config::{RobotName, Role};
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
    /// Everything that the connection to this policy had declared is undeclared.
    Ended(String),
    Stop,
}

/// Events that may wait. Only a flood of requests is longer; those that find no room get no answer.
const MAX_EVENTS: usize = 64;
/// How long to wait before a name that is taken is looked up again.
const NAME_RETRY: Duration = Duration::from_millis(200);
/// How long the network may take to tell whether a policy is on it.
const PRESENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts policies until the returned function is called.
pub(super) fn accept_policies(
    context: ServerContext,
    robot: &RobotName,
    cancellation: &Cancellation,
) -> Result<impl FnOnce() + Send + Sync + use<>, Error> {
    let config = context.config.clone();
    let fail = |error: zenoh::Error| Error::open(&config, &error);
    let session = context.session.clone();
    let node = session.zid().to_string();
    let token = session.liveliness().declare_token(keys::robot_token(robot.as_str(), &node));
    let token = Arc::new(token.wait().map_err(fail)?);
    check_name_is_free(&context, robot, &node, cancellation)?;
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
    let server =
        NamedServer { context, robot: robot.clone(), token, events: sender.clone(), current: None };
    let thread = std::thread::Builder::new().name("chiral-zenoh-server".to_owned());
    let thread = thread.spawn(move || {
        server.run(&events);
        drop(declared);
        drop(session);
    });
    let thread = thread.map_err(|error| Error::Thread(error.to_string()))?;
    Ok(move || {
        let _ = sender.send(Event::Stop);
        let _ = thread.join();
    })
}

/// Two robots of one name would share the policies' actions. One that crashed counts as present
/// until its lease ends, so its name is waited for.
fn check_name_is_free(
    context: &ServerContext,
    robot: &RobotName,
    node: &str,
    cancellation: &Cancellation,
) -> Result<(), Error> {
    let until = Instant::now() + context.config.lease * 3 / 2;
    let ours = keys::robot_token(robot.as_str(), node);
    loop {
        let tokens = context.session.liveliness().get(keys::robot_token(robot.as_str(), "*"));
        let tokens = tokens.wait().map_err(|error| Error::open(&context.config, &error))?;
        let is_taken = tokens
            .iter()
            .filter_map(|reply| reply.into_result().ok())
            .any(|sample| sample.key_expr().as_str() != ours);
        if !is_taken {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::NameTaken(robot.to_string()));
        }
        cancellation.sleep(NAME_RETRY)?;
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
    /// Shows that the robot is there. The connection keeps it too: a server that accepts no more
    /// policies still serves the one that it has.
    token: Arc<LivelinessToken>,
    events: SyncSender<Event>,
    current: Option<(String, Arc<TransportState>)>,
}

impl NamedServer {
    fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv() {
            match event {
                Event::AdmissionRequested(query) => self.answer_admission(&query),
                Event::MetadataRequested(query) => self.answer_metadata(&query),
                Event::Gone(policy) => {
                    if let Some((_, connection)) = self.take(&policy) {
                        connection.lose("the policy has left the network");
                    }
                }
                Event::Ended(policy) => drop(self.take(&policy)),
                Event::Stop => return,
            }
        }
    }

    fn take(&mut self, policy: &str) -> Option<(String, Arc<TransportState>)> {
        self.current.take_if(|(current, _)| current == policy)
    }

    fn answer_metadata(&self, query: &Query) {
        let metadata = self.context.metadata.lock();
        let metadata = metadata.unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Err(error) = query.reply(keys::metadata(self.robot.as_str()), metadata).wait() {
            tracing::debug!("a request for the metadata is not answered: {error}");
        }
    }

    /// Admits a policy, or refuses it with the reason.
    fn answer_admission(&mut self, query: &Query) {
        let policy = query.payload().and_then(|policy| policy.try_to_string().ok());
        let policy = policy.filter(|policy| is_id(policy));
        let takes_over = self.context.takes_over.load(Ordering::Relaxed);
        let answered = match (policy, &self.current) {
            (None, _) => query.reply_err("found no policy's id in the request").wait(),
            (Some(_), Some((_, connection))) if !takes_over && !connection.is_ended() => {
                query.reply_err(format!("`{}` is driven by another policy", self.robot)).wait()
            }
            // It would have the robot until its missing messages are noticed.
            (Some(policy), _) if !self.is_present(&policy) => {
                query.reply_err(format!("found no policy `{policy}` on the network")).wait()
            }
            (Some(policy), _) => match self.admit(&policy) {
                // With the node whose token shows that the robot is there.
                Ok(()) => {
                    let node = self.context.session.zid().to_string();
                    query.reply(keys::admission(&self.robot), node).wait()
                }
                Err(error) => query.reply_err(format!("the robot failed: {error}")).wait(),
            },
        };
        if let Err(error) = answered {
            tracing::debug!("a policy that requests {} is not answered: {error}", self.robot);
        }
    }

    /// Whether a policy's liveliness token is there; a policy declares it before its request.
    fn is_present(&self, policy: &str) -> bool {
        let token = keys::policy_token(&self.robot, policy);
        let found = self.context.session.liveliness().get(token).timeout(PRESENCE_TIMEOUT).wait();
        found.is_ok_and(|tokens| tokens.iter().any(|reply| reply.into_result().is_ok()))
    }

    fn admit(&mut self, policy: &str) -> zenoh::Result<()> {
        let keys = Keys::session(&self.robot, policy);
        let session = &self.context.session;
        let connection = Arc::new(TransportState::new(self.context.config.limits.clone()));
        let (frame_target, close_target) = (Arc::clone(&connection), Arc::clone(&connection));
        let subscribers = subscribe(
            session,
            &keys.c2s,
            move |frame| frame_target.receive(frame),
            move |message| close_target.close_received(message),
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
            encoder: self.context.encoder.clone(),
            declared: Box::new((watch, subscribers, Arc::clone(&self.token))),
            session: session.clone(),
        };
        let (events, id) = (self.events.clone(), policy.to_owned());
        let ended = move || {
            let _ = events.send(Event::Ended(id));
        };
        let transport = ZenohTransport::start(Arc::clone(&connection), writer, ended)?;
        self.current = Some((policy.to_owned(), connection));
        self.context.accept_queue.push(transport);
        Ok(())
    }
}

/// Whether a text can be a policy's id: it becomes a part of keys.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
