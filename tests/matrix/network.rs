//! The networks on which robots and policies meet, and what a test does to them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use chiral_tests::sockets::{address_of, path_of, unused_path};

use crate::relay::SocketRelay;

/// A kind of network on one host.
pub(crate) trait Network: Sync {
    /// An address for a robot, another one for each call; the network may choose a part of it when
    /// the robot is served.
    fn any_address(&self) -> String {
        self.unused_address()
    }

    /// An address at which nobody listens, another one for each call.
    fn unused_address(&self) -> String;

    /// The address in a URI.
    fn address_of(&self, uri: &str) -> String;

    /// Whether somebody listens at a URI.
    fn is_listening(&self, uri: &str) -> bool;

    /// Goes between policies and the robot at a URI.
    fn relay(&self, uri: &str) -> Box<dyn Relay>;
}

/// The network between policies and a robot, which a test can cut or stop.
pub(crate) trait Relay: Send {
    /// Where a policy gets to the robot through the relay.
    fn uri(&self) -> &str;

    /// Cuts it: both ends see the other gone, without a word. The next connection passes again.
    fn cut(&self);

    /// Stops what passes, in both directions; nobody is told.
    fn freeze(&self);

    /// Stops what the server sends.
    fn freeze_server(&self);

    /// Lets everything pass again.
    fn thaw(&self);
}

/// TCP on the loopback interface.
pub(crate) struct Tcp;

impl Network for Tcp {
    fn any_address(&self) -> String {
        "127.0.0.1:0".to_owned()
    }

    fn unused_address(&self) -> String {
        nowhere().to_string()
    }

    fn address_of(&self, uri: &str) -> String {
        address_of(uri).to_string()
    }

    fn is_listening(&self, uri: &str) -> bool {
        TcpStream::connect(address_of(uri)).is_ok()
    }

    fn relay(&self, uri: &str) -> Box<dyn Relay> {
        Box::new(SocketRelay::to(uri))
    }
}

/// Unix sockets, in the folder for temporary files.
pub(crate) struct Unix;

impl Network for Unix {
    fn unused_address(&self) -> String {
        unused_path().display().to_string()
    }

    fn address_of(&self, uri: &str) -> String {
        path_of(uri).expect("it names a path").display().to_string()
    }

    fn is_listening(&self, uri: &str) -> bool {
        path_of(uri).is_some_and(|path| UnixStream::connect(path).is_ok())
    }

    fn relay(&self, uri: &str) -> Box<dyn Relay> {
        Box::new(SocketRelay::to(uri))
    }
}

/// A loopback address on which nothing listens, and on which nobody happens to: outside of the
/// range from which systems choose ports, and another one for each call and process.
pub(crate) fn nowhere() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    loop {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 64 + call) % 20_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener.local_addr().expect("it is bound");
        }
    }
}
