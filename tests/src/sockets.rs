//! Sockets of either kind, TCP and Unix, for what goes between a policy and its robot.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Where a socket listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A file.
    Unix(PathBuf),
}

impl Address {
    /// The address in a URI.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(uri: &str) -> Self {
        path_of(uri).map_or_else(|| Self::Tcp(address_of(uri)), Self::Unix)
    }

    /// Connects to it.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).and_then(Socket::tcp),
            Self::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    /// Listens at another address of the same kind, in the background: passes every connection that
    /// comes in to `accept`, until that says to stop. Returns where it listens.
    ///
    /// # Panics
    /// When there is no address left.
    #[must_use]
    pub fn listen(&self, accept: impl FnMut(Socket) -> bool + Send + 'static) -> Self {
        match self {
            Self::Tcp(_) => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
                let address = listener.local_addr().expect("it is bound");
                let next = move || Socket::tcp(listener.accept().expect("the listener lives").0);
                thread::spawn(|| accept_while(next, accept));
                Self::Tcp(address)
            }
            Self::Unix(_) => {
                let path = unused_path();
                let listener = UnixListener::bind(&path).expect("nobody listens there");
                let next =
                    move || Ok(Socket::Unix(listener.accept().expect("the listener lives").0));
                thread::spawn(|| accept_while(next, accept));
                Self::Unix(path)
            }
        }
    }

    /// Removes its file, if it has one.
    pub fn remove(&self) {
        if let Self::Unix(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn accept_while(
    mut next: impl FnMut() -> io::Result<Socket>,
    mut accept: impl FnMut(Socket) -> bool,
) {
    loop {
        // One that has gone already is not passed on.
        if let Ok(socket) = next()
            && !accept(socket)
        {
            return;
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Another handle to the same socket.
    ///
    /// # Panics
    /// When the system has none left.
    #[must_use]
    pub fn twin(&self) -> Self {
        let twin = match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        };
        twin.expect("the system has a handle left")
    }

    /// Shuts it down, if it is not gone already.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
        };
    }

    /// Has reads and writes give up after this long.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout);
        match self {
            Self::Tcp(socket) => {
                socket.set_read_timeout(timeout).and_then(|()| socket.set_write_timeout(timeout))
            }
            Self::Unix(socket) => {
                socket.set_read_timeout(timeout).and_then(|()| socket.set_write_timeout(timeout))
            }
        }
    }

    /// Has the last handle's drop reset the connection, where the kind of socket knows that.
    pub fn reset_on_drop(&self) {
        if let Self::Tcp(socket) = self {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => { socket }.read(buf),
            Socket::Unix(socket) => { socket }.read(buf),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => { socket }.write(bytes),
            Socket::Unix(socket) => { socket }.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The TCP socket that a URI names.
///
/// # Panics
/// When it names none.
pub fn address_of(uri: &str) -> SocketAddr {
    let behind = uri.rsplit('/').next();
    let address = behind.and_then(|behind| behind.split('?').next());
    address.and_then(|address| address.parse().ok()).expect("it names a socket")
}

/// The path of the Unix socket that a URI names, `scheme:/path`, if it does.
pub fn path_of(uri: &str) -> Option<PathBuf> {
    let (_, path) = uri.split_once(':')?;
    (path.starts_with('/') && !path.starts_with("//")).then(|| path.into())
}

/// A path of which there is no file; a socket's may have about a hundred bytes.
pub fn unused_path() -> PathBuf {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("chiral-{}-{call}.sock", std::process::id()))
}
