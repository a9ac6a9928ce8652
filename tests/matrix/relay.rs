//! The network between a policy and its robot, which a test can cut or stop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::pair::address_of;

/// Passes on what is sent between clients and a server, until it is cut.
pub(crate) struct Relay {
    uri: String,
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Both ends of the connections that there are.
    ends: Vec<TcpStream>,
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

impl Relay {
    /// Starts a relay in front of a server.
    pub(crate) fn to(uri: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let server = address_of(uri);
        let wire = Arc::<Wire>::default();
        let theirs = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming() {
                if theirs.lock().unplugged {
                    return;
                }
                let client = client.expect("the listener lives");
                // A server that does not listen any more hangs up on the client.
                if let Ok(server) = TcpStream::connect(server) {
                    theirs.join(client, server);
                }
            }
        });
        Self { uri: uri.replace(&server.to_string(), &address.to_string()), address, wire }
    }

    /// Where a client gets to the server through the relay.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Cuts it: both ends see the other gone, without a word. The next connection passes again.
    pub(crate) fn cut(&self) {
        self.wire.cut(&mut self.wire.lock());
    }

    /// Cuts it behind so many more bytes of the server's.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.wire.lock().bytes_left = Some(bytes);
    }

    /// Stops what passes, in both directions; nobody is told.
    pub(crate) fn freeze(&self) {
        self.wire.lock().is_frozen = [true; 2];
    }

    /// Stops what the server sends.
    pub(crate) fn freeze_server(&self) {
        self.wire.lock().is_frozen[Sender::Server as usize] = true;
    }

    /// Lets everything pass again.
    pub(crate) fn thaw(&self) {
        self.wire.lock().is_frozen = [false; 2];
        self.wire.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wire.lock().unplugged = true;
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    /// Passes on between two ends, in the background.
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let twin = |end: &TcpStream| end.try_clone().expect("the system has a handle left");
        for end in [&client, &server] {
            end.set_nodelay(true).expect("it is connected");
        }
        self.lock().ends.extend([twin(&client), twin(&server)]);
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        let (to_server, to_client) = (twin(&server), twin(&client));
        thread::spawn(move || up.pass_on(Sender::Client, client, to_server));
        thread::spawn(move || down.pass_on(Sender::Server, server, to_client));
    }

    fn pass_on(&self, sender: Sender, mut from: TcpStream, mut to: TcpStream) {
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
        let _ = to.shutdown(Shutdown::Write);
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
            // It may be gone already.
            let _ = end.shutdown(Shutdown::Both);
        }
        state.is_frozen = [false; 2];
        self.changed.notify_all();
    }
}
