//! A network that can fail: a forwarder between a policy and a robot, and a router.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use zenoh::{Session, Wait};

/// Forwards connections, until it is cut or frozen.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    is_frozen: bool,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn to(address: &str) -> Self {
        let target: SocketAddr = address.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let endpoint = format!("tcp/{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let of_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            for inward in listener.incoming() {
                let (Ok(inward), Ok(outward)) = (inward, TcpStream::connect(target)) else {
                    continue;
                };
                for (from, to) in [(&inward, &outward), (&outward, &inward)] {
                    let from = from.try_clone().expect("a socket");
                    let to = to.try_clone().expect("a socket");
                    let state = Arc::clone(&of_thread);
                    std::thread::spawn(move || forward(from, to, &state));
                }
                of_thread.0.lock().expect("no panic").sockets.extend([inward, outward]);
            }
        });
        Self { endpoint, state }
    }

    /// As if the cable were unplugged: nothing is forwarded, and no connection is closed.
    pub(crate) fn freeze(&self) {
        self.set(true);
    }

    pub(crate) fn thaw(&self) {
        self.set(false);
    }

    fn set(&self, is_frozen: bool) {
        self.state.0.lock().expect("no panic").is_frozen = is_frozen;
        self.state.1.notify_all();
    }

    /// As if the process at the other end had died: connections are closed.
    pub(crate) fn cut(&self) {
        for socket in self.state.0.lock().expect("no panic").sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &(Mutex<State>, Condvar)) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let thawed = state.1.wait_while(state.0.lock().expect("no panic"), |state| state.is_frozen);
        drop(thawed.expect("no panic"));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A Zenoh router on a free port, and its endpoint.
pub(crate) fn router() -> (Session, String) {
    router_with(&[])
}

/// A router with further settings.
pub(crate) fn router_with(settings: &[(&str, String)]) -> (Session, String) {
    let port = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    let endpoint = format!("tcp/{port}");
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\"".to_owned()),
        ("listen/endpoints", format!("[\"{endpoint}\"]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).expect(key);
    }
    for (key, value) in settings {
        config.insert_json5(key, value).expect(key);
    }
    (zenoh::open(config).wait().expect("a router"), endpoint)
}

/// Somebody else on the network, who connects to a router or to a robot.
pub(crate) fn stranger(endpoint: &str, settings: &[(&str, String)]) -> Session {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"client\"".to_owned()),
        ("connect/endpoints", format!("[\"{endpoint}\"]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).expect(key);
    }
    for (key, value) in settings {
        config.insert_json5(key, value).expect(key);
    }
    zenoh::open(config).wait().expect("it is let in")
}
