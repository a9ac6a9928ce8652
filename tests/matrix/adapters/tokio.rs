use std::sync::LazyLock;

use chiral_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};

use super::driven::{Driven, Executor};

/// chiral-tokio, on one runtime for all tests.
pub(crate) static ADAPTER: Driven<Workers> = Driven::new();

pub(crate) struct Workers;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads")
});

impl Executor for Workers {
    type Runtime = Tokio;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        RUNTIME.block_on(future)
    }
}
