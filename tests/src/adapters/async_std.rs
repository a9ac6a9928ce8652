//! chiral-smol under async-std.

use async_std::task;
use chiral_smol::Smol;

use super::driven::{Driven, Executor};

/// chiral-smol, called from tasks of async-std's.
pub static ADAPTER: Driven<Tasks> = Driven::new();

/// async-std's tasks.
pub struct Tasks;

impl Executor for Tasks {
    type Runtime = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        task::block_on(future)
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        task::spawn(task);
    }
}
