//! The opening handshake over a stream whose calls time out and are interrupted.
#![cfg(unix)]

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chiral_blocking::proto::Action;
use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::{PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, Stream};

/// A socket of which one call moves a byte, the next is interrupted, and the third times out.
struct Slow {
    socket: UnixStream,
    calls: AtomicU32,
}

impl Slow {
    fn new(socket: UnixStream) -> Self {
        Self { socket, calls: AtomicU32::new(0) }
    }

    fn wait(&self) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) % 3 {
            1 => Err(io::ErrorKind::Interrupted.into()),
            2 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl Stream for Slow {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        Stream::read(&self.socket, &mut buf[..1])
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wait()?;
        let first = slices.iter().find(|slice| !slice.is_empty()).expect("there is something");
        Stream::write(&self.socket, &[IoSlice::new(&first[..1])])
    }

    fn shutdown(&self, how: Shutdown) {
        Stream::shutdown(&self.socket, how);
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.socket.set_timeouts(read, write)
    }
}

struct Arm(Sensors);

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.0
    }

    fn apply_action(&self, _: Action) -> Result<(), RobotError> {
        Ok(())
    }
}

#[test]
fn a_handshake_over_a_stream_that_times_out_now_and_then_completes() {
    let (robots, policys) = UnixStream::pair().expect("a pair of sockets");
    let server = PolicyServer::unbound(ServerConfig::default());
    let robot = Arm(Sensors::new([], []).expect("no sensors"));
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve_stream(Slow::new(robots), "test", robot));
        let policy = PolicyClient::over_stream(Slow::new(policys)).expect("a handshake");
        policy.observe().expect("an observation");
        policy.close();
    });
}
