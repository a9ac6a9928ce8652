//! A relay between a policy and its robot, over sockets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::network::{self, Relay, address_of, path_of};

/// Passes on what is sent between clients and a server, until it is cut.
pub(crate) struct SocketRelay {
    uri: String,
    address: Address,
    wire: Arc<Wire>,
}

/// Where a socket listens.
#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    fn of(uri: &str) -> Self {
        path_of(uri).map_or_else(|| Self::Tcp(address_of(uri)), Self::Unix)
    }

    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).and_then(Socket::tcp),
            Self::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    /// Passes every connection that comes in to `accept`, until that says to stop; returns where
    /// it listens.
    fn listen(&self, accept: impl FnMut(Socket) -> bool + Send + 'static) -> Self {
        match self {
            Self::Tcp(_) => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
                let address = listener.local_addr().expect("it is bound");
                let next = move || Socket::tcp(listener.accept().expect("the listener lives").0);
                thread::spawn(|| accept_while(next, accept));
                Self::Tcp(address)
            }
            Self::Unix(_) => {
                let path = network::unused_path();
                let listener = UnixListener::bind(&path).expect("nobody listens there");
                let next =
                    move || Ok(Socket::Unix(listener.accept().expect("the listener lives").0));
                thread::spawn(|| accept_while(next, accept));
                Self::Unix(path)
            }
        }
    }
}

fn accept_while(
    mut next: impl FnMut() -> io::Result<Socket>,
    mut accept: impl FnMut(Socket) -> bool,
) {
    while accept(next().expect("it is connected")) {}
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Another handle to the same socket.
    fn twin(&self) -> Self {
        let twin = match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        };
        twin.expect("the system has a handle left")
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.write_all(bytes),
            Self::Unix(socket) => socket.write_all(bytes),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // It may be gone already.
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
        };
    }
}

#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Both ends of the connections that there are.
    ends: Vec<Socket>,
    /// After so many more bytes of the server's it is cut.
    bytes_left: Option<usize>,
    /// Who is not heard any more, by [`Sender`].
    is_frozen: [bool; 2],
    unplugged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

impl SocketRelay {
    /// Starts a relay in front of a server.
    pub(crate) fn to(uri: &str) -> Self {
        let server = Address::of(uri);
        let wire = Arc::<Wire>::default();
        let (theirs, target) = (Arc::clone(&wire), server.clone());
        let address = server.listen(move |client| {
            if theirs.lock().unplugged {
                return false;
            }
            // A server that does not listen any more hangs up on the client.
            if let Ok(server) = target.connect() {
                theirs.join(client, server);
            }
            true
        });
        Self { uri: uri.replace(&server.to_string(), &address.to_string()), address, wire }
    }

    /// Cuts it behind so many more bytes of the server's.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.wire.lock().bytes_left = Some(bytes);
    }
}

impl Relay for SocketRelay {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn cut(&self) {
        self.wire.cut(&mut self.wire.lock());
    }

    fn freeze(&self) {
        self.wire.lock().is_frozen = [true; 2];
    }

    fn freeze_server(&self) {
        self.wire.lock().is_frozen[Sender::Server as usize] = true;
    }

    fn thaw(&self) {
        self.wire.lock().is_frozen = [false; 2];
        self.wire.changed.notify_all();
    }
}

impl Drop for SocketRelay {
    fn drop(&mut self) {
        self.wire.lock().unplugged = true;
        self.cut();
        // Wakes the thread that accepts.
        let _ = self.address.connect();
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    /// Passes on between two ends, in the background.
    fn join(self: &Arc<Self>, client: Socket, server: Socket) {
        self.lock().ends.extend([client.twin(), server.twin()]);
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        let (to_server, to_client) = (server.twin(), client.twin());
        thread::spawn(move || up.pass_on(Sender::Client, client, to_server));
        thread::spawn(move || down.pass_on(Sender::Server, server, to_client));
    }

    fn pass_on(&self, sender: Sender, mut from: Socket, mut to: Socket) {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let (passes, is_cut) = self.passage(sender, count);
            if to.write_all(&chunk[..passes]).is_err() {
                break;
            }
            if is_cut {
                self.cut(&mut self.lock());
            }
        }
        // Whoever hangs up is heard to do so on the other side, when anything is.
        drop(self.until_open(sender));
        to.shutdown(Shutdown::Write);
    }

    /// Waits while nothing of a sender's passes.
    fn until_open(&self, sender: Sender) -> MutexGuard<'_, State> {
        let is_frozen = |state: &mut State| state.is_frozen[sender as usize];
        self.changed.wait_while(self.lock(), is_frozen).expect("nothing panics with it")
    }

    /// Waits while nothing passes; then says how many of so many bytes do, and whether the relay
    /// is cut behind them.
    fn passage(&self, sender: Sender, count: usize) -> (usize, bool) {
        let mut state = self.until_open(sender);
        let Some(left) = state.bytes_left.filter(|_| sender == Sender::Server) else {
            return (count, false);
        };
        let passes = left.min(count);
        state.bytes_left = (count < left).then(|| left - count);
        (passes, count >= left)
    }

    fn cut(&self, state: &mut State) {
        for end in state.ends.drain(..) {
            end.shutdown(Shutdown::Both);
        }
        state.is_frozen = [false; 2];
        self.changed.notify_all();
    }
}
