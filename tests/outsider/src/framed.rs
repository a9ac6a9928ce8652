//! Frames with their length before them, over any byte stream; over Unix sockets with a connector
//! and an acceptor.
//!
//! Each item is one byte that says what it is, eight bytes of length (little-endian), and that many
//! bytes. The server greets a policy that is admitted; whoever ends the connection says why.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use chiral_driver::client::{Failure, WaitForServer};
use chiral_driver::{
    Acceptor, BoxFuture, ConnectError, Connector, Incoming, Message, Transport, UnixListening,
};
use chiral_proto::ConnectionError;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::CloseCode;
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::or;
use smol::Async;

use crate::Refused;
use crate::names::expire;

/// What comes before an item's bytes: its kind, and its length.
const HEAD: usize = 9;
/// Bytes of one read or write, and what a buffer grows by at the most.
const STEP: usize = 256 << 10;
/// Slices of one gather write.
const SLICES: usize = 36;
/// Bytes of a close, with its two bytes of code.
const CLOSE_LEN: usize = 1 << 10;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Frame = 0,
    Greeting = 1,
    Close = 2,
}

/// How far the connection is.
///
/// ```text
/// Arriving ──greeting──► Open ──close──► Closing ──the peer hung up──► Over
///    └──────────────────────┴──the peer closed, or the stream failed──▲
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The policy is not greeted yet.
    Arriving,
    Open,
    /// The peer is being told of the end.
    Closing,
    /// The peer knows, or cannot be told.
    Over,
}

