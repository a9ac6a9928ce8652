#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod client;
mod connect;
mod connector;
mod dial;
mod link;
mod listener;
mod operate;
mod robot;
mod server;
mod signal;
mod stream;
mod threads;
mod transport;

pub use chiral_driver::client::Waiting;
pub use chiral_driver::proto;
pub use chiral_driver::{
    CallError, ClientCalls, Command, Commands, ConnectError, FailureText, Hold, Refusal, Rejection,
    RobotError, ServeError, ServerConfig, Watchdog, monotonic_seconds,
};
#[cfg(feature = "zenoh")]
pub use chiral_zenoh as zenoh;
pub use client::PolicyClient;
pub use connect::Builder;
pub use robot::Robot;
pub use server::PolicyServer;
pub use stream::Stream;
