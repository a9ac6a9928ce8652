//! How policies come in: accepted, taken through their handshake, let in or sent away.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::proto::ConnectionError;
use chiral_driver::proto::ws::{Accepted, BadRequest, Request, ServerHandshake};
use chiral_driver::server::{
    ACCEPT_RETRY, Admission, Arrival, DRAIN_LIMIT, FIRST_MESSAGE_TIMEOUT, HANDSHAKE_TIMEOUT, Lease,
    ServeError, ServerState, session, warn_if_mute,
};
use chiral_driver::{Acceptor, Connection, FINISH_TIMEOUT, Incoming, Transport};
use futures_lite::future::{block_on, or};

use crate::link::Link;
use crate::listener::Listener;
use crate::operate::Operate;
#[cfg(feature = "tls")]
use crate::secure::Secure;
use crate::stream::{Stream, is_timeout, write_all};
use crate::threads::Threads;
use crate::transport::{drive, refuse};

/// How long a call may block during a handshake before a deadline, or that another connection needs
/// the place, is looked at.
const HANDSHAKE_STEP: Duration = Duration::from_millis(50);

/// What a server listens with.
pub(crate) enum Listening {
    Socket(Listener),
    Acceptor(Box<dyn Acceptor>),
}

/// What serving a policy needs beside the robot.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) admission: Arc<Admission>,
    pub(crate) threads: Arc<Threads>,
}

