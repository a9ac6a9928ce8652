//! Chunks, anchors, merges, ticks, resets, losses and reconnects in any order and at any time: the
//! timeline does what the tests' reference model says. The model and the run that compares the two
//! are those of the tests; the input makes the choices.
#![no_main]
#![allow(dead_code, reason = "the tests use all of what is shared with them")]

#[path = "../../chiral-proto/tests/timeline/model.rs"]
mod model;
#[path = "../../chiral-proto/tests/timeline/reference.rs"]
mod reference;
#[path = "../../chiral-proto/tests/timeline/world.rs"]
mod tests_world;

/// What the run takes from the tests, with the input in the place of random numbers.
mod world {
    pub(crate) use crate::tests_world::{observation, start};

    /// Choices of the input, and the first one always when it is used up.
    pub(crate) struct Random(pub(crate) std::vec::IntoIter<u8>);

    impl Random {
        /// Below `end`.
        pub(crate) fn below(&mut self, end: u64) -> u64 {
            let bytes = if end <= 256 { 1 } else { 4 };
            let drawn = self.0.by_ref().take(bytes);
            drawn.fold(0, |number, byte| number << 8 | u64::from(byte)) % end
        }

        pub(crate) fn one_in(&mut self, n: u64) -> bool {
            self.below(n) == 0
        }

        /// From -1 to 1.
        pub(crate) fn unit(&mut self) -> f64 {
            self.below(255) as f64 / 127.0 - 1.0
        }
    }
}

/// Bytes that a round takes, about; the rounds of a longer input take long.
const ROUND: usize = 6;
const MOST_ROUNDS: usize = 300;

libfuzzer_sys::fuzz_target!(|data: Vec<u8>| {
    let rounds = (data.len() / ROUND).min(MOST_ROUNDS);
    model::Run::new(world::Random(data.into_iter())).live(rounds);
});
