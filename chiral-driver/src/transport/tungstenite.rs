use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message};
use bytes::Bytes;
use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::{Sink, Stream};

use super::Transport;

/// A WebSocket that the user brought: from an HTTP server's upgrade, a proxy, a TLS stack.
///
/// Its message layer copies each message once in each direction, so it is slower than
/// [`WebSocket`](super::WebSocket) for large observations. Keepalive is tungstenite's user's
/// business; a dead peer is noticed by the TCP connection.
pub(crate) struct Tungstenite<S> {
    stream: WebSocketStream<S>,
    writing: Writing,
    closing: Closing,
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
    Due(CloseFrame),
    Sent {
        give_up: Instant,
    },
    /// The peer's close came; tungstenite answers it with the next flush.
    Answering,
    Done,
}

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl<S> Tungstenite<S> {
    pub(crate) fn new(stream: WebSocketStream<S>) -> Self {
        Self { stream, writing: Writing::Idle, closing: Closing::No }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Tungstenite<S> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>> {
        let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                self.closing = Closing::Done;
                return Poll::Ready(Err(ended(&error)));
            }
            None => {
                self.closing = Closing::Done;
                return Poll::Ready(Err(ConnectionError::Lost("the stream ended".to_owned())));
            }
        };
        match message {
            Message::Binary(message) => Poll::Ready(Ok(Some(message))),
            Message::Text(_) => {
                let why = "found a text message, expected binary ones";
                self.close(now, 1003, why);
                Poll::Ready(Err(ConnectionError::BadTransport(why.to_owned())))
            }
            Message::Close(frame) => {
                self.closing = Closing::Answering;
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
        let mut sink = Pin::new(&mut self.stream);
        if let Writing::Waiting(_) = self.writing {
            ready!(sink.as_mut().poll_ready(cx)).map_err(|error| ended(&error))?;
            if let Writing::Waiting(message) =
                std::mem::replace(&mut self.writing, Writing::Flushing)
            {
                sink.as_mut().start_send(message).map_err(|error| ended(&error))?;
            }
        }
        // Also without a message of ours: pongs wait for a flush.
        ready!(sink.as_mut().poll_flush(cx)).map_err(|error| ended(&error))?;
        let wrote = std::mem::replace(&mut self.writing, Writing::Idle) == Writing::Flushing;
        if let Closing::Answering = self.closing {
            self.closing = Closing::Done;
            return Poll::Ready(Ok(true));
        }
        if let Closing::Due(_) = self.closing {
            let sent = Closing::Sent { give_up: now + CLOSE_TIMEOUT };
            if let Closing::Due(frame) = std::mem::replace(&mut self.closing, sent) {
                self.writing = Writing::Waiting(Message::Close(Some(frame)));
            }
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(wrote))
    }

    fn wants_frame(&self) -> bool {
        self.writing == Writing::Idle && matches!(self.closing, Closing::No)
    }

    fn push(&mut self, frame: Frame) {
        self.writing = Writing::Waiting(Message::Binary(frame.to_bytes()));
    }

    fn close(&mut self, _now: Instant, code: u16, reason: &str) {
        if matches!(self.closing, Closing::No) {
            let end = (0..=reason.len().min(123)).rfind(|&end| reason.is_char_boundary(end));
            let reason = reason[..end.unwrap_or(0)].into();
            self.closing = Closing::Due(CloseFrame { code: CloseCode::from(code), reason });
        }
    }

    fn is_finished(&self) -> bool {
        matches!(self.closing, Closing::Done)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.closing {
            Closing::Sent { give_up } => Some(give_up),
            _ => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if let Closing::Sent { give_up } = self.closing
            && give_up <= now
        {
            self.closing = Closing::Done;
            let why = format!("the peer did not answer the close within {CLOSE_TIMEOUT:?}");
            return Err(ConnectionError::Lost(why));
        }
        Ok(())
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(self.stream.get_mut()).poll_close(cx).map(drop)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4096];
        for _ in 0..64 {
            match ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut waste)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn ended(error: &Error) -> ConnectionError {
    match error {
        Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_) => {
            ConnectionError::BadTransport(error.to_string())
        }
        _ => ConnectionError::Lost(error.to_string()),
    }
}
