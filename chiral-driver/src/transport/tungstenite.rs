use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::{Error, Message};
use bytes::Bytes;
use chiral_proto::ConnectionError;
use chiral_proto::keepalive::{Heartbeat, Keepalive};
use chiral_proto::wire::Frame;
use chiral_proto::ws::CloseCode;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::{Sink, Stream};

use super::hang_up::HangUp;
use super::{Message as Received, Transport};

/// A WebSocket that the user brought: from an HTTP server's upgrade, a proxy, a TLS stack.
///
/// Its message layer copies each message once in each direction, so it is slower than
/// [`WebSocket`](super::WebSocket) for large observations.
pub(crate) struct Tungstenite<S> {
    stream: WebSocketStream<S>,
    writing: Writing,
    closing: Closing,
    /// When the closing handshake is given up.
    give_up: Option<Instant>,
    heartbeat: Heartbeat,
    hang_up: HangUp,
}

/// Whether a message can be handed over.
#[derive(PartialEq)]
enum Writing {
    Idle,
    /// A message waits for the sink to become ready.
    Waiting(Message),
    /// A message was handed over and is being flushed.
    Flushing,
}

enum Closing {
    No,
    /// To be sent behind what is being written; then the peer's answer is awaited, or not.
    Due(CloseFrame, Then),
    /// The peer's answer is awaited.
    Sent,
    /// The last message is being flushed: a close, or tungstenite's answer to the peer's.
    Last,
    Done,
}

#[derive(Clone, Copy)]
enum Then {
    AwaitAnswer,
    Finish,
}

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl<S> Tungstenite<S> {
    pub(crate) fn new(
        now: Instant,
        stream: WebSocketStream<S>,
        keepalive: Option<Keepalive>,
    ) -> Self {
        Self {
            stream,
            writing: Writing::Idle,
            closing: Closing::No,
            give_up: None,
            heartbeat: Heartbeat::new(now, keepalive),
            hang_up: HangUp::default(),
        }
    }

    fn close_with(&mut self, now: Instant, code: CloseCode, reason: &str, then: Then) {
        if let Closing::No = self.closing {
            let end = (0..=reason.len().min(123)).rfind(|&end| reason.is_char_boundary(end));
            let reason = reason[..end.unwrap_or(0)].into();
            self.closing = Closing::Due(CloseFrame { code: code.0.into(), reason }, then);
            self.give_up = Some(now + CLOSE_TIMEOUT);
        }
    }

    /// What an error means; the peer is told of one that it made, if it can be told anything.
    fn failed(&mut self, now: Instant, error: &Error) -> ConnectionError {
        let code = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(CloseCode::PROTOCOL),
            Error::Capacity(_) => Some(CloseCode::TOO_BIG),
            Error::Utf8(_) => Some(CloseCode::INVALID_TEXT),
            _ => None,
        };
        let Some(code) = code else {
            self.closing = Closing::Done;
            return ConnectionError::Lost(error.to_string());
        };
        self.close_with(now, code, &error.to_string(), Then::Finish);
        ConnectionError::TransportViolation(error.to_string())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tungstenite<S> {
    fn write_on(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<bool, Error>> {
        let mut sink = Pin::new(&mut self.stream);
        if let Writing::Waiting(_) = self.writing {
            ready!(sink.as_mut().poll_ready(cx))?;
            if let Writing::Waiting(message) =
                std::mem::replace(&mut self.writing, Writing::Flushing)
            {
                sink.as_mut().start_send(message)?;
            }
        }
        // Also without a message of ours: pongs wait for a flush.
        ready!(sink.as_mut().poll_flush(cx))?;
        let wrote = std::mem::replace(&mut self.writing, Writing::Idle) == Writing::Flushing;
        self.heartbeat.flushed(now);
        match std::mem::replace(&mut self.closing, Closing::Done) {
            Closing::Due(frame, then) => {
                self.writing = Writing::Waiting(Message::Close(Some(frame)));
                self.closing = match then {
                    Then::AwaitAnswer => Closing::Sent,
                    Then::Finish => Closing::Last,
                };
            }
            Closing::Last => {}
            unchanged => {
                self.closing = unchanged;
                if matches!(self.closing, Closing::No) && self.heartbeat.take_ping() {
                    self.writing = Writing::Waiting(Message::Ping(Bytes::new()));
                } else {
                    return Poll::Ready(Ok(wrote));
                }
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Tungstenite<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Received>, ConnectionError>> {
        let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Err(self.failed(now, &error))),
            None => {
                self.closing = Closing::Done;
                return Poll::Ready(Err(ConnectionError::Lost("the stream ended".to_owned())));
            }
        };
        self.heartbeat.received(now);
        match message {
            Message::Binary(message) => Poll::Ready(Ok(Some(Received::Whole(message)))),
            Message::Text(_) => {
                let why = "found a text message, expected binary ones only";
                self.close_with(now, CloseCode::UNSUPPORTED, why, Then::Finish);
                Poll::Ready(Err(ConnectionError::TransportViolation(why.to_owned())))
            }
            Message::Close(frame) => {
                self.closing = Closing::Last;
                self.give_up.get_or_insert(now + CLOSE_TIMEOUT);
                let (code, reason) = frame.map_or((None, String::new()), |frame| {
                    (Some(frame.code.into()), frame.reason.to_string())
                });
                Poll::Ready(Err(ConnectionError::ClosedByPeer { code, reason }))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Poll::Ready(Ok(None)),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        self.write_on(cx, now).map_err(|error| {
            self.closing = Closing::Done;
            ConnectionError::Lost(error.to_string())
        })
    }

    fn wants_frame(&self) -> bool {
        self.writing == Writing::Idle && matches!(self.closing, Closing::No)
    }

    fn send(&mut self, frame: Frame) {
        self.writing = Writing::Waiting(Message::Binary(frame.to_bytes()));
    }

    fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.close_with(now, code, reason, Then::AwaitAnswer);
    }

    fn is_closed(&self) -> bool {
        matches!(self.closing, Closing::Done)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.closing {
            Closing::Done => None,
            Closing::No => self.heartbeat.poll_timeout(),
            _ => self.give_up,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if !matches!(self.closing, Closing::No) {
            if self.give_up.is_some_and(|give_up| give_up <= now) {
                self.closing = Closing::Done;
                return Err(ConnectionError::CloseTimeout { timeout: CLOSE_TIMEOUT });
            }
            return Ok(());
        }
        self.heartbeat.handle_timeout(now).map_err(|unresponsive| {
            self.closing = Closing::Done;
            unresponsive.into()
        })
    }

    fn probe(&mut self, now: Instant, within: Duration) {
        self.heartbeat.probe(now, within);
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hang_up.poll(self.stream.get_mut(), cx)
    }
}
