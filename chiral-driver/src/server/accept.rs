//! How policies come in: accepted, taken through their handshake, let in or sent away.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::ws::{
    self, Accepted, BadRequest, CloseCode, Request, Role, ServerHandshake, Session,
};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::accept_hook::Rejection;
use super::admission::{Admission, Lease, Refusal};
use super::arrivals::Arrival;
use super::listening::{Listening, NewConnection};
use super::operate::Operate;
use super::state::ServerState;
use crate::connection::Connection;
use crate::driver::{FINISH_TIMEOUT, drive};
use crate::runtime::{Runtime, until};
use crate::security::MaybeSecure;
#[cfg(feature = "tls")]
use crate::tls::TlsError;
use crate::transport::{Incoming, Transport, WebSocket};

/// How long a client may take over its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before accepting again when the system has no means for a connection.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a policy may be connected without a message before the log is told.
pub const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read of a client that is sent away, at most, before its socket is closed.
pub const DRAIN_LIMIT: usize = 64 << 10;
/// Messages that are read and thrown away of a refused policy before other tasks have their turn.
const REFUSED_ROUNDS: usize = 32;

/// Why a connection over a stream was not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The handshake is no WebSocket client's.
    #[error("its handshake cannot be accepted: {0}")]
    BadHandshake(BadRequest),
    /// It took too long, or had to make room for others.
    #[error("it was given up: its handshake took too long")]
    HandshakeTimedOut,
    /// The stream failed.
    #[error("it went during its handshake: {0}")]
    Io(io::Error),
    /// TLS failed.
    #[cfg(feature = "tls")]
    #[error("its TLS connection failed: {0}")]
    Tls(TlsError),
    /// Its request has no token or a wrong one, or `ServerConfig::accept` rejected it.
    #[error("it was rejected: {0}")]
    Rejected(Rejection),
    /// The robot was not to be had.
    #[error("it was refused: {0}")]
    Refused(Refusal),
}

// Its text is a part of the other's: as a source too, it would be printed twice.
impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        #[cfg(feature = "tls")]
        if let Some(error) = TlsError::behind(&error) {
            return Self::Tls(error.clone());
        }
        Self::Io(error)
    }
}

