//! chiral-tokio.

use std::sync::LazyLock;

use chiral_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};

use super::driven::{Driven, Executor};

/// chiral-tokio, on one runtime for all tests.
pub static ADAPTER: Driven<Workers> = Driven::new();

/// A tokio runtime of two threads.
pub struct Workers;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads")
});

impl Executor for Workers {
    type Runtime = Tokio;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        RUNTIME.block_on(future)
    }
}
