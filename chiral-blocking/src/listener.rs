//! Listening sockets that block their thread, but not for long: whoever accepts looks up often
//! enough to notice that it is to stop.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use chiral_driver::address::StreamAddress;
#[cfg(unix)]
use {chiral_driver::UnixListening, std::os::unix::net::UnixListener};

use crate::connect::unsupported;
use crate::stream::Stream;

/// How long to wait for a connection before looking up.
const ACCEPT_STEP: Duration = Duration::from_millis(20);

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, UnixListening),
}

impl Listener {
    pub(crate) fn bind(address: &StreamAddress) -> io::Result<Self> {
        // Not to block: between the look and the call the connection may have gone.
        match address {
            StreamAddress::Tcp { host, port } => {
                let listener = TcpListener::bind((&**host, *port))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            #[cfg(unix)]
            StreamAddress::Unix(path) => {
                let (listener, listening) = UnixListening::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, listening))
            }
            _ => Err(unsupported(address)),
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<StreamAddress> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.into()),
            #[cfg(unix)]
            Self::Unix(_, listening) => Ok(listening.address()),
        }
    }

    /// The next connection, and who it is; `WouldBlock` when there is none for a moment.
    pub(crate) fn accept(&self) -> io::Result<(Box<dyn Stream>, String)> {
        self.wait_for_connection()?;
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), peer.to_string()))
            }
            #[cfg(unix)]
            Self::Unix(listener, listening) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok((Box::new(stream), listening.peer()))
            }
        }
    }

    /// Waits until there is a connection, but not for long.
    #[cfg(unix)]
    fn wait_for_connection(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let step = Timespec { tv_sec: 0, tv_nsec: i64::from(ACCEPT_STEP.subsec_nanos()) };
        let waiting = match self {
            Self::Tcp(listener) => PollFd::new(listener, PollFlags::IN),
            Self::Unix(listener, _) => PollFd::new(listener, PollFlags::IN),
        };
        match poll(&mut [waiting], Some(&step)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn wait_for_connection(&self) -> io::Result<()> {
        std::thread::sleep(ACCEPT_STEP / 4);
        Ok(())
    }
}
