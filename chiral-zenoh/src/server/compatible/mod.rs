//! Compatible mode: all policies share two keys.
//!
//! A message does not say who published it, so Zenoh is configured to accept one peer at a time, and
//! a policy counts as connected while somebody subscribes to what the robot publishes.

mod occupancy;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use chiral_driver::Transport as _;
use chiral_proto::wire::{ClientMessage, Frame, Limits};
use chiral_proto::ws::CloseCode;
use zenoh::bytes::ZBytes;
use zenoh::matching::MatchingListener;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::sample::Sample;
use zenoh::{Session, Wait};

use super::{AcceptQueue, ServerContext};
use crate::config::Role;
use crate::encode::Encoder;
use crate::keys::{self, Keys};
use crate::transport::{
    TransportState, Writer, ZenohTransport, declare_publisher, has_subscriber, subscribe,
    watch_subscriber,
};
use occupancy::{Change, Occupancy, Route};

/// The state behind Zenoh's callbacks. It owns none of what owns them, or it would never be dropped.
struct CompatibleServer {
    accept_queue: Arc<AcceptQueue>,
    frames: Arc<Publisher<'static>>,
    closes: Arc<Publisher<'static>>,
    encoder: Encoder,
    limits: Limits,
    /// What each connection keeps alive.
    declared: OnceLock<Weak<Declared>>,
    occupancy: Mutex<Occupancy>,
}

/// What is declared while the server or one of its connections is there. The session is last, so
/// that it is dropped last.
struct Declared {
    _watch: MatchingListener<()>,
    _subscribers: [Subscriber<()>; 2],
    session: Session,
}

/// Accepts policies until the returned function is called.
pub(super) fn accept_policies(
    context: ServerContext,
) -> zenoh::Result<impl FnOnce() + Send + Sync> {
    let keys = Keys::compatible();
    let ServerContext { session, accept_queue, encoder, config, .. } = context;
    let server = Arc::new(CompatibleServer {
        accept_queue,
        frames: declare_publisher(&session, &keys.s2c, Role::Server)?,
        closes: declare_publisher(&session, &keys::close(&keys.s2c), Role::Server)?,
        encoder,
        limits: config.limits.clone(),
        declared: OnceLock::new(),
        occupancy: Mutex::new(Occupancy::new()),
    });
    let watcher = Arc::clone(&server);
    let watch = watch_subscriber(&server.frames, move |is_subscribed| {
        watcher.subscription_reported(is_subscribed);
    })?;
    let (frame_target, close_target) = (Arc::clone(&server), Arc::clone(&server));
    let subscribers = subscribe(
        &session,
        &keys.c2s,
        move |frame| frame_target.receive(frame),
        move |message| close_target.close_received(message),
    )?;
    let declared = Arc::new(Declared { _watch: watch, _subscribers: subscribers, session });
    server.declared.get_or_init(|| Arc::downgrade(&declared));
    Ok(move || drop((server, declared)))
}

impl CompatibleServer {
    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zenoh reports that a policy has begun or ceased to subscribe.
    fn subscription_reported(&self, reported: bool) {
        let change = loop {
            let begun = self.lock().begun();
            // Not under the lock: Zenoh takes locks of its own for this.
            let is_subscribed = has_subscriber(&self.frames);
            let mut occupancy = self.lock();
            if occupancy.begun() == begun {
                break occupancy.subscription_reported(reported, is_subscribed);
            }
        };
        match change {
            Change::None => {}
            Change::Present(connection) => connection.subscription_reported(true, "policy"),
            Change::Left(connection) => connection.lose("the policy has left the network"),
        }
    }

    fn receive(&self, sample: &Sample) {
        let payload = sample.payload();
        let new_connection = || Arc::new(TransportState::new(self.limits.clone()));
        let route = self.lock().route(|| self.is_metadata_request(payload), new_connection);
        match route {
            Route::Deliver(connection) => connection.receive(sample),
            Route::Begin(connection) => {
                connection.receive(sample);
                self.begin(&connection);
            }
            Route::Drop => {}
        }
    }

    fn begin(&self, connection: &Arc<TransportState>) {
        let Some(declared) = self.declared.get().and_then(Weak::upgrade) else { return };
        let writer = Writer {
            frames: Arc::clone(&self.frames),
            closes: Arc::clone(&self.closes),
            signers: None,
            encoder: self.encoder.clone(),
            session: declared.session.clone(),
            declared: Box::new(declared),
        };
        let (accepted, accept_queue) = (Arc::clone(connection), Arc::clone(&self.accept_queue));
        // Zenoh blocks when it is asked who is connected.
        let thread = std::thread::Builder::new().name("chiral-zenoh-accept".to_owned());
        let started = thread.spawn(move || {
            let is_behind_router = is_behind_router(&writer.session);
            match ZenohTransport::start(Arc::clone(&accepted), writer, || {}) {
                Ok(transport) if is_behind_router => refuse(transport),
                Ok(transport) => accept_queue.push(transport),
                Err(error) => no_thread(&accepted, &error),
            }
        });
        if let Err(error) = started {
            no_thread(connection, &error);
        }
    }

    fn is_metadata_request(&self, payload: &ZBytes) -> bool {
        if payload.len() > self.limits.frame_len {
            return false;
        }
        let frame = Frame::parse(payload.to_bytes().into_owned().into(), &self.limits);
        let message = frame.and_then(|frame| ClientMessage::decode(&frame, &self.limits));
        matches!(message, Ok(ClientMessage::Metadata))
    }

    fn close_received(&self, sample: &Sample) {
        let connection = self.lock().connection().cloned();
        if let Some(connection) = connection {
            connection.receive_close(sample);
        }
    }
}

/// Whether a router has connected to the robot. Whoever is behind it shares the robot's two keys.
fn is_behind_router(session: &Session) -> bool {
    session.info().routers_zid().wait().next().is_some()
}

fn refuse(mut transport: ZenohTransport) {
    let why = "found a Zenoh router between the policy and a robot without a name, expected a direct \
               connection: whoever is behind the router could drive the robot. Give the robot a name \
               (`robot=NAME`), or connect the policy to the robot itself";
    tracing::error!("a policy is refused: {why}");
    transport.close(Instant::now(), CloseCode::POLICY, why);
}

fn no_thread(connection: &TransportState, error: &std::io::Error) {
    tracing::error!("a policy is not served: no thread can be started: {error}");
    connection.lose("the robot has no thread for the connection");
}
