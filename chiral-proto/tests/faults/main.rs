//! A robot and its policy over a link that fails: at every byte of a session, and at random.
//!
//! The robot has a contract, and not every policy keeps to it: whatever the link does to what the policy
//! sends, the robot is told nothing that its contract forbids.
//!
//! `CHIRAL_FAULT_SEEDS` sets how many seeds of random faults are run, `CHIRAL_FAULT_SEED` the only one; a
//! failure names its seed.
#![expect(clippy::disallowed_macros, reason = "tests say what they have seen")]

#[path = "../support/contract.rs"]
mod contract;
mod every_byte;
mod random;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod support;
mod world;
