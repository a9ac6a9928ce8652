use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::transport::ZenohTransport;

/// Connections that may wait to be accepted.
const CAPACITY: usize = 16;

/// Connections that wait to be accepted, in order. Those of policies that have left meanwhile stay
/// among them, for what they sent before.
#[derive(Default)]
pub(super) struct AcceptQueue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    transports: VecDeque<ZenohTransport>,
    waker: Option<Waker>,
}

impl AcceptQueue {
    /// A policy has connected. When too many wait, the oldest one is dropped.
    pub(super) fn push(&self, transport: ZenohTransport) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.transports.len() >= CAPACITY {
            tracing::warn!(
                "a policy is dropped: found {CAPACITY} that wait to be accepted, expected the \
                 server to accept them sooner"
            );
            waiting.transports.pop_front();
        }
        waiting.transports.push_back(transport);
        waiting.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<ZenohTransport> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = waiting.transports.pop_front() {
            return Poll::Ready(transport);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
