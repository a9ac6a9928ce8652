use std::time::Instant;

use bytes::Bytes;

use crate::ConnectionError;
use crate::client::Client;
use crate::server::Server;
use crate::wire::Frame;

/// What a run loop needs of either side's state machine: the part of [`Client`] and [`Server`]
/// that moves frames and time. With it one loop drives both.
pub trait Machine {
    /// Takes one message of the transport: one whole frame.
    fn handle_message(&mut self, now: Instant, message: Bytes);

    /// As [`handle_message`](Self::handle_message), for a message in segments.
    fn handle_segments(&mut self, now: Instant, message: Vec<Bytes>);

    /// As [`handle_message`](Self::handle_message), for a frame that is taken apart already: in
    /// memory, the other machine's frame as it is, no pixel of which is then copied.
    fn handle_frame(&mut self, now: Instant, frame: &Frame);

    /// Whether the next message is to be handed over; `false` asks the driver to leave it in the
    /// transport. See [`Server::wants_message`]; a client always wants it.
    fn wants_message(&self) -> bool {
        true
    }

    /// Tells that bytes of the peer have arrived that are no whole message yet: a part of one, or
    /// something of the transport's own, such as a pong. It counts against the peer's silence.
    fn note_activity(&mut self, now: Instant);

    /// Lets time pass.
    fn handle_timeout(&mut self, now: Instant);

    /// Tells that the transport's connection has ended.
    fn handle_disconnect(&mut self, now: Instant, reason: ConnectionError);

    /// The next frame to send. To be called only when the transport can take one.
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame>;

    /// Whether [`poll_transmit`](Self::poll_transmit) may have a frame, or bring about the end;
    /// `false` when it surely does not.
    fn has_transmit(&self) -> bool;

    /// Whether the driver must be woken, if it is another task or thread: there may be a frame to
    /// send, the machine is to be called earlier than [`poll_timeout`](Self::poll_timeout) last
    /// told the driver, or the connection has ended. To be asked after every other call.
    fn needs_wake(&self) -> bool;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. Only the driver calls
    /// it, before it sleeps: [`needs_wake`](Self::needs_wake) takes it that the driver then knows.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// Why the connection has ended, if it has.
    fn error(&self) -> Option<&ConnectionError>;

    /// Whether it was lost and another one is expected; see [`Client::begin_connection`]. Never of a
    /// server.
    fn is_interrupted(&self) -> bool {
        false
    }
}

macro_rules! machines {
    ($($machine:ty { $($item:item)* })*) => {$(
        impl Machine for $machine {
            $($item)*

            fn handle_message(&mut self, now: Instant, message: Bytes) {
                self.handle_message(now, message);
            }

            fn handle_segments(&mut self, now: Instant, message: Vec<Bytes>) {
                self.handle_segments(now, message);
            }

            fn handle_frame(&mut self, now: Instant, frame: &Frame) {
                self.handle_frame(now, frame);
            }

            fn note_activity(&mut self, now: Instant) {
                self.note_activity(now);
            }

            fn handle_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }

            fn handle_disconnect(&mut self, now: Instant, reason: ConnectionError) {
                self.handle_disconnect(now, reason);
            }

            fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
                self.poll_transmit(now)
            }

            fn has_transmit(&self) -> bool {
                self.has_transmit()
            }

            fn needs_wake(&self) -> bool {
                self.needs_wake()
            }

            fn poll_timeout(&mut self) -> Option<Instant> {
                self.poll_timeout()
            }

            fn error(&self) -> Option<&ConnectionError> {
                self.error()
            }
        }
    )*};
}

machines! {
    Client {
        fn is_interrupted(&self) -> bool {
            self.is_interrupted()
        }
    }
    Server {
        fn wants_message(&self) -> bool {
            self.wants_message()
        }
    }
}

/// The instant for which a machine's driver was last told to call.
#[derive(Debug, Default)]
pub(crate) struct ToldTimeout(Option<Instant>);

impl ToldTimeout {
    pub(crate) fn tell(&mut self, timeout: Option<Instant>) -> Option<Instant> {
        self.0 = timeout;
        timeout
    }

    /// Whether the driver would sleep beyond `timeout`.
    pub(crate) fn is_later_than(&self, timeout: Option<Instant>) -> bool {
        timeout.is_some_and(|timeout| self.0.is_none_or(|told| timeout < told))
    }
}
