//! Peers that know two keys and nothing else.
//!
//! Who publishes cannot be told from a message, so Zenoh is made to let one peer in at a time, and
//! a policy is there as long as somebody subscribes to what the robot publishes.

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
use crate::link::{Link, Shared, Wire, declare, receive, watch};

/// What Zenoh's callbacks know. It holds nothing that holds a callback.
struct Desk {
    accept: Arc<Accept>,
    publisher: Arc<Publisher<'static>>,
    farewells: Arc<Publisher<'static>>,
    layout: Layout,
    limits: Limits,
    /// What the link to a policy must keep.
    kept: OnceLock<Weak<Kept>>,
    state: Mutex<State>,
}

/// What a link must keep, and the session last.
struct Kept {
    _watch: MatchingListener<()>,
    _subscribers: [Subscriber<()>; 2],
    session: Session,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Shared>>,
    /// A policy subscribes to what the robot publishes.
    is_heard: bool,
    /// The robot has closed the link to the policy that is still there: it is to ask anew.
    is_over: bool,
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
        state: Mutex::default(),
    });
    let of_watch = Arc::clone(&desk);
    let watch = watch(&desk.publisher, move |is_heard| of_watch.heard(is_heard))?;
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, is_heard: bool) {
        let mut state = self.lock();
        state.is_heard = is_heard;
        if !is_heard {
            state.is_over = false;
        }
        let current = if is_heard { state.current.clone() } else { state.current.take() };
        drop(state);
        if let Some(link) = current {
            link.heard(is_heard, "policy");
        }
    }

    fn receive(&self, payload: &ZBytes) {
        let mut state = self.lock();
        if let Some(link) = state.current.as_ref().filter(|link| link.is_over()) {
            // What was sent before the policy has heard of its end is not how it asks anew.
            if !link.is_finished() {
                return;
            }
            state.current = None;
            state.is_over = state.is_heard;
        }
        if let Some(link) = state.current.clone() {
            drop(state);
            link.receive(payload);
            return;
        }
        if state.is_over && !self.asks_anew(payload) {
            return;
        }
        state.is_over = false;
        let link = Arc::new(Shared::new(self.limits.clone()));
        state.current = Some(Arc::clone(&link));
        let is_heard = state.is_heard;
        drop(state);
        link.heard(is_heard, "policy");
        link.receive(payload);
        self.begin(link);
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
    fn asks_anew(&self, payload: &ZBytes) -> bool {
        if payload.len() > self.limits.frame_len {
            return false;
        }
        let frame = Frame::parse(payload.to_bytes().into_owned().into(), &self.limits);
        let message = frame.and_then(|frame| ClientMessage::decode(&frame, &self.limits));
        matches!(message, Ok(ClientMessage::Metadata))
    }

    fn farewell(&self, goodbye: &ZBytes) {
        let current = self.lock().current.clone();
        if let Some(link) = current {
            link.peer_closed(goodbye);
        }
    }
}
