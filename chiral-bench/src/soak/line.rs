//! A robot, its policy, and the network between them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use chiral_driver::{ServerConfig, Watchdog};
use chiral_proto::Rate;
use chiral_proto::server::ActionQueue;
#[cfg(feature = "zenoh")]
use chiral_proto::testing::Break;
use chiral_proto::testing::{Faults, Link};
use chiral_proto::ws::Keepalive;
use chiral_tests::adapter::{ClientSettings, Policy, Serving};
use chiral_tests::adapters::tls;
use chiral_tests::fault_relay::FaultRelay;
use chiral_tests::{adapters, sockets};

use super::figures::Figures;
use super::robot::{Counts, SoakRobot, action, forbidden_action};
use crate::line::Adapter;

/// The longest time for which a policy stays connected.
const CONNECTION: Duration = Duration::from_secs(5);
/// A break comes within so many bytes of a connection: some four seconds of a stream.
const BYTES: u64 = 400_000;
const STREAM_HZ: f64 = 30.0;
const ACTION_HZ: f64 = 50.0;
/// How often a policy that does not know the contract breaks it.
const FORBIDDEN_EVERY: u16 = 10;
/// How many actions wait to be sent.
const AHEAD: usize = 10;
const PROBE_EVERY: Duration = Duration::from_millis(200);
const RESET_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(3);
/// A line on which no observation comes for this long is stuck.
const STUCK: Duration = Duration::from_secs(90);
const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_millis(500), timeout: Duration::from_secs(2) };
const WATCHDOG: Duration = Duration::from_millis(500);

/// A transport of bytes that a relay can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Ws,
    /// With one certificate, which every policy pins.
    Wss,
    Unix,
    #[cfg(feature = "zenoh")]
    Zenoh,
}

impl Transport {
    const ALL: &[Self] = &[
        Self::Ws,
        Self::Wss,
        Self::Unix,
        #[cfg(feature = "zenoh")]
        Self::Zenoh,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
            #[cfg(feature = "zenoh")]
            Self::Zenoh => "zenoh",
        }
    }

    fn address(self) -> String {
        match self {
            Self::Ws | Self::Wss => "127.0.0.1:0".to_owned(),
            Self::Unix => format!("unix:{}", sockets::unused_path().display()),
            #[cfg(feature = "zenoh")]
            Self::Zenoh => "zenoh:tcp/127.0.0.1:0?robot=soak".to_owned(),
        }
    }

    /// The link of a connection: every other one is intact.
    fn link(self, seed: u64, connection: u64) -> Link {
        if connection.is_multiple_of(2) {
            return Link::new(Faults::default(), Faults::default());
        }
        let seed = seed.wrapping_add(connection.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match self {
            Self::Ws | Self::Wss | Self::Unix => {
                // A corrupted byte can make one action of another. That is tried elsewhere; here
                // every action is to be one that was sent.
                let [up, down] =
                    [seed, !seed].map(|seed| Faults::random(seed, BYTES).corruption(0.0));
                Link::new(up, down)
            }
            // Its own timeouts are longer than a connection: only what it notices at once.
            #[cfg(feature = "zenoh")]
            Self::Zenoh => {
                let reset = Faults::default().breaks_at(seed % BYTES, Break::Reset);
                Link::new(reset.delay(Duration::from_millis(2), Duration::ZERO), Faults::default())
            }
        }
    }

    fn client(self) -> ClientSettings {
        let connect_timeout = match self {
            Self::Ws | Self::Wss | Self::Unix => PATIENCE,
            #[cfg(feature = "zenoh")]
            Self::Zenoh => Duration::from_secs(20),
        };
        ClientSettings {
            keepalive: Some(KEEPALIVE),
            connect_timeout: Some(connect_timeout),
            request_timeout: Some(PATIENCE),
            tls: (self == Self::Wss).then(tls::client),
            ..ClientSettings::default()
        }
    }
}

/// A robot, its policy, and the network between them.
pub(super) struct SoakLine {
    adapter: Adapter,
    transport: Transport,
    serving: Box<dyn Serving>,
    relay: FaultRelay,
    pub(super) counts: Arc<Counts>,
    progress: Arc<Progress>,
    figures: Arc<Figures>,
}

/// What became of a line's connections.
#[derive(Debug)]
struct Progress {
    /// Connections of the relay.
    connections: Arc<AtomicU64>,
    broken: AtomicU64,
    refused: AtomicU64,
    seen_at: Mutex<Instant>,
}

impl SoakLine {
    /// A line for each adapter with each transport.
    pub(super) fn start_all(seed: u64, figures: &Arc<Figures>) -> anyhow::Result<Vec<Self>> {
        let mut lines = Vec::new();
        for adapter in [Adapter::Tokio, Adapter::Smol, Adapter::Blocking] {
            for &transport in Transport::ALL {
                let seed = seed.wrapping_mul(1000).wrapping_add(lines.len() as u64);
                lines.push(Self::start(adapter, transport, seed, figures)?);
            }
        }
        Ok(lines)
    }

