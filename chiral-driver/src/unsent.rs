//! What a policy sends is not to wait in the system: an action is stamped when it is written, and
//! would grow old there.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Asks the system to take more of a TCP socket's bytes only when it has sent those before. To be
/// called once, for a policy's socket; [`wait_until_writable`] then knows.
///
/// Linux keeps megabytes otherwise: minutes of actions, when the network stalls.
///
/// # Errors
/// When the system refuses, or on systems other than Linux and Android, where this is not done.
pub fn limit_unsent(socket: impl AsFd) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return socket2::SockRef::from(&socket.as_fd()).set_tcp_notsent_lowat(1);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether a socket takes bytes, or has failed; waits for it for so long. A write to a socket with
/// [limited](limit_unsent) unsent bytes succeeds in small pieces before, so this is to be asked
/// first.
///
/// # Errors
/// When the system does not say.
pub fn wait_until_writable(socket: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
