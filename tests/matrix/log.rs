//! What is logged while a test does something.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

/// A log that a test can read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    /// Where the thread's events go; of most threads, nowhere.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Has the events of each thread written to its log. One subscriber for all threads: with one of
/// its own only, an event is lost when a thread without any is the first to come by its place.
static SUBSCRIBED: LazyLock<()> = LazyLock::new(|| {
    let writer = || LOG.with_borrow(|log| log.clone().unwrap_or_default());
    tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
    // For the places that were come by meanwhile.
    tracing::callsite::rebuild_interest_cache();
});

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Runs something in this thread, and keeps what it logs.
    pub(crate) fn keep<T>(&self, of: impl FnOnce() -> T) -> T {
        LazyLock::force(&SUBSCRIBED);
        LOG.set(Some(self.clone()));
        let result = of();
        LOG.set(None);
        result
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
