//! What a thousand connections on tokio leave behind.
#![cfg(target_os = "linux")]

mod census;
mod served;

use std::sync::LazyLock;

use chiral_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("it has threads")
});

impl served::Executor for Tokio {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        RUNTIME.block_on(future)
    }

    fn tasks() -> usize {
        RUNTIME.metrics().num_alive_tasks()
    }
}

#[test]
fn a_thousand_connections_do_not_leak() {
    served::assert_adapter_does_not_leak::<Tokio>();
}
