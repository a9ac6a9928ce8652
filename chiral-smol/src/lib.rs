#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use chiral_driver::Runtime;
use smol::Timer;
use smol::net::{TcpListener, TcpStream};

pub use chiral_driver::proto;
#[cfg(feature = "zenoh")]
pub use chiral_driver::zenoh;
pub use chiral_driver::{
    CallError, Command, Commands, ConnectError, Hold, Robot, RobotError, ServerConfig,
    monotonic_seconds,
};

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
    type Sleep = Sleep;
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn spawn(_name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn spawn_apart(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        // Not `smol::block_on`: its threads take turns at polling everybody's sockets and timers,
        // and one that blocks in the robot's code should have no part in that.
        let run = move || smol::future::block_on(task);
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    fn sleep_until(at: Instant) -> Sleep {
        Sleep(Timer::at(at))
    }

    async fn connect(host: &str, port: u16, _until: Instant) -> io::Result<TcpStream> {
        without_delay(TcpStream::connect((host, port)).await?)
    }

    async fn bind(address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        Ok((without_delay(stream)?, peer))
    }

    fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }
}

/// An action is small and must not wait for company, as Nagle's algorithm would have it.
fn without_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until an instant.
#[derive(Debug)]
pub struct Sleep(Timer);

impl Future for Sleep {
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
            let listener = Smol::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let until = Instant::now() + Duration::from_secs(10);
            let both = zip(Smol::connect("127.0.0.1", port, until), Smol::accept(&listener)).await;
            let (mut ours, (theirs, _)) = (both.0.unwrap(), both.1.unwrap());
            assert!(ours.nodelay().unwrap() && theirs.nodelay().unwrap());
            let pieces = [&b"head"[..], &b"image"[..], &b"depth"[..]].map(IoSlice::new);
            assert_eq!(ours.write_vectored(&pieces).await.unwrap(), 14);
        });
    }

    #[test]
    fn timers_never_fire_early_and_past_ones_fire_at_once() {
        smol::block_on(async {
            for micros in [0, 1, 300, 1_500, 20_000] {
                let at = Instant::now() + Duration::from_micros(micros);
                Smol::sleep_until(at).await;
                assert!(Instant::now() >= at, "{micros} µs");
            }
            let past =
                Instant::now().checked_sub(Duration::from_secs(1)).expect("a while of uptime");
            Smol::sleep_until(past).await;
        });
    }

    #[test]
    fn what_is_run_apart_blocks_its_own_thread_only() {
        let (name, named) = std::sync::mpsc::channel();
        let (go_on, gone_on) = std::sync::mpsc::channel();
        let apart = async move {
            name.send(thread::current().name().map(str::to_owned)).unwrap();
            gone_on.recv().unwrap();
            Smol::sleep_until(Instant::now() + Duration::from_millis(1)).await;
            name.send(None).unwrap();
        };
        Smol::spawn_apart("chiral-motion", apart).unwrap();
        assert_eq!(named.recv().unwrap().as_deref(), Some("chiral-motion"));
        // Timers and tasks go on although that thread is blocked.
        Smol::spawn("chiral-line", async move {
            Smol::sleep_until(Instant::now() + Duration::from_millis(1)).await;
            go_on.send(()).unwrap();
        });
        assert_eq!(named.recv().unwrap(), None);
    }
}
