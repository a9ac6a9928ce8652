#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod sleep;
mod stream;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use chiral_driver::Runtime;
use tokio::net::{TcpListener, TcpStream};

pub use chiral_driver::proto;
#[cfg(feature = "zenoh")]
pub use chiral_driver::zenoh;
pub use chiral_driver::{
    CallError, Command, Commands, ConnectError, Hold, Robot, RobotError, ServerConfig,
    monotonic_seconds,
};
pub use sleep::Sleep;
pub use stream::Stream;

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
    type Sleep = Sleep;
    type Stream = Stream;
    type Listener = TcpListener;

    fn spawn(_name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn spawn_apart(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || runtime.block_on(task)).map(drop)
    }

    fn sleep_until(at: Instant) -> Sleep {
        Sleep::until(at)
    }

    async fn connect(host: &str, port: u16, _until: Instant) -> io::Result<Stream> {
        Stream::new(TcpStream::connect((host, port)).await?)
    }

    async fn bind(address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        Ok((Stream::new(stream)?, peer))
    }

    fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }
}
