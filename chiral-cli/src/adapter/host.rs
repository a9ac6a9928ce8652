//! The runtimes of the async adapters, for threads that are not async.

use std::io;
use std::sync::Arc;

use chiral_driver::Runtime;
use futures_channel::oneshot;

/// A runtime, and how a thread outside of it makes use of it.
pub(crate) trait Host: Clone + Send + Sync + 'static {
    /// The runtime, as the driver sees it.
    type Runtime: Runtime;

    /// Starts the runtime.
    fn start() -> io::Result<Self>;

    /// Waits, in this thread, for a future.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T;

    /// Runs a task in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a task and waits for it. What is measured runs so: a future that this thread waits for
    /// would cost wake-ups between it and the runtime's own.
    fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        self.spawn(async move {
            // Nobody stops waiting.
            let _ = done.send(task.await);
        });
        self.wait(result).expect("the task does not panic")
    }
}

/// Tokio.
#[derive(Debug, Clone)]
pub(crate) struct Tokio(Arc<tokio::runtime::Runtime>);

impl Host for Tokio {
    type Runtime = chiral_tokio::Tokio;

    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self(Arc::new(runtime)))
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A task runs on when it is let go of.
        drop(self.0.spawn(task));
    }
}

/// Smol, whose executor is the process's.
#[derive(Debug, Clone)]
pub(crate) struct Smol;

impl Host for Smol {
    type Runtime = chiral_smol::Smol;

    fn start() -> io::Result<Self> {
        Ok(Self)
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        // Not `smol::block_on`: that would take its turn at polling the sockets, and hand what it
        // finds from thread to thread.
        futures_lite::future::block_on(future)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        chiral_smol::Smol::spawn("chiral-cli", task);
    }
}