    fn start(
        adapter: Adapter,
        transport: Transport,
        seed: u64,
        figures: &Arc<Figures>,
    ) -> anyhow::Result<Self> {
        let counts = Arc::<Counts>::default();
        let robot = SoakRobot::new(Arc::clone(&counts)).map_err(io::Error::other)?;
        let mut config = ServerConfig {
            keepalive: Some(KEEPALIVE),
            watchdog: Watchdog::After(WATCHDOG),
            tls: (transport == Transport::Wss).then(tls::server),
            ..ServerConfig::default()
        };
        config.machine.action_queue = ActionQueue::InOrder { capacity: 64 };
        config.machine.action_spec = SoakRobot::action_spec().map_err(io::Error::other)?;
        let address = transport.address();
        let serving = match adapter {
            Adapter::Tokio => adapters::tokio::ADAPTER.start(&address, config, |_| Ok(robot)),
            Adapter::Smol => adapters::smol::ADAPTER.start(&address, config, |_| Ok(robot)),
            Adapter::Blocking => adapters::blocking::ADAPTER.start(&address, config, |_| Ok(robot)),
        }?;
        let connections = Arc::<AtomicU64>::default();
        let ours = Arc::clone(&connections);
        let relay = FaultRelay::to(&serving.uri(), move || {
            transport.link(seed, ours.fetch_add(1, Ordering::Relaxed))
        });
        let progress = Arc::new(Progress {
            connections,
            broken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            seen_at: Mutex::new(Instant::now()),
        });
        let figures = Arc::clone(figures);
        Ok(Self { adapter, transport, serving, relay, counts, progress, figures })
    }

    pub(super) fn name(&self) -> String {
        format!("{} over {}", self.adapter.name(), self.transport.name())
    }

    pub(super) fn broken(&self) -> u64 {
        self.progress.broken.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.progress.refused.load(Ordering::Relaxed)
    }

    pub(super) fn shut_down(&self) {
        self.serving.shut_down();
    }

    /// # Errors
    /// When no observation has come for too long.
    pub(super) fn check_progress(&self) -> anyhow::Result<()> {
        let seen_at = *self.progress.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = seen_at.elapsed();
        ensure!(silence < STUCK, "{}: no observation for {silence:.0?}", self.name());
        Ok(())
    }

    /// Runs the line's policy in a thread, until then.
    pub(super) fn spawn_policy(&self, end: Instant) -> JoinHandle<()> {
        let policy = SoakPolicy {
            adapter: self.adapter,
            uri: self.relay.uri().to_owned(),
            settings: self.transport.client(),
            progress: Arc::clone(&self.progress),
            figures: Arc::clone(&self.figures),
        };
        thread::spawn(move || policy.run(end))
    }
}

struct SoakPolicy {
    adapter: Adapter,
    uri: String,
    settings: ClientSettings,
    progress: Arc<Progress>,
    figures: Arc<Figures>,
}

impl SoakPolicy {
    fn run(&self, end: Instant) {
        while Instant::now() < end {
            let adapter: &dyn chiral_tests::adapter::Adapter = match self.adapter {
                Adapter::Tokio => &adapters::tokio::ADAPTER,
                Adapter::Smol => &adapters::smol::ADAPTER,
                Adapter::Blocking => &adapters::blocking::ADAPTER,
            };
            let connections = self.progress.connections.load(Ordering::Relaxed);
            let Ok(policy) = adapter.connect(&self.uri, self.settings.clone()) else {
                self.progress.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            // The one that this was, if it was the first try: its link is known.
            let is_intact = connections.is_multiple_of(2)
                && self.progress.connections.load(Ordering::Relaxed) == connections + 1;
            let until = end.min(Instant::now() + CONNECTION);
            if self.act(&*policy, is_intact, until).is_err() {
                self.progress.broken.fetch_add(1, Ordering::Relaxed);
            }
            policy.close();
        }
    }

    /// Over a link with faults the policy does not know the robot's contract, and breaks it.
    fn act(&self, policy: &dyn Policy, is_intact: bool, until: Instant) -> anyhow::Result<()> {
        if is_intact {
            policy.metadata()?;
        } else {
            // The robot is not armed yet.
            policy.send_action(action(0))?;
        }
        policy.reset()?;
        policy.start_obs_stream(Rate::hz(STREAM_HZ)?)?;
        policy.start_action_dispatch(Rate::hz(ACTION_HZ)?)?;
        let mut number = 0_u16;
        let (mut next_probe, mut next_reset) = (Instant::now(), Instant::now() + RESET_EVERY);
        let mut last = None;
        while Instant::now() < until {
            while policy.queued_actions() < AHEAD {
                number += 1;
                let is_forbidden = !is_intact && number.is_multiple_of(FORBIDDEN_EVERY);
                let next = if is_forbidden { forbidden_action(number) } else { action(number) };
                policy.put_action(next)?;
            }
            ensure!(policy.next_obs_within(PATIENCE)?.is_some(), "no observation in time");
            let now = Instant::now();
            *self.progress.seen_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
            if let Some(last) = last.replace(now).filter(|_| is_intact) {
                self.figures.note_observation(now - last);
            }
            if now >= next_probe {
                policy.observe()?;
                if is_intact {
                    self.figures.note_round_trip(now.elapsed());
                }
                next_probe = now + PROBE_EVERY;
            }
            if now >= next_reset {
                policy.reset()?;
                next_reset = now + RESET_EVERY;
                last = None;
            }
        }
        Ok(())
    }
}
