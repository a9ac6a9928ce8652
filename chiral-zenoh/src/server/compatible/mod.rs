//! Compatible mode: all policies share two keys.
//!
//! A message does not say who published it, so Zenoh is configured to accept one peer at a time, and
//! a policy counts as connected while somebody subscribes to what the robot publishes.

mod occupancy;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use chiral_proto::wire::{ClientMessage, Frame, Limits};
use zenoh::Session;
use zenoh::bytes::ZBytes;
use zenoh::matching::MatchingListener;
use zenoh::pubsub::{Publisher, Subscriber};

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

    fn receive(&self, payload: &ZBytes) {
        let new_connection = || Arc::new(TransportState::new(self.limits.clone()));
        let route = self.lock().route(|| self.is_metadata_request(payload), new_connection);
        match route {
            Route::Deliver(connection) => connection.receive(payload),
            Route::Begin(connection) => {
                connection.receive(payload);
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
            encoder: self.encoder.clone(),
            session: declared.session.clone(),
            declared: Box::new(declared),
        };
        match ZenohTransport::start(Arc::clone(connection), writer, || {}) {
            Ok(transport) => self.accept_queue.push(transport),
            Err(error) => {
                tracing::error!("a policy is not served: no thread can be started: {error}");
                connection.lose("the robot has no thread for the connection");
            }
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

    fn close_received(&self, message: &ZBytes) {
        let connection = self.lock().connection().cloned();
        if let Some(connection) = connection {
            connection.close_received(message);
        }
    }
}
