//! What the reading half has to tell the writing half.

use bytes::Bytes;

use super::close::CloseCode;
use super::error::Error;
use crate::text::for_peer;

/// Something that the reading half found and the writing half must know: a sign of life, a ping to
/// answer, the peer's close, an error that needs a close frame.
///
/// Hand every one of them to [`Writer::handle`](super::Writer::handle) without looking at it. When
/// the writing half is busy in another thread, keep them in one mailbox: [`merge`](Self::merge)
/// makes one of two, so that a flood of pings needs no memory. The default is a sign of life alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "give it to `Writer::handle`, or pings stay unanswered and the peer seems dead"]
pub struct Control {
    /// The payload of the latest ping.
    pub(super) ping: Option<Bytes>,
    pub(super) end: Option<Ending>,
}

/// How the receiving direction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The peer's close frame, to be answered with its code.
    Closed(CloseCode),
    /// The peer broke the protocol; it is told, and its answer not awaited.
    Failed { code: CloseCode, reason: String },
    /// The stream ended.
    Lost,
}

impl Control {
    /// A sign of life.
    pub(super) fn alive() -> Self {
        Self::default()
    }

    pub(super) fn ping(payload: &[u8]) -> Self {
        Self { ping: Some(Bytes::copy_from_slice(payload)), end: None }
    }

    pub(super) fn end(error: &Error) -> Self {
        let end = match error {
            Error::Closed { code, .. } => Ending::Closed(*code),
            Error::Lost { .. } => Ending::Lost,
            broken => {
                Ending::Failed { code: broken.close_code(), reason: for_peer(&broken.to_string()) }
            }
        };
        Self { ping: None, end: Some(end) }
    }

    /// Whether it says only that the peer lives: then it need not wake a sleeping writing half, as
    /// long as that gets it before its next
    /// [`handle_timeout`](super::Writer::handle_timeout).
    pub fn is_sign_of_life(&self) -> bool {
        *self == Self::alive()
    }

    /// Adds a later one to this one. Only the latest ping needs an answer.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use chiral_proto::ws::{Control, Incoming};
    ///
    /// // Between a reading and a writing thread, whose owner wakes up by it.
    /// let mailbox: Mutex<Option<Control>> = Mutex::new(None);
    /// let post = |control| match &mut *mailbox.lock().unwrap() {
    ///     Some(earlier) => earlier.merge(control),
    ///     empty => *empty = Some(control),
    /// };
    /// # post(Control::default());
    /// # post(Control::default());
    /// # assert_eq!(mailbox.into_inner().unwrap(), Some(Control::default()));
    /// ```
    pub fn merge(&mut self, later: Self) {
        self.ping = later.ping.or(self.ping.take());
        self.end = self.end.take().or(later.end);
    }
}
