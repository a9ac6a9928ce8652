//! The adapters behind the calls that this program makes of them, so that each command is written
//! once and any adapter carries it.
//!
//! Commands are plain code in plain threads. On the blocking adapter their calls go straight
//! through. On an async one a call waits for the runtime, and what is measured runs as a task of
//! it, as an async policy does.

mod client;
mod host;
mod robot;
mod server;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use client::{Client, Hosted, Settings};
pub(crate) use host::{Host, Tokio};
pub(crate) use robot::{OnTasks, Robot};
pub(crate) use server::Server;

/// What carries chiral's logic on this computer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Adapter {
    /// Tokio, with a thread for each processor.
    #[default]
    Tokio,
    /// Smol, with one thread.
    Smol,
    /// Plain sockets and threads.
    Blocking,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Blocking => "blocking",
        })
    }
}
