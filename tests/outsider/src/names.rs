//! Names at which connections within this process are accepted, as ports are for sockets.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use event_listener::Event;
use futures_lite::future::or;

/// What a test does to a connection.
pub trait Faults: Send + Sync {
    /// Breaks it; both ends notice.
    fn cut(&self);

    /// Stops or lets pass what the client and what the server sends.
    fn freeze(&self, client: bool, server: bool);
}

/// Names, and who listens there for a server's end of a connection, `E`.
pub struct Names<E> {
    state: Mutex<State<E>>,
    changed: Event,
}

struct State<E> {
    /// The ends that are not accepted yet.
    arrivals: BTreeMap<String, VecDeque<E>>,
    connections: BTreeMap<String, Vec<Weak<dyn Faults>>>,
}

impl<E> Names<E> {
    /// Nobody listens.
    pub const fn new() -> Self {
        let state = State { arrivals: BTreeMap::new(), connections: BTreeMap::new() };
        Self { state: Mutex::new(state), changed: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens at a name.
    ///
    /// # Errors
    /// When somebody else does.
    pub fn listen(&'static self, name: &str) -> io::Result<Listening<E>> {
        {
            let mut state = self.lock();
            if state.arrivals.contains_key(name) {
                let why = format!("somebody listens at {name} already");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            state.arrivals.insert(name.to_owned(), VecDeque::new());
        }
        self.changed.notify(usize::MAX);
        Ok(Listening { names: self, name: name.to_owned() })
    }

    /// Whether somebody listens at a name.
    pub fn is_listening(&self, name: &str) -> bool {
        self.lock().arrivals.contains_key(name)
    }

    /// The connections to a name that there are.
    pub fn connections(&self, name: &str) -> Vec<Arc<dyn Faults>> {
        let connections = self.lock().connections.get(name).cloned().unwrap_or_default();
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// Passes the server's end of a connection to whoever listens at a name; waits for somebody to,
    /// until `deadline` at the most.
    ///
    /// # Errors
    /// `TimedOut` when nobody does in time.
    pub async fn connect(
        &self,
        name: &str,
        end: E,
        faults: Weak<dyn Faults>,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let mut end = Some(end);
        let pass = async {
            loop {
                let changed = self.changed.listen();
                {
                    let mut state = self.lock();
                    if let Some(arrivals) = state.arrivals.get_mut(name) {
                        arrivals.extend(end.take());
                        let connections = state.connections.entry(name.to_owned()).or_default();
                        connections.retain(|connection| connection.strong_count() > 0);
                        connections.push(faults);
                        break;
                    }
                }
                changed.await;
            }
            self.changed.notify(usize::MAX);
            Ok(())
        };
        or(pass, expire(deadline)).await
    }
}

impl<E> Default for Names<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// Fails when the time is over.
pub(crate) async fn expire<T>(deadline: Option<Instant>) -> io::Result<T> {
    match deadline {
        Some(deadline) => drop(smol::Timer::at(deadline).await),
        None => std::future::pending().await,
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "nobody listens there, or nobody answers"))
}

/// Somebody who listens at a name. Its drop ends that, and drops what was not accepted.
pub struct Listening<E: 'static> {
    names: &'static Names<E>,
    name: String,
}

impl<E> Listening<E> {
    /// The next connection.
    pub async fn accept(&self) -> E {
        loop {
            let changed = self.names.changed.listen();
            let next = self.names.lock().arrivals.get_mut(&self.name).and_then(VecDeque::pop_front);
            if let Some(next) = next {
                return next;
            }
            changed.await;
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<E> Drop for Listening<E> {
    fn drop(&mut self) {
        // Dropped without the lock: an end that is dropped wakes its peer.
        let left = self.names.lock().arrivals.remove(&self.name);
        drop(left);
    }
}
