//! Peers that know two keys and nothing else.
//!
//! Who publishes cannot be told from a message, so Zenoh is made to let one peer in at a time, and
//! a policy is there as long as somebody subscribes to what the robot publishes.

mod occupancy;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use chiral_proto::wire::{ClientMessage, Frame, Limits};
use zenoh::Session;
use zenoh::bytes::ZBytes;
use zenoh::matching::MatchingListener;
use zenoh::pubsub::{Publisher, Subscriber};

use super::{Accept, Post};
use crate::config::Role;
use crate::keys::{self, Keys};
use crate::layout::Layout;
use crate::link::{Link, Shared, Wire, declare, is_matched, receive, watch};
use occupancy::{Change, Occupancy, Route};

/// What Zenoh's callbacks know. It holds nothing that holds a callback.
struct Desk {
    accept: Arc<Accept>,
    publisher: Arc<Publisher<'static>>,
    farewells: Arc<Publisher<'static>>,
    layout: Layout,
    limits: Limits,
    /// What the link to a policy must keep.
    kept: OnceLock<Weak<Kept>>,
    occupancy: Mutex<Occupancy>,
}

/// What a link must keep, and the session last.
struct Kept {
    _watch: MatchingListener<()>,
    _subscribers: [Subscriber<()>; 2],
    session: Session,
}

/// Lets policies in until what is returned is called.
pub(super) fn wait_for_policies(post: Post) -> zenoh::Result<impl FnOnce() + Send + Sync> {
    let keys = Keys::compatible();
    let Post { session, accept, layout, config, .. } = post;
    let desk = Arc::new(Desk {
        accept,
        publisher: declare(&session, &keys.s2c, Role::Server)?,
        farewells: declare(&session, &keys::close(&keys.s2c), Role::Server)?,
        layout,
        limits: config.limits.clone(),
        kept: OnceLock::new(),
        occupancy: Mutex::new(Occupancy::new()),
    });
    let of_watch = Arc::clone(&desk);
    let watch = watch(&desk.publisher, move |is_heard| of_watch.subscription_changed(is_heard))?;
    let (of_frames, of_farewells) = (Arc::clone(&desk), Arc::clone(&desk));
    let subscribers = receive(
        &session,
        &keys.c2s,
        move |frame| of_frames.receive(frame),
        move |farewell| of_farewells.farewell(farewell),
    )?;
    let kept = Arc::new(Kept { _watch: watch, _subscribers: subscribers, session });
    desk.kept.get_or_init(|| Arc::downgrade(&kept));
    Ok(move || drop((desk, kept)))
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zenoh reports that a policy has begun or ceased to subscribe.
    fn subscription_changed(&self, reported: bool) {
        let change = loop {
            let begun = self.lock().begun();
            // Not under the lock: Zenoh has locks of its own here.
            let is_subscribed = is_matched(&self.publisher);
            let mut occupancy = self.lock();
            if occupancy.begun() == begun {
                break occupancy.subscription_changed(reported, is_subscribed);
            }
        };
        match change {
            Change::None => {}
            Change::Present(link) => link.heard(true, "policy"),
            Change::Left(link) => link.heard(false, "policy"),
        }
    }

    fn receive(&self, payload: &ZBytes) {
        let connection = || Arc::new(Shared::new(self.limits.clone()));
        let route = self.lock().route(|| self.is_metadata_request(payload), connection);
        match route {
            Route::Deliver(link) => link.receive(payload),
            Route::Begin(link) => {
                link.receive(payload);
                self.begin(link);
            }
            Route::Drop => {}
        }
    }

    fn begin(&self, shared: Arc<Shared>) {
        let Some(kept) = self.kept.get().and_then(Weak::upgrade) else { return };
        let wire = Wire {
            publisher: Arc::clone(&self.publisher),
            farewells: Arc::clone(&self.farewells),
            layout: self.layout.clone(),
            session: kept.session.clone(),
            keep: Box::new(kept),
        };
        match Link::start(shared, wire, || {}) {
            Ok(link) => self.accept.offer(link),
            Err(error) => tracing::error!("a policy is turned away: no thread for it: {error}"),
        }
    }

    /// Whether a message is the one with which a policy asks who is there.
    fn is_metadata_request(&self, payload: &ZBytes) -> bool {
        if payload.len() > self.limits.frame_len {
            return false;
        }
        let frame = Frame::parse(payload.to_bytes().into_owned().into(), &self.limits);
        let message = frame.and_then(|frame| ClientMessage::decode(&frame, &self.limits));
        matches!(message, Ok(ClientMessage::Metadata))
    }

    fn farewell(&self, goodbye: &ZBytes) {
        let current = self.lock().connection().cloned();
        if let Some(link) = current {
            link.peer_closed(goodbye);
        }
    }
}
