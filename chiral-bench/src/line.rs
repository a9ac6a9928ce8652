//! What the two sides of a measured connection are made of.

use anyhow::ensure;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What carries chiral's logic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Adapter {
    /// Tokio, with two threads.
    Tokio,
    /// Smol, with one thread.
    Smol,
    /// Plain sockets and threads.
    Blocking,
}

/// What carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// WebSocket, through chiral's own session.
    Ws,
    /// The same, over TLS.
    Wss,
    /// WebSocket, through tungstenite's, on tokio.
    Tungstenite,
    /// Zenoh, over TCP.
    Zenoh,
    /// Zenoh, with cameras that write to memory which both processes share.
    ZenohShm,
}

impl Adapter {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Blocking => "blocking",
        }
    }
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tungstenite => "tungstenite",
            Self::Zenoh => "zenoh",
            Self::ZenohShm => "zenoh-shm",
        }
    }

    pub(crate) fn is_zenoh(self) -> bool {
        matches!(self, Self::Zenoh | Self::ZenohShm)
    }

    /// Where to serve a robot on loopback, on a port of the system's choice.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::Ws | Self::Wss | Self::Tungstenite => "127.0.0.1:0",
            Self::Zenoh => "zenoh:tcp/127.0.0.1:0?robot=bench",
            Self::ZenohShm => "zenoh:tcp/127.0.0.1:0?robot=bench&shm=on",
        }
    }

    fn is_built_in(self) -> bool {
        match self {
            Self::Ws | Self::Wss | Self::Tungstenite => true,
            Self::Zenoh => cfg!(feature = "zenoh"),
            Self::ZenohShm => cfg!(feature = "zenoh-shm"),
        }
    }
}

/// What the two sides of a connection are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) adapter: Adapter,
    pub(crate) transport: Transport,
}

impl Line {
    /// Every adapter with every transport.
    pub(crate) fn all(adapters: &[Adapter], transports: &[Transport]) -> anyhow::Result<Vec<Self>> {
        let with_all =
            |&adapter| transports.iter().map(move |&transport| Self { adapter, transport });
        let lines: Vec<Self> = adapters.iter().flat_map(with_all).collect();
        for Self { adapter, transport } in &lines {
            let name = transport.name();
            ensure!(
                *transport != Transport::Tungstenite || *adapter == Adapter::Tokio,
                "found --transport {name} with --adapter {}, expected tokio: only there it is \
                 measured",
                adapter.name()
            );
            ensure!(
                transport.is_built_in(),
                "found --transport {name}, expected a program with it: build with `--features \
                 {name}`"
            );
        }
        Ok(lines)
    }
}