/// Carries frames over a byte stream.
pub struct Framed<S> {
    stream: S,
    is_server: bool,
    /// Bytes of the largest frame that is received.
    limit: usize,
    phase: Phase,
    /// After a violation nothing is read any more.
    is_read_out: bool,
    head: [u8; HEAD],
    /// Bytes of the head and of the body that have come.
    received: usize,
    body: Vec<u8>,
    /// What is being written.
    outgoing: VecDeque<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Framed<S> {
    fn new(stream: S, is_server: bool, limit: usize) -> Self {
        Self {
            stream,
            is_server,
            limit,
            phase: Phase::Arriving,
            is_read_out: false,
            head: [0; HEAD],
            received: 0,
            body: Vec::new(),
            outgoing: VecDeque::new(),
        }
    }

    fn push(&mut self, kind: Kind, len: usize, pieces: impl IntoIterator<Item = Bytes>) {
        let mut head = vec![kind as u8];
        head.extend((len as u64).to_le_bytes());
        self.outgoing.push_back(head.into());
        self.outgoing.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
    }

    /// The length that the head announces.
    fn len(&self) -> u64 {
        let mut len = [0; 8];
        len.copy_from_slice(&self.head[1..]);
        u64::from_le_bytes(len)
    }

    /// Takes note of bytes that were read; an item when it is complete.
    fn take(&mut self, count: usize) -> Result<Option<(Kind, Bytes)>, ConnectionError> {
        self.received += count;
        if self.received < HEAD {
            return Ok(None);
        }
        let kind = match self.head[0] {
            0 if self.is_server || self.phase != Phase::Arriving => Kind::Frame,
            1 if !self.is_server && self.phase == Phase::Arriving => Kind::Greeting,
            2 => Kind::Close,
            other => return Err(self.violated(CloseCode::PROTOCOL, format!("kind {other}"))),
        };
        let limit = match kind {
            Kind::Frame => self.limit,
            Kind::Greeting => 0,
            Kind::Close => CLOSE_LEN,
        };
        let len = self.len();
        if len > limit as u64 {
            let what = format!("an item of {len} bytes, expected at most {limit}");
            return Err(self.violated(CloseCode::TOO_BIG, what));
        }
        if self.received < HEAD + len as usize {
            return Ok(None);
        }
        self.received = 0;
        Ok(Some((kind, std::mem::take(&mut self.body).into())))
    }

    /// Tells the peer what it did wrong: the driver leaves that to the transport.
    fn violated(&mut self, code: CloseCode, found: String) -> ConnectionError {
        self.close(Instant::now(), code, &found);
        self.is_read_out = true;
        ConnectionError::TransportViolation(found)
    }

    /// Reads once. `None`: something came, but no whole item.
    fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(Kind, Bytes)>, ConnectionError>> {
        let filled = self.received.checked_sub(HEAD);
        let room = match filled {
            None => &mut self.head[self.received..],
            Some(filled) => {
                // No more than the peer has earned by what it has sent so far.
                let len = self.len() as usize;
                self.body.resize(len.min(filled + STEP), 0);
                &mut self.body[filled..]
            }
        };
        let read = match ready!(Pin::new(&mut self.stream).poll_read(cx, room)) {
            Ok(0) => Err(ConnectionError::EndOfStream { inside_message: self.received > 0 }),
            Ok(count) => return Poll::Ready(self.take(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(ConnectionError::from_io(&error)),
        };
        if read.is_err() {
            self.phase = Phase::Over;
        }
        Poll::Ready(read)
    }

    /// What a close says.
    fn closed_by_peer(&mut self, body: &[u8]) -> ConnectionError {
        self.phase = Phase::Over;
        let (code, reason) = match body {
            [a, b, reason @ ..] => (Some(u16::from_be_bytes([*a, *b])), reason),
            _ => (None, &[][..]),
        };
        let reason = String::from_utf8_lossy(reason).into_owned();
        ConnectionError::ClosedByPeer { code, reason }
    }

    /// Waits until the server has admitted the policy.
    async fn wait_for_greeting(&mut self) -> Result<(), ConnectionError> {
        loop {
            match poll_fn(|cx| self.poll_item(cx)).await? {
                Some((Kind::Close, body)) => return Err(self.closed_by_peer(&body)),
                Some(_) => {
                    self.phase = Phase::Open;
                    return Ok(());
                }
                None => {}
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Framed<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        Poll::Ready(match ready!(self.poll_item(cx))? {
            Some((Kind::Frame, frame)) => Ok(Some(Message::Whole(frame))),
            Some((Kind::Close, body)) => Err(self.closed_by_peer(&body)),
            Some((Kind::Greeting, _)) | None => Ok(None),
        })
    }

    fn wants_frame(&self) -> bool {
        self.phase == Phase::Open && self.outgoing.is_empty()
    }

    fn send(&mut self, frame: Frame) {
        self.push(Kind::Frame, frame.len(), frame.segments().cloned());
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        _: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        // A policy that is refused is closed before anything else.
        if self.is_server && self.phase == Phase::Arriving {
            self.phase = Phase::Open;
            self.push(Kind::Greeting, 0, []);
        }
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut left = STEP;
        for (slice, piece) in slices.iter_mut().zip(&self.outgoing) {
            *slice = IoSlice::new(&piece[..piece.len().min(left)]);
            left -= slice.len();
            count += 1;
            if left == 0 {
                break;
            }
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]));
        let mut written = match written {
            Ok(0) => Err(ConnectionError::Lost("the stream takes no more".to_owned())),
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Poll::Ready(Ok(true));
            }
            Err(error) => Err(ConnectionError::from_io(&error)),
        }
        .inspect_err(|_| self.phase = Phase::Over)?;
        while let Some(piece) = self.outgoing.front_mut()
            && written > 0
        {
            let gone = piece.len().min(written);
            written -= gone;
            drop(piece.split_to(gone));
            if piece.is_empty() {
                self.outgoing.pop_front();
            }
        }
        // Else the peer knows when it hangs up in its turn.
        if self.outgoing.is_empty() && self.phase == Phase::Closing && self.is_read_out {
            self.phase = Phase::Over;
        }
        Poll::Ready(Ok(true))
    }

    fn close(&mut self, _: Instant, code: CloseCode, reason: &str) {
        if matches!(self.phase, Phase::Arriving | Phase::Open) {
            self.phase = Phase::Closing;
            let mut body = code.0.to_be_bytes().to_vec();
            body.extend(reason.bytes().take(CLOSE_LEN - body.len()));
            self.push(Kind::Close, body.len(), [body.into()]);
        }
    }

    fn is_closed(&self) -> bool {
        self.phase == Phase::Over
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(Pin::new(&mut self.stream).poll_close(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut waste = [0; 4096];
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut waste)) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// The path in a URI, `frames:/path`.
fn path_of(uri: &str) -> Option<&Path> {
    uri.strip_prefix("frames:").map(Path::new)
}

/// Connects to the Unix socket that a URI names, `frames:/path`.
pub struct FramedConnector {
    uri: String,
    path: PathBuf,
}

impl FramedConnector {
    /// For a URI; `None` when it is another transport's.
    pub fn new(uri: &str) -> Option<Self> {
        Some(Self { uri: uri.to_owned(), path: path_of(uri)?.to_owned() })
    }

    async fn attempt(&self, limit: usize) -> Result<Framed<Async<UnixStream>>, ConnectionError> {
        let stream = Async::<UnixStream>::connect(&self.path).await?;
        let mut transport = Framed::new(stream, false, limit);
        transport.wait_for_greeting().await?;
        Ok(transport)
    }
}

impl Connector for FramedConnector {
    fn connect(
        &self,
        limits: &Limits,
        mut wait: WaitForServer,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>> {
        let limit = limits.frame_len;
        Box::pin(async move {
            let mut refused = None;
            loop {
                let attempt = async { Ok(self.attempt(limit).await) };
                let failure = match or(attempt, expire(wait.deadline())).await {
                    Ok(Ok(transport)) => return Ok(Box::new(transport) as Box<dyn Transport>),
                    Ok(Err(ConnectionError::ClosedByPeer { reason, .. })) => {
                        let refusal = Refused { reason };
                        let retry_at = wait.retry_later(&refusal.reason);
                        smol::Timer::at(retry_at.ok_or(refusal.clone())?).await;
                        refused = Some(refusal);
                        continue;
                    }
                    Ok(Err(error)) => io::Error::other(error),
                    Err(late) => match refused {
                        Some(refusal) => return Err(refusal.into()),
                        None => late,
                    },
                };
                smol::Timer::at(wait.retry_at(Failure::Absent(failure))?).await;
            }
        })
    }

    fn uri(&self) -> String {
        self.uri.clone()
    }
}

/// Accepts policies at the Unix socket that a URI names, `frames:/path`.
pub struct FramedAcceptor {
    listener: Async<UnixListener>,
    listening: UnixListening,
    uri: String,
    limit: usize,
}

impl FramedAcceptor {
    /// Listens at a URI. `limits` bound what is received.
    ///
    /// # Errors
    /// When the URI is another transport's, or cannot be listened at.
    pub fn bind(uri: &str, limits: &Limits) -> io::Result<Self> {
        let path = path_of(uri).ok_or(io::ErrorKind::InvalidInput)?;
        let (listener, listening) = UnixListening::bind(path)?;
        let (uri, limit) = (uri.to_owned(), limits.frame_len);
        Ok(Self { listener: Async::new(listener)?, listening, uri, limit })
    }
}

impl Acceptor for FramedAcceptor {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            let transport = Box::new(Framed::new(stream, true, self.limit));
            Ok(Incoming { transport, peer: self.listening.peer() })
        })
    }

    fn uri(&self) -> String {
        self.uri.clone()
    }
}
