//! Robots with keys of their own. A policy asks to drive the robot and is told yes, and then has
//! keys that no other policy has, or that another one is driving.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use zenoh::liveliness::LivelinessToken;
use zenoh::query::{Query, Queryable};
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use super::Post;
use crate::config::{RobotName, Role};
use crate::error::Error;
use crate::keys::{self, Keys};
use crate::link::{Link, Shared, Wire, declare, receive, watch};
use crate::opening::GivenUp;

/// What the robot's desk is told by Zenoh's callbacks and by its links.
enum Note {
    /// A policy asks to drive the robot.
    Asked(Query),
    /// Somebody asks what the robot is.
    Metadata(Query),
    /// A policy's liveliness token has gone.
    Gone(String),
    /// Everything of the link to this policy has been taken back.
    Ended(String),
    Stop,
}

/// Notes that may wait. Only a flood of questions fills it, and what does not fit is refused.
const NOTES: usize = 64;
/// How often a name that is taken is looked up again.
const AGAIN: Duration = Duration::from_millis(200);

/// Lets policies in until what is returned is called.
pub(super) fn wait_for_policies(
    post: Post,
    robot: &RobotName,
    given_up: &GivenUp,
) -> Result<impl FnOnce() + Send + Sync + use<>, Error> {
    let config = post.config.clone();
    let fail = |error: zenoh::Error| Error::open(&config, &error);
    let session = post.session.clone();
    let node = session.zid().to_string();
    let token = session.liveliness().declare_token(keys::robot_token(robot.as_str(), &node));
    let token = Arc::new(token.wait().map_err(fail)?);
    be_the_only_one(&post, robot, &node, given_up)?;
    let (sender, notes) = sync_channel(NOTES);
    let gone = sender.clone();
    let policies = session
        .liveliness()
        .declare_subscriber(keys::policy_token(robot, "*"))
        .history(true)
        .callback(move |sample| {
            let policy = sample.key_expr().as_str().rsplit('/').next().unwrap_or_default();
            if sample.kind() == SampleKind::Delete {
                let _ = gone.try_send(Note::Gone(policy.to_owned()));
            }
        })
        .wait()
        .map_err(fail)?;
    let metadata = answer(&session, keys::metadata(robot.as_str()), &sender, Note::Metadata);
    let asked = answer(&session, keys::ask(robot), &sender, Note::Asked);
    let declared = (asked.map_err(fail)?, metadata.map_err(fail)?, policies);
    let desk = Desk { post, robot: robot.clone(), token, notes: sender.clone(), current: None };
    let thread = std::thread::Builder::new().name("chiral-zenoh-desk".to_owned());
    let thread = thread.spawn(move || {
        desk.work(&notes);
        drop(declared);
        drop(session);
    });
    let thread = thread.map_err(|error| Error::Thread(error.to_string()))?;
    Ok(move || {
        let _ = sender.send(Note::Stop);
        let _ = thread.join();
    })
}

/// Two robots of one name would share the policies' actions. One that crashed is still believed to
/// be there for its lease, so its name is waited for.
fn be_the_only_one(
    post: &Post,
    robot: &RobotName,
    node: &str,
    given_up: &GivenUp,
) -> Result<(), Error> {
    let until = Instant::now() + post.config.lease * 3 / 2;
    let ours = keys::robot_token(robot.as_str(), node);
    loop {
        let tokens = post.session.liveliness().get(keys::robot_token(robot.as_str(), "*"));
        let tokens = tokens.wait().map_err(|error| Error::open(&post.config, &error))?;
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
        given_up.pause(AGAIN)?;
    }
}

/// Passes questions on to the desk, and refuses those that are too many.
fn answer(
    session: &Session,
    key: String,
    notes: &SyncSender<Note>,
    note: fn(Query) -> Note,
) -> zenoh::Result<Queryable<()>> {
    let notes = notes.clone();
    let queryable = session.declare_queryable(key);
    queryable
        .callback(move |query| {
            // A question that is dropped is answered with nothing, and is asked again.
            let _ = notes.try_send(note(query));
        })
        .wait()
}

