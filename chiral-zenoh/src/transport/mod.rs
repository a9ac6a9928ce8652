mod close_message;
#[cfg(test)]
mod properties;
mod publish;
mod state;
mod writer;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use chiral_driver::{Extension, Message, Transport};
use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use chiral_proto::ws::CloseCode;

use crate::stats::Counts;
use close_message::CloseMessage;
pub(crate) use publish::{declare_publisher, has_subscriber, subscribe, watch_subscriber};
pub(crate) use state::TransportState;
pub(crate) use writer::Writer;

/// One connection between a robot and a policy over Zenoh, from [`connect`](crate::connect()) or
/// [`Listener::accept`](crate::Listener::accept).
///
/// It is for no particular runtime, and its calls never block: a thread of its own publishes.
///
/// - **Writing**: Zenoh blocks while the network is congested, and no other frame is wanted until it
///   has taken the one before. That is the back-pressure.
/// - **Reading**: Zenoh's threads never wait. A peer that sends more than 4096 messages, or twice
///   the longest frame, ahead of what is read is told so, and the connection ends. Observations
///   are sent only when requested, so they do not pile up.
/// - **Closing**: the peer has 1 s to answer. Dropping the transport closes it too.
///
/// A peer that leaves without a close message, or becomes unreachable, ends the connection with
/// [`ConnectionError::Lost`]: at once when its process ends, within its
/// [lease](crate::Config::with_lease) when its machine or the network fails.
///
/// Its [extension](Transport::extension) is its [`Counts`].
pub struct ZenohTransport {
    state: Arc<TransportState>,
}

impl ZenohTransport {
    /// Starts the writer thread. `ended` is called on that thread when everything that the
    /// connection had declared has been undeclared.
    pub(crate) fn start(
        state: Arc<TransportState>,
        writer: Writer,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let writer_state = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("chiral-zenoh".to_owned());
        thread.spawn(move || {
            writer.run(&writer_state);
            ended();
        })?;
        Ok(Self { state })
    }

    /// What is sent and received, counted as it goes on.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.state.counts)
    }
}

impl Transport for ZenohTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        self.state.poll_receive(cx).map_ok(|payload| Some(payload.into_message()))
    }

    fn wants_frame(&self) -> bool {
        self.state.wants_frame()
    }

    fn send(&mut self, frame: Frame) {
        self.state.send(frame);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        _now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        self.state.poll_write(cx).map(Ok)
    }

    fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.state.close(now, CloseMessage { code: code.0, reason: reason.to_owned() });
    }

    fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.state.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.state.handle_timeout(now)
    }

    fn extension(&self) -> Option<Extension> {
        Some(self.counts())
    }
}

impl Drop for ZenohTransport {
    fn drop(&mut self) {
        self.state.handle_dropped();
    }
}

impl std::fmt::Debug for ZenohTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZenohTransport")
            .field("stats", &self.state.counts.read())
            .finish_non_exhaustive()
    }
}
