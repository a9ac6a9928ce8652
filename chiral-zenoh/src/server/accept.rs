use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::link::Link;

/// The place of the policy that waits to be accepted.
#[derive(Default)]
pub(super) struct Accept(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    link: Option<Link>,
    waker: Option<Waker>,
}

impl Accept {
    /// A policy has come. One that nobody has accepted yet has left, or this one had not been let
    /// in: it makes room.
    pub(super) fn offer(&self, link: Link) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.link = Some(link);
        waiting.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Link> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = waiting.link.take() {
            return Poll::Ready(link);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
