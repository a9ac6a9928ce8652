#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acceptor;
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
