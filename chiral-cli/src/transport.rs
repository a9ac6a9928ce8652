//! What carries the messages between the two processes of a demo.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::usage::UsageError;

/// What carries messages between a robot and a policy that a command starts itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    /// WebSocket.
    #[default]
    Ws,
    /// Zenoh, over TCP.
    Zenoh,
    /// Zenoh, with observations in memory that both processes share.
    ZenohShm,
}

impl Transport {
    /// Where to serve a robot on the loopback, on a port of the system's choice.
    ///
    /// # Errors
    /// When this program was built without the transport.
    pub(crate) fn loopback(self, robot: &str) -> anyhow::Result<String> {
        match self {
            Self::Zenoh if cfg!(not(feature = "zenoh")) => self.missing("zenoh"),
            Self::ZenohShm if cfg!(not(feature = "zenoh-shm")) => self.missing("zenoh-shm"),
            Self::Ws => Ok("127.0.0.1:0".to_owned()),
            Self::Zenoh => Ok(format!("zenoh:tcp/127.0.0.1:0?robot={robot}")),
            Self::ZenohShm => Ok(format!("zenoh:tcp/127.0.0.1:0?robot={robot}&shm=on")),
        }
    }

    fn missing(self, feature: &str) -> anyhow::Result<String> {
        let message = format!(
            "found --transport {self}, expected a program that was built with it: build chiral-cli \
             with `--features {feature}`"
        );
        Err(UsageError::new(message).into())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ws => "ws",
            Self::Zenoh => "zenoh",
            Self::ZenohShm => "zenoh-shm",
        })
    }
}
