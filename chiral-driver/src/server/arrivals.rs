//! Connections that have come and are not admitted: how many there may be, and which of them go
//! when there are more.

use std::collections::HashMap;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use futures_lite::future::or;

use super::admission::Admission;

/// How many connections that are not admitted may be open at once, those that are being refused
/// included.
const LIMIT: usize = 64;

/// The connections that are not admitted.
#[derive(Default)]
pub(super) struct Arrivals {
    /// In the order in which they came.
    open: Vec<Entry>,
    next_id: u64,
}

struct Entry {
    id: u64,
    source: String,
    /// It is to be closed, in favour of one that came later.
    evicted: bool,
    /// Notified of just that: to wake all that have come, for each that comes, would cost a server
    /// more than the flood costs the stranger.
    on_evict: Arc<Event>,
}

impl Arrivals {
    /// Takes one in, and has another one closed if there are too many: the oldest of the source
    /// that has the most, so that a flood from one host keeps no other host out.
    fn add(&mut self, source: String) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.push(Entry { id, source, evicted: false, on_evict: Arc::default() });
        let waiting = || self.open.iter().filter(|entry| !entry.evicted);
        if waiting().count() > LIMIT {
            let mut counts = HashMap::<&str, usize>::new();
            waiting().for_each(|entry| *counts.entry(&entry.source).or_default() += 1);
            let most = counts.values().max().copied();
            let oldest = waiting().find(|entry| counts.get(&*entry.source).copied() == most);
            let oldest = oldest.map(|entry| entry.id);
            for entry in self.open.iter_mut().filter(|entry| Some(entry.id) == oldest) {
                entry.evicted = true;
                entry.on_evict.notify(usize::MAX);
            }
        }
        id
    }

    fn remove(&mut self, id: u64) {
        self.open.retain(|entry| entry.id != id);
    }

    pub(super) fn is_evicted(&self, id: u64) -> bool {
        self.open.iter().any(|entry| entry.id == id && entry.evicted)
    }

    /// What to wait for until it is evicted; `None` when it is, or is not there.
    fn listen_evicted(&self, id: u64) -> Option<EventListener> {
        let entry = self.open.iter().find(|entry| entry.id == id && !entry.evicted)?;
        Some(entry.on_evict.listen())
    }
}

/// A connection that is not admitted, for as long as its socket is open.
pub struct Arrival {
    admission: Arc<Admission>,
    id: u64,
}

impl Arrival {
    pub(super) fn new(admission: &Arc<Admission>, source: String) -> Self {
        let id = admission.lock().arrivals.add(source);
        Self { admission: Arc::clone(admission), id }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is not worth going on with.
    pub fn is_cancelled(&self) -> bool {
        let state = self.admission.lock();
        state.shutting_down || state.arrivals.is_evicted(self.id)
    }

    /// Waits until it is not worth going on with.
    pub async fn wait_until_cancelled(&self) {
        or(self.admission.wait_for_shutdown(), self.wait_until_evicted()).await;
    }

    /// As [`wait_until_cancelled`](Self::wait_until_cancelled), but a shutdown is no reason: who is
    /// being told of one is to hear it.
    pub async fn wait_until_evicted(&self) {
        let evicted = self.admission.lock().arrivals.listen_evicted(self.id);
        if let Some(evicted) = evicted {
            evicted.await;
        }
    }

    /// Whether another connection needs its place.
    pub fn is_evicted(&self) -> bool {
        self.admission.lock().arrivals.is_evicted(self.id)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.admission.lock().arrivals.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_source_evicts_its_own_connections() {
        let mut arrivals = Arrivals::default();
        let honest = arrivals.add("honest".to_owned());
        let flood: Vec<u64> = (0..500).map(|_| arrivals.add("flood".to_owned())).collect();
        assert!(!arrivals.is_evicted(honest));
        let open = flood.iter().filter(|&&id| !arrivals.is_evicted(id)).count();
        assert_eq!(open, LIMIT - 1);
        assert!(arrivals.is_evicted(flood[0]) && !arrivals.is_evicted(flood[499]));
    }

    #[test]
    fn a_closed_connection_frees_its_slot() {
        let mut arrivals = Arrivals::default();
        let first: Vec<u64> = (0..LIMIT).map(|n| arrivals.add(n.to_string())).collect();
        arrivals.remove(first[3]);
        arrivals.add("another".to_owned());
        assert!(first.iter().all(|&id| !arrivals.is_evicted(id)));
        arrivals.add("one more".to_owned());
        assert!(arrivals.is_evicted(first[0]));
    }
}
