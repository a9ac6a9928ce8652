//! Random sequences of commands, times, latencies, bandwidths and losses, against simple models of
//! what must come of them.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod pair;
mod reconnect;
mod reference;
mod robot;
mod server;

use proptest::test_runner::{Config, RngSeed};

/// As many cases each time, and the same ones.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() }
}
