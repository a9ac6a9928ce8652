//! The chiral protocol between a robot and the policy that drives it, as a pure state machine.
#![forbid(unsafe_code)]

pub mod client;
mod connection;
mod machine;
mod pacer;
pub mod pool;
pub mod sensors;
pub mod server;
pub mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod types;
pub mod wire;
#[cfg(feature = "websocket")]
pub mod ws;

pub use connection::ConnectionError;
pub use machine::Machine;
pub use pacer::{BadRate, Rate};
pub use types::*;
