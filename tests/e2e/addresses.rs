//! A host with several addresses, the first of which answers nothing: each async adapter connects to
//! the next one. What chiral-blocking does is tested within it.
#![cfg(target_os = "linux")]

use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chiral_driver::address::StreamAddress;
use chiral_driver::{Builder, ConnectError, Runtime};
use chiral_smol::Smol;
use chiral_tests::{Recorder, Served, soon};
use chiral_tokio::Tokio;

/// Addresses of the hosts whose names end in `.test`.
static HOSTS: Mutex<Vec<(&str, Vec<SocketAddr>)>> = Mutex::new(Vec::new());

/// A runtime, but for the addresses of some hosts.
struct Resolved<R>(PhantomData<fn() -> R>);

impl<R: Runtime> Runtime for Resolved<R> {
    type Timer = R::Timer;
    type Stream = R::Stream;
    type Listener = R::Listener;

    fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        R::spawn(name, task);
    }

    fn spawn_thread(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        R::spawn_thread(name, task)
    }

    fn timer(at: Instant) -> R::Timer {
        R::timer(at)
    }

    async fn look_up(host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hosts.iter().find(|(name, _)| *name == host);
        found.map(|(_, addresses)| addresses.clone()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn connect_tcp(
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<R::Stream>> + Send + 'static {
        R::connect_tcp(address)
    }

    fn connect_unix(path: &Path) -> impl Future<Output = io::Result<R::Stream>> + Send {
        R::connect_unix(path)
    }

    fn listen(address: &StreamAddress) -> impl Future<Output = io::Result<R::Listener>> + Send {
        R::listen(address)
    }

    fn accept(
        listener: &R::Listener,
    ) -> impl Future<Output = io::Result<(R::Stream, String)>> + Send {
        R::accept(listener)
    }

    fn local_address(listener: &R::Listener) -> io::Result<StreamAddress> {
        R::local_address(listener)
    }
}

/// An address at which nothing is answered, and what keeps it so.
fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    // When the queue of those that wait to be accepted is full, the system drops what comes.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        kept.push(stream);
    }
    (address, kept, listener)
}

/// Connects to a host with these addresses.
async fn connect<R: Runtime>(
    host: &'static str,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
) -> Result<(), ConnectError> {
    HOSTS.lock().unwrap().push((host, addresses));
    let builder = Builder::<Resolved<R>>::default().connect_timeout(timeout);
    let client = builder.connect(&format!("ws://{host}:8765")).await?;
    client.metadata().await.unwrap();
    client.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_swallows_everything_does_not_keep_the_next_from_being_tried() {
    let (hole, _kept, _listener) = black_hole();
    // Nobody listens there any more.
    let refuses = TcpListener::bind("127.0.0.4:0").unwrap().local_addr().unwrap();
    let served = Served::new(Recorder::small()).await;
    let there = served.server.local_addr().unwrap();
    let timeout = Duration::from_secs(8);
    let addresses = vec![hole, refuses, hole, there];
    soon(connect::<Tokio>("tokio.test", addresses.clone(), timeout)).await.unwrap();
    soon(connect::<Smol>("smol.test", addresses, timeout)).await.unwrap();

    // The test can fail: alone, the address takes all the time there is.
    let error = connect::<Tokio>("hole.test", vec![hole], Duration::from_secs(1)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the host does not answer"), "{error}");
    let error = connect::<Smol>("none.test", vec![refuses], Duration::from_millis(300)).await;
    assert!(matches!(error, Err(ConnectError::NoServer { .. })), "{error:?}");
}
