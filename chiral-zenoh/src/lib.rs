#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod config;
mod error;
mod keys;
mod layout;
mod link;
mod message;
mod opening;
mod robots;
mod server;
#[cfg(feature = "shm")]
mod shared_memory;
mod stats;

pub use chiral_proto as proto;
pub use client::{connect, lossy};
pub use config::{Config, Endpoint, EndpointError, Mode, RobotName, RobotNameError, UriError};
pub use error::Error;
pub use link::Link;
pub use message::Message;
pub use opening::Opening;
pub use robots::{RobotInfo, robots};
pub use server::Listener;
#[cfg(feature = "shm")]
pub use shared_memory::{SharedBuffer, SharedMemory};
pub use stats::{Counts, Stats};