/// Takes in one policy after the other, until the server is shut down.
pub(super) async fn accept_policies<R: Runtime>(
    admission: Arc<Admission>,
    listening: Arc<Listening<R>>,
    robot: impl Operate,
) {
    loop {
        let next = async { Some(listening.accept().await) };
        let shut_down = async {
            admission.wait_for_shutdown().await;
            None
        };
        let Some(next) = or(shut_down, next).await else { return };
        let (admission, robot) = (Arc::clone(&admission), robot.clone());
        match next {
            Ok(NewConnection::Stream(stream, peer)) => {
                // Here, for the tasks may begin in any order.
                let arrival = admission.arrive(&peer);
                R::spawn("chiral-policy", async move {
                    let served = async {
                        let stream = MaybeSecure::accept(stream, admission.config())?;
                        serve_stream::<R, _>(&admission, arrival, stream, &peer, robot).await
                    };
                    if let Err(error) = served.await {
                        admission.log_refusal(&peer, format_args!("was not served: {error}"));
                    }
                });
            }
            Ok(NewConnection::Transport(incoming)) => {
                let Incoming { transport, peer } = incoming;
                let arrival = admission.arrive(&peer);
                R::spawn("chiral-policy", async move {
                    let served =
                        serve_transport::<R>(&admission, arrival, transport, &peer, robot).await;
                    if let Err(refusal) = served {
                        admission.log_refusal(&peer, format_args!("was refused: {refusal}"));
                    }
                });
            }
            Err(error) => {
                admission.log_accept_error(&error);
                R::timer(Instant::now() + ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves a policy whose transport is connected, when the robot is free, to the end.
pub(super) async fn serve_transport<R: Runtime>(
    admission: &Arc<Admission>,
    arrival: Arrival,
    mut transport: impl Transport,
    peer: &str,
    robot: impl Operate,
) -> Result<ConnectionError, Refusal> {
    match admission.admit::<R>(&arrival, |config| robot.machine(config)).await {
        Ok(lease) => {
            drop(arrival);
            Ok(run::<R>(lease, transport, peer, robot).await)
        }
        Err(refusal) => {
            transport.close(Instant::now(), CloseCode::TRY_AGAIN_LATER, &refusal.to_string());
            let finishing = or(finish_refused(&mut transport), arrival.wait_until_evicted());
            until::<R, _>(Instant::now() + FINISH_TIMEOUT, finishing).await;
            Err(refusal)
        }
    }
}

/// Moves on the transport of a policy that was refused, until it knows.
pub async fn finish_refused(transport: &mut impl Transport) {
    poll_fn(|cx| {
        // A peer that goes on sending must not hold up other tasks, nor the time that it has.
        for _ in 0..REFUSED_ROUNDS {
            let now = Instant::now();
            let wrote = transport.poll_write(cx, now);
            if transport.is_closed() {
                return Poll::Ready(());
            }
            let read = transport.poll_receive(cx, now);
            match (wrote, read) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Ready(Ok(true)), _) | (_, Poll::Ready(Ok(_))) => {}
                _ => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    poll_fn(|cx| transport.poll_finish(cx)).await;
}

/// Takes a connection through its handshake and, when the robot is free, serves it to its end.
pub(super) async fn serve_stream<R: Runtime, S>(
    admission: &Arc<Admission>,
    arrival: Arrival,
    mut stream: S,
    peer: &str,
    robot: impl Operate,
) -> Result<ConnectionError, ServeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let cancelled = async {
        arrival.wait_until_cancelled().await;
        None
    };
    let handshake = or(until::<R, _>(deadline, complete_handshake(&mut stream)), cancelled).await;
    let request = match handshake {
        Some(Ok(Ok(request))) => request,
        Some(Ok(Err(bad))) => {
            send_response_and_close::<R, _>(&arrival, stream, &bad.response()).await;
            return Err(ServeError::BadHandshake(bad));
        }
        #[cfg(feature = "tls")]
        Some(Err(error)) if TlsError::behind(&error).is_some() => {
            // What tells the client why has been written.
            send_response_and_close::<R, _>(&arrival, stream, &[]).await;
            return Err(error.into());
        }
        Some(Err(error)) => return Err(error.into()),
        None => return Err(ServeError::HandshakeTimedOut),
    };
    if let Err(rejection) = admission.check(&request, peer) {
        let response = request.refuse(rejection.status(), rejection.reason());
        send_response_and_close::<R, _>(&arrival, stream, &response).await;
        return Err(ServeError::Rejected(rejection));
    }
    match admission.admit::<R>(&arrival, |config| robot.machine(config)).await {
        Ok(lease) => {
            drop(arrival);
            let Accepted { response, surplus, .. } = request.accept();
            let responding = async {
                stream.write_all(&response).await?;
                stream.flush().await
            };
            until::<R, _>(deadline.max(Instant::now() + FINISH_TIMEOUT), responding)
                .await
                .ok_or(ServeError::HandshakeTimedOut)??;
            let transport = WebSocket::new(stream, session(admission, &surplus));
            Ok(run::<R>(lease, transport, peer, robot).await)
        }
        Err(refusal) => {
            let response = request.refuse(refusal.status(), &refusal.to_string());
            send_response_and_close::<R, _>(&arrival, stream, &response).await;
            Err(ServeError::Refused(refusal))
        }
    }
}

/// The session that follows a handshake; `surplus` is what had arrived behind it.
pub fn session(admission: &Admission, surplus: &[u8]) -> Session {
    let config = ws::Config {
        limits: admission.config().machine.limits.clone(),
        keepalive: admission.config().keepalive,
        ..ws::Config::default()
    };
    Session::new(Instant::now(), Role::Server, &config, surplus)
}

/// Runs the connection of a policy that was let in, to its end. When this is dropped, the
/// connection is closed.
async fn run<R: Runtime>(
    lease: Lease,
    transport: impl Transport,
    peer: &str,
    robot: impl Operate,
) -> ConnectionError {
    let connection = Arc::clone(lease.connection());
    let close = CloseOnDrop(Arc::clone(&connection));
    tracing::info!("policy connected from {peer}");
    lease.set_extension(transport.extension());
    let robot = robot.start(lease);
    R::spawn("chiral-connection", drive::<R, _>(Arc::clone(&connection), transport, robot));
    let first_message_due = Instant::now() + FIRST_MESSAGE_TIMEOUT;
    if until::<R, _>(first_message_due, connection.wait_until_finished()).await.is_none() {
        warn_if_mute(&connection, peer);
        connection.wait_until_finished().await;
    }
    drop(close);
    let reason = connection.error().unwrap_or(ConnectionError::ClosedLocally);
    tracing::info!("policy from {peer}: {reason}");
    reason
}

/// Tells the log of a policy that has sent nothing since it was connected: it may be none.
pub fn warn_if_mute(connection: &Connection<ServerState>, peer: &str) {
    if connection.lock().machine.stats().frames_received == 0 {
        tracing::warn!(
            "{peer} has been connected for {} s and has sent no message: a chiral policy speaks \
             first; one that waits for the server's first message, as openpi's clients do, speaks \
             another protocol",
            FIRST_MESSAGE_TIMEOUT.as_secs()
        );
    }
}

/// Closes a connection, if it is not closed yet, once nobody serves it any more.
struct CloseOnDrop(Arc<Connection<ServerState>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.call(|state, _| state.machine.close());
    }
}

/// Sends a last answer, and waits a moment for the peer to hang up: a socket closed with unread
/// bytes would take the answer back.
async fn send_response_and_close<R: Runtime, S>(arrival: &Arrival, mut stream: S, response: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let parting = async {
        stream.write_all(response).await?;
        stream.close().await?;
        let mut chunk = vec![0; 4096];
        let mut left = DRAIN_LIMIT;
        loop {
            let count = stream.read(&mut chunk).await?;
            left = left.saturating_sub(count);
            if count == 0 || left == 0 {
                return io::Result::Ok(());
            }
            // A peer that goes on sending must not hold up other tasks.
            futures_lite::future::yield_now().await;
        }
    };
    let evicted = async {
        arrival.wait_until_evicted().await;
        Ok(())
    };
    // Whoever has hung up already needs no telling.
    let _ = until::<R, _>(Instant::now() + FINISH_TIMEOUT, or(parting, evicted)).await;
}

async fn complete_handshake<S>(stream: &mut S) -> io::Result<Result<Request, BadRequest>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = ServerHandshake::default();
    // On the heap, to keep the caller's future small.
    let mut chunk = vec![0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(shaken) = handshake.receive(&chunk[..count]).transpose() {
            return Ok(shaken);
        }
        futures_lite::future::yield_now().await;
    }
}
