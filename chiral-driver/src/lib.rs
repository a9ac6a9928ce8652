//! What chiral's adapters share: the handles of client and server, and the one driver that moves
//! bytes, frames and time between sockets and the core's state machines.
//!
//! Users take an adapter: `chiral-tokio`, `chiral-smol` or `chiral-blocking`. This crate is for
//! those who bring
//!
//! - another **runtime**: an implementation of [`Runtime`], and names of its own for
//!   [`PolicyClient`], [`PolicyServer`] and [`Builder`] over it;
//! - another **byte stream**: none of this is needed, [`PolicyClient::over_stream`] and
//!   [`PolicyServer::serve_stream`] take any;
//! - another **transport** of whole frames: an implementation of [`Transport`], and of
//!   [`Connector`] and [`Acceptor`] if it makes connections itself;
//! - threads in the place of a runtime, as chiral-blocking does: [`Connection`], [`ClientCalls`],
//!   [`server::Admission`] and [`robot::dispatch_on_threads`] need none.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod address;
pub mod client;
mod connection;
mod driver;
mod error;
mod panic;
pub mod robot;
mod runtime;
mod security;
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;
mod token;
mod transport;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod unsent;
mod yield_limiter;

pub use chiral_proto as proto;
pub use client::{Builder, ClientCalls, PolicyClient};
pub use connection::{Connection, State};
pub use driver::{Driver, FINISH_TIMEOUT, PROBE_TIMEOUT, Progress, drive};
pub use error::{CallError, ConnectError};
pub use robot::{
    Command, Commands, Hold, NotReady, Robot, RobotError, WaitForSensors, monotonic_seconds,
};
pub use runtime::{AsyncTimer, Runtime};
pub use security::Security;
pub use server::{
    FailureText, PolicyServer, Refusal, Rejection, ServeError, ServerConfig, Watchdog,
};
#[cfg(feature = "tls")]
pub use tls::{TlsClient, TlsError, TlsServer};
pub use token::{Token, TokenError};
pub use transport::{Acceptor, BoxFuture, Connector, Extension, Incoming, Message, Transport};
#[cfg(unix)]
pub use unix::{UnixListening, connect_unix};
#[cfg(unix)]
pub use unsent::{limit_unsent, wait_until_writable};
pub use yield_limiter::YieldLimiter;
