//! Threads that belong together, and are waited for together.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

thread_local! {
    /// The group to which this thread, and what it starts, belongs.
    static CURRENT: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
}

/// The threads of one client or server.
#[derive(Default)]
pub(crate) struct Group {
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Group {
    /// Calls something whose threads are to belong to this group.
    pub(crate) fn enter<T>(self: &Arc<Self>, call: impl FnOnce() -> T) -> T {
        let _inside = Inside(CURRENT.replace(Some(Arc::clone(self))));
        call()
    }

    /// Starts a thread in the group.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        // Held over the start, so that nobody misses a thread that has begun.
        let mut running = self.lock();
        running.retain(|thread| !thread.is_finished());
        let group = Arc::clone(self);
        let thread = thread::Builder::new().name(name.to_owned());
        running.push(thread.spawn(move || group.enter(work))?);
        Ok(())
    }

    /// Waits until all threads of the group have ended; not for the calling one.
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

/// Restores the group that was current before, also when the call panics.
struct Inside(Option<Arc<Group>>);

impl Drop for Inside {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// Starts a thread in the current group.
pub(super) fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    CURRENT.with_borrow(Option::clone).unwrap_or_default().spawn(name, work)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn joining_a_group_waits_for_threads_started_by_its_threads() {
        let group = Arc::new(Group::default());
        let (done, ended) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        group.enter(|| {
            spawn("outer", move || {
                spawn("inner", move || {
                    let _ = gate.recv();
                    let name = thread::current().name().map(str::to_owned);
                    done.send(name).expect("the test waits");
                })
                .expect("a thread");
            })
            .expect("a thread");
        });
        drop(go);
        group.join();
        assert_eq!(ended.try_recv(), Ok(Some("inner".to_owned())));
        assert!(group.lock().is_empty());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let group = Arc::new(Group::default());
        let inside = Arc::clone(&group);
        let (done, ended) = mpsc::channel();
        group.enter(|| {
            spawn("last", move || {
                inside.join();
                done.send(()).expect("the test waits");
            })
            .expect("a thread");
        });
        assert_eq!(ended.recv(), Ok(()));
    }
}
