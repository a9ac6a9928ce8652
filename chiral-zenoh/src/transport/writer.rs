use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zenoh::pubsub::Publisher;
use zenoh::{Session, Wait};

use super::close_message::CloseMessage;
use super::publish::has_subscriber;
use super::state::{Task, TransportState};
use crate::authentication::Signer;
use crate::encode::Encoder;
use crate::stats::count;

/// How long a peer that has just connected may take to be seen as a subscriber.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the writer thread of a connection publishes with. The thread also drops it: undeclaring
/// and closing a session block.
pub(crate) struct Writer {
    pub(crate) frames: Arc<Publisher<'static>>,
    pub(crate) closes: Arc<Publisher<'static>>,
    /// Make the tags of frames and close messages, where there are any.
    pub(crate) signers: Option<[Signer; 2]>,
    pub(crate) encoder: Encoder,
    /// What is declared for as long as the connection lasts: subscribers, tokens.
    pub(crate) declared: Box<dyn Any + Send>,
    pub(crate) session: Session,
}

impl Writer {
    /// The writer thread: gives frames to Zenoh until the connection ends.
    pub(super) fn run(mut self, state: &TransportState) {
        let mut ask_at = Instant::now();
        let subscribe_by = ask_at + SUBSCRIBE_TIMEOUT;
        let mut is_first = true;
        loop {
            match state.next_task(subscribe_by, &mut ask_at) {
                Task::AskPresence => state.presence_answered(has_subscriber(&self.frames)),
                Task::Write(frame) => {
                    if std::mem::take(&mut is_first) {
                        // Not before the peer is known to be there.
                        self.encoder.check_shared_memory(&self.session);
                    }
                    let (payload, is_shared) = self.encoder.encode(&frame, &state.counts);
                    let tag = self.signers.as_mut().map(|[frames, _]| {
                        frames.sign(&frame.chunks().collect::<Vec<_>>(), is_shared)
                    });
                    drop(frame);
                    match self.frames.put(payload).attachment(tag).wait() {
                        Ok(()) => count(&state.counts.sent),
                        Err(error) => state.lose(&format!("Zenoh does not send: {error}")),
                    }
                    state.frame_written();
                }
                Task::Close(message) => self.send_close(&message, state),
                Task::Stop => break,
            }
        }
        // In this order: what listens to a publisher goes before it, and everything is undeclared
        // while the session is there.
        let Self { frames, closes, signers: _, encoder: _, declared, session } = self;
        drop(declared);
        drop((frames, closes));
        drop(session);
    }

    fn send_close(&mut self, message: &CloseMessage, state: &TransportState) {
        let message = message.encode();
        let sign = |[_, closes]: &mut [Signer; 2]| closes.sign(&[&message], false);
        let tag = self.signers.as_mut().map(sign);
        let is_sent =
            has_subscriber(&self.closes) && self.closes.put(message).attachment(tag).wait().is_ok();
        state.close_sent(is_sent);
    }
}
