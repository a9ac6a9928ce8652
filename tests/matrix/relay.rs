//! A relay between a policy and its robot, over sockets.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use chiral_tests::sockets::{Address, Socket};

use crate::network::Relay;

/// Passes on what is sent between clients and a server, until it is cut.
pub(crate) struct SocketRelay {
    uri: String,
    address: Address,
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
        self.address.remove();
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
        thread::spawn(move || up.pass_on(Sender::Client, &client, &to_server));
        thread::spawn(move || down.pass_on(Sender::Server, &server, &to_client));
    }

    fn pass_on(&self, sender: Sender, mut from: &Socket, mut to: &Socket) {
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
