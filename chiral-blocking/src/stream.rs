//! Byte streams whose calls block their thread.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// An ordered byte stream, used by two threads at once: one reads, one writes. A socket, a TLS
/// connection, a pair of pipes.
///
/// [`PolicyClient::over_stream`](crate::PolicyClient::over_stream) and
/// [`PolicyServer::serve_stream`](crate::PolicyServer::serve_stream) take any.
pub trait Stream: Send + Sync + 'static {
    /// Reads some bytes; blocks until there are any. 0 means that the peer has hung up.
    ///
    /// # Errors
    /// `WouldBlock` after the time set by [`set_timeouts`](Self::set_timeouts); any other but
    /// `Interrupted` ends the connection.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the bytes; blocks until some are taken.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes some of the bytes, without blocking: a caller that is never to wait sends its action
    /// so, and saves the wake-up of another thread. Default: `WouldBlock`, which leaves it to that
    /// thread.
    ///
    /// # Errors
    /// `WouldBlock` when none are taken at once.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _ = slices;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Whether it still holds bytes that [`write`](Self::write) took, as a stream that encrypts them
    /// or has a buffer may. Default: no.
    fn holds_bytes(&self) -> bool {
        false
    }

    /// Writes what it [holds](Self::holds_bytes); blocks until it holds nothing. Default: nothing.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Hangs up, in one direction or both. A [`read`](Self::read) that blocks must then return.
    fn shutdown(&self, how: Shutdown);

    /// Sets for how long a call may block; `None` for ever. Default: nothing; deadlines of this
    /// side are then noticed only when bytes come or go.
    ///
    /// # Errors
    /// When the system refuses.
    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        let _ = (read, write);
        Ok(())
    }
}

/// Writes to a socket. `writev` would raise SIGPIPE when the peer has gone, which ends a program that
/// is not Rust's: Rust ignores it before `main`.
#[cfg(unix)]
fn send(socket: impl AsFd, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
    let flags = flags | SendFlags::NOSIGNAL;
    Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
}

macro_rules! sockets {
    ($($socket:ty),*) => {$(
        impl Stream for $socket {
            fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
                Read::read(&mut &*self, buf)
            }

            #[cfg(unix)]
            fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                send(self, slices, SendFlags::empty())
            }

            #[cfg(not(unix))]
            fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                io::Write::write_vectored(&mut &*self, slices)
            }

            #[cfg(unix)]
            fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                send(self, slices, SendFlags::DONTWAIT)
            }

            fn shutdown(&self, how: Shutdown) {
                // A socket that is gone needs no shutdown.
                let _ = <$socket>::shutdown(self, how);
            }

            fn set_timeouts(
                &self,
                read: Option<Duration>,
                write: Option<Duration>,
            ) -> io::Result<()> {
                self.set_read_timeout(read)?;
                self.set_write_timeout(write)
            }
        }
    )*};
}

sockets!(TcpStream);
#[cfg(unix)]
sockets!(UnixStream);

/// A policy's socket, for which the system keeps no bytes that it cannot send.
#[cfg(unix)]
pub(crate) struct PolicyTcp(pub(crate) TcpStream);

/// How long a write waits for the system to send what was written before.
#[cfg(unix)]
const SEND_STEP: Duration = Duration::from_millis(5);

#[cfg(unix)]
impl Stream for PolicyTcp {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Stream::read(&self.0, buf)
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if chiral_driver::wait_until_writable(&self.0, SEND_STEP)? {
            Stream::write(&self.0, slices)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if chiral_driver::wait_until_writable(&self.0, Duration::ZERO)? {
            self.0.try_write(slices)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn shutdown(&self, how: Shutdown) {
        Stream::shutdown(&self.0, how);
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.0.set_timeouts(read, write)
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read(buf)
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).write(slices)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).try_write(slices)
    }

    fn holds_bytes(&self) -> bool {
        (**self).holds_bytes()
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn shutdown(&self, how: Shutdown) {
        (**self).shutdown(how);
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        (**self).set_timeouts(read, write)
    }
}

/// Whether a call failed only because the time for which it may block is over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => true,
        // On Unix that is said of a connection that is lost.
        io::ErrorKind::TimedOut => cfg!(windows),
        _ => false,
    }
}

/// Writes everything; `false` when that has not come about by `deadline`.
pub(crate) fn write_all(
    stream: &impl Stream,
    mut bytes: &[u8],
    deadline: Instant,
) -> io::Result<bool> {
    while !bytes.is_empty() {
        match stream.write(&[IoSlice::new(bytes)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() && deadline <= Instant::now() {
            return Ok(false);
        }
    }
    Ok(true)
}
