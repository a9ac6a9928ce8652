//! Threads and plain sockets in the place of an async runtime.

mod carry;
mod group;
mod pump;
mod socket;
mod wait;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use chiral_driver::proto::ws::Session;
use chiral_driver::{Line, Runtime};

pub(crate) use group::Group;
use socket::{Listener, Stream};
use wait::Sleep;
pub(crate) use wait::{Help, block_on, block_until, helping, outside};

/// Threads, as the driver sees them: a task is a thread, a timer is how long a thread sleeps, and
/// a connection has one thread that reads and one that writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads;

impl Runtime for Threads {
    type Sleep = Sleep;
    type Stream = Stream;
    type Listener = Listener;

    fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        if let Err(error) = Self::spawn_apart(name, task) {
            tracing::error!("the system has no thread for {name}: {error}");
        }
    }

    fn spawn_apart(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        group::spawn(name, || block_on(task))
    }

    fn sleep_until(at: Instant) -> Sleep {
        Sleep::until(at)
    }

    async fn connect(host: &str, port: u16, until: Instant) -> io::Result<Stream> {
        Stream::connect(host, port, until)
    }

    async fn bind(address: &str) -> io::Result<Listener> {
        Listener::bind(address)
    }

    async fn accept(listener: &Listener) -> io::Result<(Stream, SocketAddr)> {
        listener.accept().await
    }

    fn local_addr(listener: &Listener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    fn carry(line: Line, stream: Stream, session: Session) {
        carry::carry(line, stream, session);
    }
}