impl Host {
    /// Takes in one policy after the other, until the server is shut down or `is_over`.
    pub(crate) fn accept_policies(
        &self,
        listening: &Listening,
        robot: &impl Operate,
        is_over: impl Fn() -> bool,
    ) {
        while !self.admission.is_shutting_down() && !is_over() {
            let accepted = match listening {
                Listening::Socket(listener) => self.accept_stream(listener, robot),
                Listening::Acceptor(acceptor) => self.accept_transport(&**acceptor, robot),
            };
            match accepted {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => {
                    self.admission.log_accept_error(&error);
                    std::thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    fn accept_stream(&self, listener: &Listener, robot: &impl Operate) -> io::Result<()> {
        let (stream, peer) = listener.accept()?;
        let arrival = self.admission.arrive(&peer);
        let (host, robot) = (self.clone(), robot.clone());
        self.threads.spawn("chiral-policy", move || {
            let served = host
                .secure(stream)
                .and_then(|stream| host.serve_stream(arrival, stream, &peer, &robot));
            if let Err(error) = served {
                host.admission.log_refusal(&peer, format_args!("was not served: {error}"));
            }
        })
    }

    /// Speaks TLS over a stream, if the server is to.
    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with TLS")
    )]
    fn secure(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, ServeError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.admission.config().tls {
            let session = tls.session().map_err(ServeError::Tls)?;
            return Ok(Box::new(Secure::new(stream, session)));
        }
        Ok(stream)
    }

    fn accept_transport(&self, acceptor: &dyn Acceptor, robot: &impl Operate) -> io::Result<()> {
        let next = async { Some(acceptor.accept().await) };
        let shut_down = async {
            self.admission.wait_for_shutdown().await;
            None
        };
        let Some(incoming) = block_on(or(shut_down, next)) else { return Ok(()) };
        let Incoming { transport, peer } = incoming?;
        let arrival = self.admission.arrive(&peer);
        let (host, robot) = (self.clone(), robot.clone());
        self.threads.spawn("chiral-policy", move || {
            if let Err(error) = host.serve_transport(arrival, transport, &peer, &robot) {
                host.admission.log_refusal(&peer, format_args!("was not served: {error}"));
            }
        })
    }

    /// Serves a policy whose transport is connected, when the robot is free, to the end.
    pub(crate) fn serve_transport(
        &self,
        arrival: Arrival,
        transport: impl Transport,
        peer: &str,
        robot: &impl Operate,
    ) -> Result<ConnectionError, ServeError> {
        match self.admission.admit_blocking(&arrival, |config| robot.machine(config)) {
            Ok(lease) => {
                drop(arrival);
                let connection = Arc::clone(lease.connection());
                lease.set_extension(transport.extension());
                drive(Arc::clone(&connection), transport, &self.threads)?;
                Ok(self.run(&connection, lease, None, peer, robot))
            }
            Err(refusal) => {
                refuse(&arrival, transport, refusal);
                Err(ServeError::Refused(refusal))
            }
        }
    }

    /// Takes a connection through its handshake and, when the robot is free, serves it to its end.
    pub(crate) fn serve_stream(
        &self,
        arrival: Arrival,
        stream: Box<dyn Stream>,
        peer: &str,
        robot: &impl Operate,
    ) -> Result<ConnectionError, ServeError> {
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        stream.set_timeouts(Some(HANDSHAKE_STEP), Some(HANDSHAKE_STEP))?;
        let request = match complete_handshake(&arrival, &stream, deadline) {
            Ok(Ok(request)) => request,
            #[cfg(feature = "tls")]
            Err(error @ ServeError::Tls(_)) => {
                // What tells the client why has been written.
                send_response_and_close(&arrival, &stream, &[]);
                return Err(error);
            }
            Err(error) => return Err(error),
            Ok(Err(bad)) => {
                send_response_and_close(&arrival, &stream, &bad.response());
                return Err(ServeError::BadHandshake(bad));
            }
        };
        if let Err(rejection) = self.admission.check(&request, peer) {
            let response = request.refuse(rejection.status(), rejection.reason());
            send_response_and_close(&arrival, &stream, &response);
            return Err(ServeError::Rejected(rejection));
        }
        match self.admission.admit_blocking(&arrival, |config| robot.machine(config)) {
            Ok(lease) => {
                drop(arrival);
                let Accepted { response, surplus, .. } = request.accept();
                if !write_all(&stream, &response, deadline.max(Instant::now() + FINISH_TIMEOUT))? {
                    return Err(ServeError::HandshakeTimedOut);
                }
                let connection = Arc::clone(lease.connection());
                let session = session(&self.admission, &surplus);
                let link = Link::start(Arc::clone(&connection), stream, session, &self.threads)?;
                Ok(self.run(&connection, lease, Some(link), peer, robot))
            }
            Err(refusal) => {
                send_response_and_close(
                    &arrival,
                    &stream,
                    &request.refuse(refusal.status(), &refusal.to_string()),
                );
                Err(ServeError::Refused(refusal))
            }
        }
    }

    /// Runs the connection of a policy that was let in, to its end.
    fn run(
        &self,
        connection: &Connection<ServerState>,
        lease: Lease,
        link: Option<Arc<Link<ServerState>>>,
        peer: &str,
        robot: &impl Operate,
    ) -> ConnectionError {
        tracing::info!("policy connected from {peer}");
        robot.start(lease, link, &self.threads);
        if !connection.wait_until_finished_blocking(Instant::now() + FIRST_MESSAGE_TIMEOUT) {
            warn_if_mute(connection, peer);
            block_on(connection.wait_until_finished());
        }
        let reason = connection.error().unwrap_or(ConnectionError::ClosedLocally);
        tracing::info!("policy from {peer}: {reason}");
        reason
    }
}

fn complete_handshake(
    arrival: &Arrival,
    stream: &impl Stream,
    deadline: Instant,
) -> Result<Result<Request, BadRequest>, ServeError> {
    let mut handshake = ServerHandshake::default();
    let mut chunk = [0; 4096];
    loop {
        if deadline <= Instant::now() || arrival.is_cancelled() {
            return Err(ServeError::HandshakeTimedOut);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ServeError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                if let Some(shaken) = handshake.receive(&chunk[..count]).transpose() {
                    return Ok(shaken);
                }
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a last answer, and waits a moment for the peer to hang up: a socket closed with unread
/// bytes would take the answer back.
fn send_response_and_close(arrival: &Arrival, stream: &impl Stream, response: &[u8]) {
    let deadline = Instant::now() + FINISH_TIMEOUT;
    // Whoever has hung up already needs no telling.
    if let Ok(true) = write_all(stream, response, deadline) {
        stream.shutdown(Shutdown::Write);
        let mut chunk = [0; 4096];
        let mut left = DRAIN_LIMIT;
        while left > 0 && Instant::now() < deadline && !arrival.is_evicted() {
            match stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if is_timeout(&error) => {}
                Err(_) => return,
            }
        }
    }
}
