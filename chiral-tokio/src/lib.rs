#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod stream;
mod timer;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;

use chiral_driver::Runtime;
use chiral_driver::address::StreamAddress;

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
pub use stream::{Listener, Stream};
pub use timer::Timer;

/// The policy's connection to a robot, on tokio: connect, observe, act.
pub type PolicyClient = chiral_driver::PolicyClient<Tokio>;
/// Serves a robot to a policy, on tokio.
pub type PolicyServer = chiral_driver::PolicyServer<Tokio>;
/// Settings of a [`PolicyClient`], on tokio.
pub type Builder = chiral_driver::Builder<Tokio>;

/// Tokio, as the driver sees it. Everything runs on the runtime from whose context it is called,
/// which must have I/O and time enabled.
#[derive(Debug, Clone, Copy)]
pub struct Tokio;

impl Runtime for Tokio {
    type Timer = Timer;
    type Stream = Stream;
    type Listener = Listener;

    fn spawn(_name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn spawn_thread(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || runtime.block_on(task)).map(drop)
    }

    fn timer(at: std::time::Instant) -> Timer {
        Timer::new(at)
    }

    async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
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
