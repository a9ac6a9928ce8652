//! A policy of the tests' harness, as it is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use chiral_cli::bench::{AfterEach, Connection, MakeAction};
use chiral_driver::TlsClient;
use chiral_proto::client::Stats;
use chiral_proto::{Map, Rate};
use chiral_tests::adapter::{ClientSettings, Policy};
use chiral_tests::adapters;

use crate::line::{Adapter, Line, Transport};
use crate::tungstenite;

/// A policy of the tests' harness.
pub(crate) struct Measured(Arc<dyn Policy>);

impl Measured {
    /// Connects a policy; over TLS to the server whose certificate has the fingerprint.
    pub(crate) fn connect(line: Line, address: &str, fingerprint: &str) -> anyhow::Result<Self> {
        if line.transport == Transport::Tungstenite {
            return Ok(Self(tungstenite::connect(address)?));
        }
        let adapter: &dyn chiral_tests::adapter::Adapter = match line.adapter {
            Adapter::Tokio => &adapters::tokio::ADAPTER,
            Adapter::Smol => &adapters::smol::ADAPTER,
            Adapter::Blocking => &adapters::blocking::ADAPTER,
        };
        let mut settings = ClientSettings::default();
        if line.transport == Transport::Wss {
            settings.tls = Some(TlsClient::pin(fingerprint)?);
        }
        Ok(Self(adapter.connect(address, settings)?))
    }

    /// Whether observations come through shared memory; `None` when not over Zenoh.
    #[cfg(feature = "zenoh")]
    pub(crate) fn shares_memory(&self, line: Line) -> anyhow::Result<Option<bool>> {
        // It shows with the first one.
        self.0.observe()?;
        let shared = self.0.shares_memory();
        ensure!(
            line.transport != Transport::ZenohShm || shared == Some(true),
            "the observations went over the network, expected shared memory: is there room in \
             /dev/shm?"
        );
        Ok(shared)
    }

    /// There is no Zenoh in this program.
    #[cfg(not(feature = "zenoh"))]
    pub(crate) fn shares_memory(&self, line: Line) -> anyhow::Result<Option<bool>> {
        ensure!(!line.transport.is_zenoh(), "there is no Zenoh in this program");
        self.0.observe()?;
        Ok(None)
    }
}

impl Connection for Measured {
    fn time_observations(&self, count: usize, after: AfterEach) -> anyhow::Result<Vec<Duration>> {
        Ok(self.0.time_observations(count, after)?)
    }

    fn send_actions(&self, rate: Rate, end: Instant, action: MakeAction) -> anyhow::Result<()> {
        Ok(self.0.send_actions(rate, end, action)?)
    }

    fn metadata(&self) -> anyhow::Result<Map> {
        Ok(self.0.metadata()?)
    }

    fn reset(&self) -> anyhow::Result<()> {
        self.0.reset()?;
        Ok(())
    }

    fn start_stream(&self, rate: Rate) -> anyhow::Result<()> {
        Ok(self.0.start_obs_stream(rate)?)
    }

    fn stop_stream(&self) {
        self.0.stop_obs_stream();
    }

    fn fill_queue(&self, count: usize) -> anyhow::Result<()> {
        while self.0.queued_actions() < count {
            self.0.put_action([0.0; 7].into())?;
        }
        Ok(())
    }

    fn start_dispatch(&self, rate: Rate) -> anyhow::Result<()> {
        Ok(self.0.start_action_dispatch(rate)?)
    }

    fn stop_dispatch(&self) {
        self.0.stop_action_dispatch();
        self.0.clear_actions();
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn close(&self) {
        self.0.close();
    }
}
