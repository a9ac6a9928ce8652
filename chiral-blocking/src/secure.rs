//! TLS over a stream that blocks.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_driver::tls::{Pending, Received, TlsSession};

use crate::stream::{Stream, is_timeout};

/// A TLS connection over a stream, used by two threads as the stream is: nobody waits for the
/// stream while it holds the session.
pub(crate) struct Secure<S> {
    stream: S,
    session: Mutex<TlsSession>,
    /// The reading thread's.
    received: Mutex<Received>,
    /// Whoever holds it writes to the stream. It is locked before the session.
    pending: Mutex<Pending>,
}

impl<S: Stream> Secure<S> {
    pub(crate) fn new(stream: S, session: TlsSession) -> Self {
        let (received, pending) = (Mutex::default(), Mutex::default());
        Self { stream, session: Mutex::new(session), received, pending }
    }

    /// Sends what is pending.
    fn send(
        &self,
        pending: &mut Pending,
        write: impl Fn(&S, &[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !pending.transmit().is_empty() {
            match write(&self.stream, &[IoSlice::new(pending.transmit())])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => pending.bytes_written(count),
            }
        }
        Ok(())
    }

    /// Encrypts and sends, all of what is pending first.
    fn encrypt(
        &self,
        plaintext: &[IoSlice<'_>],
        write: impl Fn(&S, &[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut pending = lock(&self.pending);
        self.send(&mut pending, &write)?;
        let count = lock(&self.session).write(plaintext, &mut pending)?;
        match self.send(&mut pending, &write) {
            Err(error) if !is_timeout(&error) => Err(error),
            _ => Ok(count),
        }
    }

    /// Takes what TLS itself has to say, and sends it.
    fn send_messages(&self) {
        let mut pending = lock(&self.pending);
        lock(&self.session).take_messages(&mut pending);
        // When the stream takes nothing more, whoever writes next finds that.
        let _ = self.send(&mut pending, S::write);
    }
}

impl<S: Stream> Stream for Secure<S> {
    /// Reads from the stream once at the most, so that a caller with a deadline gets to look at it.
    /// After a failure, which is told once, it gives zeros for what still comes: whoever waits for
    /// the peer to hang up counts them.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut received = lock(&self.received);
        if lock(&self.session).has_failed() {
            let count = self.stream.read(buf)?;
            buf[..count].fill(0);
            return Ok(count);
        }
        for may_read in [true, false] {
            let (read, has_messages) = {
                let mut session = lock(&self.session);
                let read = session.read(&mut received, buf);
                (read, session.has_messages())
            };
            if has_messages {
                self.send_messages();
            }
            if let Some(count) = read? {
                return Ok(count);
            }
            if may_read {
                let count = self.stream.read(received.read_buf())?;
                received.bytes_read(count);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.encrypt(slices, S::write)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.encrypt(slices, S::try_write)
    }

    fn holds_bytes(&self) -> bool {
        !lock(&self.pending).transmit().is_empty()
    }

    fn flush(&self) -> io::Result<()> {
        self.send(&mut lock(&self.pending), S::write)
    }

    fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            let mut pending = lock(&self.pending);
            lock(&self.session).close(&mut pending);
            // A stream that takes nothing more is shut down all the same.
            let _ = self.send(&mut pending, S::write);
        }
        self.stream.shutdown(how);
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.stream.set_timeouts(read, write)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
