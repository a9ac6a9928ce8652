//! chiral-smol.

use chiral_smol::Smol;

use super::driven::{Driven, Executor};

/// chiral-smol, on smol's global executor.
pub static ADAPTER: Driven<Global> = Driven::new();

/// smol's global executor.
pub struct Global;

impl Executor for Global {
    type Runtime = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}
