//! A network with faults between policies and a robot, over real sockets.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use chiral_proto::testing::{Break, Link, Side};

use crate::sockets::{Address, Socket};

/// A relay whose connections go through [`Link`]s with faults, on real time.
pub struct FaultRelay {
    uri: String,
    address: Address,
    is_over: Arc<AtomicBool>,
}

/// How often a thread looks whether its connection is over.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of one read.
const CHUNK: usize = 64 << 10;

impl FaultRelay {
    /// Starts a relay in front of a server; `link` makes the link of each connection.
    pub fn to(uri: &str, mut link: impl FnMut() -> Link + Send + 'static) -> Self {
        let server = Address::of(uri);
        let is_over = Arc::<AtomicBool>::default();
        let (theirs, target) = (Arc::clone(&is_over), server.clone());
        let address = server.listen(move |client| {
            if theirs.load(Ordering::Relaxed) {
                return false;
            }
            // A server that does not listen any more hangs up on the client.
            if let Ok(server) = target.connect() {
                // It may be gone already.
                let _ = Passage::start(link(), client, server, &theirs);
            }
            true
        });
        Self { uri: uri.replace(&server.to_string(), &address.to_string()), address, is_over }
    }

    /// Where a policy gets to the robot through the relay.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

/// Ends all its connections.
impl Drop for FaultRelay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = self.address.connect();
        self.address.remove();
    }
}

/// One connection. Its threads hold it; with the last one it is closed.
struct Passage {
    sockets: [Socket; 2],
    state: Mutex<State>,
    changed: Condvar,
    is_relay_over: Arc<AtomicBool>,
}

struct State {
    link: Link,
    /// Who has hung up, by [`Side`].
    has_gone: [bool; 2],
}

impl Passage {
    fn start(
        link: Link,
        client: Socket,
        server: Socket,
        is_relay_over: &Arc<AtomicBool>,
    ) -> io::Result<()> {
        let sockets = [client, server];
        for socket in &sockets {
            socket.set_timeouts(LOOK)?;
        }
        let passage = Arc::new(Self {
            sockets,
            state: Mutex::new(State { link, has_gone: [false; 2] }),
            changed: Condvar::new(),
            is_relay_over: Arc::clone(is_relay_over),
        });
        for side in [Side::Client, Side::Server] {
            let (takes, delivers) = (Arc::clone(&passage), Arc::clone(&passage));
            thread::spawn(move || takes.take_from(side));
            thread::spawn(move || delivers.deliver_to(side));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    fn is_over(&self, state: &State) -> bool {
        self.is_relay_over.load(Ordering::Relaxed)
            || state.link.broken(Side::Client) == Some(Break::Reset)
    }

    /// Waits until the link has something to do, or somebody has changed it.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        let until = state.link.poll_timeout(now).map_or(LOOK, |until| until - now);
        self.changed.wait_timeout(state, until.min(LOOK)).expect("nothing panics with it").0
    }

    /// Puts what a side sends into the link.
    fn take_from(&self, side: Side) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match (&self.sockets[side as usize]).read(&mut chunk) {
                Ok(0) => {
                    self.lock().link.shut_down_write(side);
                    break;
                }
                Ok(count) => {
                    if !self.put(side, &chunk[..count]) {
                        break;
                    }
                }
                Err(error) if is_timeout(&error) => {
                    if self.is_over(&self.lock()) {
                        break;
                    }
                }
                Err(_) => {
                    self.lock().link.close(side);
                    break;
                }
            }
        }
        self.lock().has_gone[side as usize] = true;
        self.changed.notify_all();
    }

    /// Says whether the side is to be heard further.
    fn put(&self, side: Side, mut bytes: &[u8]) -> bool {
        let mut state = self.lock();
        while !bytes.is_empty() {
            if self.is_over(&state) {
                return false;
            }
            let now = Instant::now();
            match state.link.write(now, side, bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Nothing would be taken any more from one who has nobody to send to.
                    if state.has_gone[side.peer() as usize] && state.link.broken(side).is_some() {
                        return false;
                    }
                    state = self.wait(state, now);
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Hands a side what has arrived for it.
    fn deliver_to(&self, side: Side) {
        let mut chunk = vec![0; CHUNK];
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match state.link.read(now, side, &mut chunk) {
                Ok(0) => {
                    self.sockets[side as usize].shutdown(Shutdown::Write);
                    break;
                }
                Ok(count) => {
                    self.changed.notify_all();
                    drop(state);
                    let is_delivered = self.write(side, &chunk[..count]);
                    state = self.lock();
                    if !is_delivered {
                        state.link.close(side);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let nothing_comes =
                        state.has_gone == [true; 2] && state.link.poll_timeout(now).is_none();
                    if self.is_over(&state) || nothing_comes {
                        break;
                    }
                    state = self.wait(state, now);
                }
                Err(_) => break,
            }
        }
        if state.link.broken(side.peer()) == Some(Break::Reset) {
            self.sockets.iter().for_each(Socket::reset_on_drop);
        }
        self.changed.notify_all();
    }

    /// Says whether the side has taken it all.
    fn write(&self, side: Side, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match (&self.sockets[side as usize]).write(bytes) {
                Ok(0) => return false,
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {
                    if self.is_over(&self.lock()) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
