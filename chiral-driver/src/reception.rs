//! How policies come in: accepted, taken through their handshake, let in or sent away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chiral_proto::ws::{self, BadRequest, Request, Role, ServerHandshake, Session};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::drive::HANG_UP;
#[cfg(feature = "zenoh")]
use crate::drive::drive;
use crate::listening::{Listening, Visitor};
use crate::office::Office;
use crate::runtime::{Runtime, by};
use crate::shared::now;
#[cfg(feature = "zenoh")]
use crate::transport::Zenoh;
use crate::turn::Turn;

/// How long a client may take over its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before accepting again when the system has no means for a connection.
const RECOVERY: Duration = Duration::from_millis(100);

/// Takes in one policy after the other, until the server is shut down; `operate` begins to operate
/// the robot for a turn.
pub(crate) async fn attend<R: Runtime>(
    office: Arc<Office>,
    listening: Arc<Listening<R>>,
    operate: impl Fn(Turn) + Clone + Send + 'static,
) {
    loop {
        let next = async { Some(listening.accept().await) };
        let shut_down = async {
            office.until_shut_down().await;
            None
        };
        let (office, operate) = (Arc::clone(&office), operate.clone());
        match or(shut_down, next).await {
            None => return,
            Some(Ok(Visitor::Socket(stream, peer))) => {
                // Numbered here: the tasks may begin in any order.
                let arrival = office.arrive();
                R::spawn("chiral-policy", receive::<R>(office, arrival, stream, peer, operate));
            }
            #[cfg(feature = "zenoh")]
            Some(Ok(Visitor::Zenoh(link))) => {
                R::spawn("chiral-policy", receive_zenoh::<R>(office, link, operate));
            }
            Some(Err(error)) => {
                tracing::warn!("no connection could be accepted: {error}");
                R::sleep_until(now() + RECOVERY).await;
            }
        }
    }
}

/// Serves a policy over Zenoh, when the robot is free.
#[cfg(feature = "zenoh")]
async fn receive_zenoh<R: Runtime>(
    office: Arc<Office>,
    link: chiral_zenoh::Link,
    operate: impl FnOnce(Turn) + Send,
) {
    use chiral_proto::ws::CloseCode;
    match office.enter::<R>().await {
        Ok(shared) => {
            tracing::info!("policy connected over Zenoh");
            shared.lock().zenoh = Some(link.counts());
            let carry = |line: crate::Line| {
                R::spawn("chiral-line", drive::<R>(line.into(), Zenoh(link)));
            };
            let ended = office.serve(shared, operate, carry).await;
            tracing::info!("policy over Zenoh: {ended}");
        }
        Err(no_entry) => {
            tracing::info!("a policy over Zenoh was refused: {no_entry}");
            // Its drop waits, on a thread of its own, until the policy has been told.
            link.close(now(), CloseCode::TRY_AGAIN_LATER.0, &no_entry.to_string());
        }
    }
}

/// Takes a connection through its handshake and, when the robot is free, serves it.
async fn receive<R: Runtime>(
    office: Arc<Office>,
    arrival: u64,
    mut stream: R::Stream,
    peer: SocketAddr,
    operate: impl FnOnce(Turn) + Send,
) {
    let given_up = async {
        office.until_unwanted(arrival).await;
        None
    };
    let handshake =
        or(by::<R, _>(now() + HANDSHAKE, complete_handshake(&mut stream)), given_up).await;
    let request = match handshake {
        Some(Ok(Ok(request))) => request,
        Some(Ok(Err(bad))) => {
            tracing::info!("{peer} was sent away: {bad}");
            return send_away::<R>(stream, &bad.response()).await;
        }
        Some(Err(error)) => return tracing::info!("{peer} went during its handshake: {error}"),
        None => return tracing::info!("{peer} was given up: its handshake took too long"),
    };
    match office.enter::<R>().await {
        Ok(shared) => {
            let accepted = request.accept();
            if let Err(error) = stream.write_all(&accepted.response).await {
                office.leave(&shared);
                return tracing::info!("{peer} went during its handshake: {error}");
            }
            tracing::info!("policy connected from {peer}");
            let config = ws::Config {
                limits: office.config.machine.limits.clone(),
                keepalive: office.config.keepalive,
                ..ws::Config::default()
            };
            let session = Session::new(now(), Role::Server, &config, &accepted.surplus);
            let ended = office.serve(shared, operate, |line| R::carry(line, stream, session)).await;
            tracing::info!("policy from {peer}: {ended}");
        }
        Err(no_entry) => {
            tracing::info!("{peer} was refused: {no_entry}");
            send_away::<R>(stream, &request.refuse(503, &no_entry.to_string())).await;
        }
    }
}

/// Sends a last word, and waits a moment for the peer to hang up: a socket closed with unread
/// bytes would take the word back.
async fn send_away<R: Runtime>(mut stream: R::Stream, response: &[u8]) {
    let parting = async {
        stream.write_all(response).await?;
        stream.close().await?;
        let mut waste = [0; 256];
        while stream.read(&mut waste).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever has hung up already needs no telling.
    let _ = by::<R, _>(now() + HANG_UP, parting).await;
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
    }
}
