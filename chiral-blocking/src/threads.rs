//! Threads that belong together, and are waited for together.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The threads of one client or server.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts a thread. When the system has none, the error is not its own, which would be taken for a
    /// timeout.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        // Held over the start, so that nobody misses a thread that has begun.
        let mut running = self.lock();
        running.retain(|thread| !thread.is_finished());
        let started = thread::Builder::new().name(name.to_owned()).spawn(work);
        let no_thread = |error| io::Error::other(format!("no thread could be started: {error}"));
        running.push(started.map_err(no_thread)?);
        Ok(())
    }

    /// Waits until all threads have ended, those that they started too; not for the calling one.
    pub(crate) fn join(&self) {
        loop {
            let Some(thread) = self.lock().pop() else { return };
            if thread.thread().id() != thread::current().id() {
                // What it had to say when it panicked, it has said.
                let _ = thread.join();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn joining_a_group_waits_for_threads_started_by_its_threads() {
        let threads = Arc::new(Threads::default());
        let (done, ended) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let inner = Arc::clone(&threads);
        let outer = move || {
            let work = move || {
                let _ = gate.recv();
                let name = thread::current().name().map(str::to_owned);
                done.send(name).expect("the test waits");
            };
            inner.spawn("inner", work).expect("a thread");
        };
        threads.spawn("outer", outer).expect("a thread");
        drop(go);
        threads.join();
        assert_eq!(ended.try_recv(), Ok(Some("inner".to_owned())));
        assert!(threads.lock().is_empty());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let threads = Arc::new(Threads::default());
        let inside = Arc::clone(&threads);
        let (done, ended) = mpsc::channel();
        let last = move || {
            inside.join();
            done.send(()).expect("the test waits");
        };
        threads.spawn("last", last).expect("a thread");
        assert_eq!(ended.recv(), Ok(()));
    }
}
