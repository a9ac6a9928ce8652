//! The chiral protocol between a robot and the policy that drives it, as a pure state machine.
#![forbid(unsafe_code)]

pub mod pool;
pub mod sensors;
mod sync;
mod types;
pub mod wire;

pub use types::*;