/// Who decides which policy drives the robot.
struct Desk {
    post: Post,
    robot: RobotName,
    /// That the robot is there. The last policy keeps it too: a server that takes no more policies
    /// has not left the one that it is answering.
    token: Arc<LivelinessToken>,
    notes: SyncSender<Note>,
    current: Option<(String, Arc<Shared>)>,
}

impl Desk {
    fn work(mut self, notes: &Receiver<Note>) {
        while let Ok(note) = notes.recv() {
            match note {
                Note::Asked(query) => self.asked(&query),
                Note::Metadata(query) => self.tell(&query),
                Note::Gone(policy) => {
                    if let Some((_, link)) = self.take(&policy) {
                        link.lose("the policy has left the network");
                    }
                }
                Note::Ended(policy) => drop(self.take(&policy)),
                Note::Stop => return,
            }
        }
    }

    fn take(&mut self, policy: &str) -> Option<(String, Arc<Shared>)> {
        self.current.take_if(|(current, _)| current == policy)
    }

    fn tell(&self, query: &Query) {
        let metadata = self.post.metadata.lock();
        let metadata = metadata.unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Err(error) = query.reply(keys::metadata(self.robot.as_str()), metadata).wait() {
            tracing::debug!("a question for the metadata is not answered: {error}");
        }
    }

    /// Lets a policy in, or tells it why not.
    fn asked(&mut self, query: &Query) {
        let policy = query.payload().and_then(|policy| policy.try_to_string().ok());
        let policy = policy.filter(|policy| is_id(policy));
        let answered = match (policy, &self.current) {
            (None, _) => query.reply_err("found no policy's id in the question").wait(),
            (Some(_), Some((_, link))) if !link.is_over() => {
                query.reply_err(format!("`{}` is driven by another policy", self.robot)).wait()
            }
            (Some(policy), _) => match self.let_in(&policy) {
                // Which token to watch.
                Ok(()) => {
                    let node = self.post.session.zid().to_string();
                    query.reply(keys::ask(&self.robot), node).wait()
                }
                Err(error) => query.reply_err(format!("the robot failed: {error}")).wait(),
            },
        };
        if let Err(error) = answered {
            tracing::debug!("a policy that asks for {} is not answered: {error}", self.robot);
        }
    }

    fn let_in(&mut self, policy: &str) -> zenoh::Result<()> {
        let keys = Keys::session(&self.robot, policy);
        let session = &self.post.session;
        let shared = Arc::new(Shared::new(self.post.config.limits.clone()));
        let (of_frames, of_farewells) = (Arc::clone(&shared), Arc::clone(&shared));
        let subscribers = receive(
            session,
            &keys.c2s,
            move |frame| of_frames.receive(frame),
            move |farewell| of_farewells.peer_closed(farewell),
        )?;
        let publisher = declare(session, &keys.s2c, Role::Server)?;
        let farewells = declare(session, &keys::close(&keys.s2c), Role::Server)?;
        let of_watch = Arc::clone(&shared);
        let watch = watch(&publisher, move |is_heard| of_watch.heard(is_heard, "policy"))?;
        let wire = Wire {
            publisher,
            farewells,
            layout: self.post.layout.clone(),
            keep: Box::new((watch, subscribers, Arc::clone(&self.token))),
            session: session.clone(),
        };
        let (notes, id) = (self.notes.clone(), policy.to_owned());
        let ended = move || {
            let _ = notes.send(Note::Ended(id));
        };
        let link = Link::start(Arc::clone(&shared), wire, ended)?;
        self.current = Some((policy.to_owned(), shared));
        self.post.accept.offer(link);
        Ok(())
    }
}

/// Whether a text can be a policy's id: it becomes a part of keys.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
