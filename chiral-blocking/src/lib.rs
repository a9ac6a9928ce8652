#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod client;
mod robot;
mod server;
mod threads;

pub use chiral_driver::proto;
#[cfg(feature = "zenoh")]
pub use chiral_driver::zenoh;
pub use chiral_driver::{
    CallError, Command, Commands, ConnectError, Hold, RobotError, ServerConfig, monotonic_seconds,
};
pub use client::{Builder, PolicyClient};
pub use robot::Robot;
pub use server::PolicyServer;
