#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acceptor;
mod access_control;
mod authentication;
mod background;
mod config;
mod connect;
mod connector;
mod encode;
mod error;
mod keys;
mod payload;
mod robots;
mod server;
#[cfg(feature = "shm")]
mod shared_memory;
mod stats;
mod transport;

pub use acceptor::acceptor;
pub use access_control::{AccessControl, Identity};
pub use authentication::{Secret, SecretError};
pub use background::Background;
pub use chiral_driver as driver;
pub use chiral_proto as proto;
pub use config::{Config, Endpoint, EndpointError, Mode, RobotName, RobotNameError, UriError};
pub use connect::{connect, lossy};
pub use connector::connector;
pub use error::Error;
pub use robots::{RobotInfo, robots};
pub use server::Listener;
#[cfg(feature = "shm")]
pub use shared_memory::{SharedBuffer, SharedMemory};
pub use stats::{Counts, Stats};
pub use transport::ZenohTransport;

/// The port on which robots listen over Zenoh.
pub const DEFAULT_PORT: u16 = 7447;
/// Where a policy finds the robot of its own computer, at the [`DEFAULT_PORT`].
pub const DEFAULT_URI: &str = "tcp/localhost:7447";
/// What a robot of the existing two keys listens on: every network, at the [`DEFAULT_PORT`].
pub const DEFAULT_ADDRESS: &str = "tcp/0.0.0.0:7447";
