use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::link::Link;

/// Connections that may wait to be accepted. A policy that has gone in the meantime stays among
/// them, for what it sent before.
const BACKLOG: usize = 16;

/// The connections of policies that wait to be accepted, in order.
#[derive(Default)]
pub(super) struct Accept(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    links: VecDeque<Link>,
    waker: Option<Waker>,
}

impl Accept {
    /// A policy has connected. When too many wait, the oldest one is dropped.
    pub(super) fn offer(&self, link: Link) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.links.len() >= BACKLOG {
            tracing::warn!(
                "a policy is dropped: found {BACKLOG} that wait to be accepted, expected them to \
                 be accepted sooner"
            );
            waiting.links.pop_front();
        }
        waiting.links.push_back(link);
        waiting.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Link> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = waiting.links.pop_front() {
            return Poll::Ready(link);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
