//! The chiral protocol between a robot and the policy that drives it, as a pure state machine.
#![forbid(unsafe_code)]

pub mod pool;
mod sync;
mod types;
pub mod wire;
#[cfg(feature = "websocket")]
pub mod ws;

pub use types::*;
