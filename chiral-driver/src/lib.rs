//! What chiral's async adapters share: the handles of client and server, and the one driver that
//! moves bytes, frames and time between sockets and the core's state machines.
//!
//! Users take an adapter, `chiral-tokio` or `chiral-smol`. An adapter for another runtime is an
//! implementation of [`Runtime`], and names of its own for [`PolicyClient`], [`PolicyServer`] and
//! [`Builder`] over it.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod connect;
mod drive;
mod error;
mod line;
mod listening;
mod office;
mod operate;
mod reception;
mod robot;
mod runtime;
mod scheme;
mod server;
mod shared;
mod transport;
mod turn;

pub use chiral_proto as proto;
#[cfg(feature = "zenoh")]
pub use chiral_zenoh as zenoh;
pub use client::PolicyClient;
pub use clock::monotonic_seconds;
pub use connect::Builder;
pub use drive::drive;
pub use error::{CallError, ConnectError};
pub use line::{Effect, Line};
pub use operate::pulled::{Command, Commands, Hold};
pub use robot::{Robot, RobotError};
pub use runtime::Runtime;
pub use server::{PolicyServer, ServerConfig};
pub use transport::{Message, Transport, Wire};
