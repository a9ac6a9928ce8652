#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod stream;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use chiral_driver::address::StreamAddress;
use chiral_driver::{AsyncTimer, Runtime};

pub use chiral_driver::client::{ConnectionEvent, Waiting};
pub use chiral_driver::proto::{self, DEFAULT_ADDRESS, DEFAULT_URI};
pub use chiral_driver::{
    CallError, ClientCalls, Command, Commands, ConnectError, FailureText, Hold, NotReady, Refusal,
    Rejection, Robot, RobotError, ServeError, ServerConfig, Token, TokenError, WaitForSensors,
    Watchdog, monotonic_seconds,
};
#[cfg(feature = "tls")]
pub use chiral_driver::{TlsClient, TlsError, TlsServer};
#[cfg(feature = "zenoh")]
pub use chiral_zenoh as zenoh;
#[cfg(unix)]
pub use stream::PolicyTcp;
pub use stream::{Listener, Stream};

/// The policy's connection to a robot, on smol: connect, observe, act.
pub type PolicyClient = chiral_driver::PolicyClient<Smol>;
/// Serves a robot to a policy, on smol.
pub type PolicyServer = chiral_driver::PolicyServer<Smol>;
/// Settings of a [`PolicyClient`], on smol.
pub type Builder = chiral_driver::Builder<Smol>;

/// Smol, as the driver sees it. Tasks run on smol's global executor, which starts by itself;
/// futures of the handles may be awaited in any task of any executor.
#[derive(Debug, Clone, Copy)]
pub struct Smol;

impl Runtime for Smol {
    type Timer = Timer;
    type Stream = Stream;
    type Listener = Listener;

    fn spawn(_name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn spawn_thread(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        // Not `smol::block_on`: its threads take turns at polling everybody's sockets and timers,
        // and one that blocks in the robot's code should have no part in that.
        let run = move || smol::future::block_on(task);
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    fn timer(at: Instant) -> Timer {
        Timer(smol::Timer::at(at))
    }

    async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }

    async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
        Stream::connect_tcp(address).await
    }

    #[cfg(unix)]
    async fn connect_unix(path: &Path) -> io::Result<Stream> {
        Stream::connect_unix(path).await
    }

    async fn listen(address: &StreamAddress) -> io::Result<Listener> {
        Listener::bind(address).await
    }

    async fn accept(listener: &Listener) -> io::Result<(Stream, String)> {
        listener.accept().await
    }

    fn local_address(listener: &Listener) -> io::Result<StreamAddress> {
        listener.local_address()
    }

    #[cfg(feature = "zenoh")]
    fn connector(uri: &str) -> Option<Result<Box<dyn chiral_driver::Connector>, ConnectError>> {
        Some(chiral_zenoh::connector(uri))
    }

    #[cfg(feature = "zenoh")]
    async fn acceptor(
        uri: &str,
        limits: &proto::wire::Limits,
    ) -> Option<io::Result<Box<dyn chiral_driver::Acceptor>>> {
        Some(chiral_zenoh::acceptor(uri, limits).await)
    }
}

/// Waits until an instant, and can be set again.
#[derive(Debug)]
pub struct Timer(smol::Timer);

impl AsyncTimer for Timer {
    fn reset(&mut self, at: Instant) {
        self.0.set_at(at);
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::zip;
    use smol::io::AsyncWriteExt;
    use std::io::IoSlice;
    use std::time::Duration;

    #[test]
    fn connections_use_vectored_writes_and_nodelay() {
        smol::block_on(async {
            let any = StreamAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
            let listener = Smol::listen(&any).await.unwrap();
            let Listener::Tcp(socket) = &listener else { panic!("{listener:?}") };
            let address = socket.local_addr().unwrap();
            let both = zip(Smol::connect_tcp(address), Smol::accept(&listener)).await;
            let (mut ours, (theirs, _)) = (both.0.unwrap(), both.1.unwrap());
            for stream in [&ours, &theirs] {
                let is_undelayed = match stream {
                    Stream::Tcp(socket) => socket.nodelay().unwrap(),
                    #[cfg(unix)]
                    Stream::PolicyTcp(socket) => socket.nodelay().unwrap(),
                    other => panic!("{other:?}"),
                };
                assert!(is_undelayed);
            }
            let pieces = [&b"head"[..], &b"image"[..], &b"depth"[..]].map(IoSlice::new);
            assert_eq!(ours.write_vectored(&pieces).await.unwrap(), 14);
        });
    }

    #[test]
    fn timers_never_fire_early_and_past_ones_fire_at_once() {
        smol::block_on(async {
            for micros in [0, 1, 300, 1_500, 20_000] {
                let at = Instant::now() + Duration::from_micros(micros);
                Smol::timer(at).await;
                assert!(Instant::now() >= at, "{micros} µs");
            }
            let past =
                Instant::now().checked_sub(Duration::from_secs(1)).expect("a while of uptime");
            Smol::timer(past).await;
        });
    }

    #[test]
    fn robot_code_blocks_only_its_own_thread() {
        let (name, named) = std::sync::mpsc::channel();
        let (go_on, gone_on) = std::sync::mpsc::channel();
        let robot = async move {
            name.send(thread::current().name().map(str::to_owned)).unwrap();
            gone_on.recv().unwrap();
            Smol::timer(Instant::now() + Duration::from_millis(1)).await;
            name.send(None).unwrap();
        };
        Smol::spawn_thread("chiral-motion", robot).unwrap();
        assert_eq!(named.recv().unwrap().as_deref(), Some("chiral-motion"));
        // Timers and tasks go on although that thread is blocked.
        Smol::spawn("chiral-line", async move {
            Smol::timer(Instant::now() + Duration::from_millis(1)).await;
            go_on.send(()).unwrap();
        });
        assert_eq!(named.recv().unwrap(), None);
    }
}
