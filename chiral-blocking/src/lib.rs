#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accept;
mod client;
mod connect;
mod connector;
mod dial;
mod link;
mod listener;
mod operate;
mod reconnect;
mod robot;
#[cfg(feature = "tls")]
mod secure;
mod server;
mod signal;
mod stream;
mod threads;
mod transport;

pub use chiral_driver::client::{CancelToken, ConnectionEvent, Pending, Waiting};
pub use chiral_driver::proto::{self, DEFAULT_ADDRESS, DEFAULT_URI};
pub use chiral_driver::{
    CallError, ClientCalls, Command, Commands, ConnectError, FailureText, Hold, NotReady, Refusal,
    Rejection, RobotError, ServeError, ServerConfig, Token, TokenError, WaitForSensors, Watchdog,
    monotonic_seconds,
};
#[cfg(feature = "tls")]
pub use chiral_driver::{TlsClient, TlsError, TlsServer};
#[cfg(feature = "zenoh")]
pub use chiral_zenoh as zenoh;
pub use client::PolicyClient;
pub use connect::Builder;
pub use robot::Robot;
pub use server::PolicyServer;
pub use stream::Stream;
