//! What a thousand connections on smol leave behind.
#![cfg(target_os = "linux")]

mod census;
mod served;

use chiral_smol::Smol;

impl served::Executor for Smol {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }

    /// Smol does not tell; a task shows by its memory.
    fn tasks() -> usize {
        0
    }
}

#[test]
fn a_thousand_connections_do_not_leak() {
    served::assert_adapter_does_not_leak::<Smol>();
}
