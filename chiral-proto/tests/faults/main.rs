//! A robot and its policy over a link that fails: at every byte of a session, and at random.
//!
//! `CHIRAL_FAULT_SEEDS` sets how many seeds of random faults are run, `CHIRAL_FAULT_SEED` the only one; a
//! failure names its seed.
#![expect(clippy::disallowed_macros, reason = "tests say what they have seen")]

mod every_byte;
mod random;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod support;
mod world;
