//! A client and a server in one thread, on a clock of their own: for tests of robots and policies
//! that run hours of streaming in milliseconds and give the same result every time.
//!
//! A [`Pair`] carries frames between the two machines over a [`Network`] with latency, bandwidth and
//! loss, one for each direction. [`Pair::next`] lets time run to the next thing that happens:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use chiral_proto::testing::{Happening, Network, Pair};
//! use chiral_proto::{Observation, Rate, client, server};
//!
//! # #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
//! let start = Instant::now();
//! let mut pair = Pair::new(start, client::Config::default(), server::Config::default());
//! pair.to_client = Network::default().latency(Duration::from_millis(5));
//! pair.client.start_obs_stream(pair.now(), Rate::hz(30.0)?)?;
//!
//! let end = pair.now() + Duration::from_secs(3600);
//! let mut observations = 0;
//! while let Some(happening) = pair.next(end) {
//!     match happening {
//!         Happening::Server(server::Event::Observe(reply)) => {
//!             pair.server.reply_observation(reply, Observation::default())?;
//!         }
//!         Happening::Client(client::Event::Streamed(_)) => observations += 1,
//!         other => panic!("{other:?}"),
//!     }
//! }
//! assert_eq!(observations, 30 * 3600);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Link`] carries bytes, with [`Faults`]: delays, short reads and writes, stalls, corruption, resets
//! and half-open connections, each seeded or at a byte of the test's choice. A [`SessionPair`] (feature
//! `websocket`) is both machines with their WebSocket sessions over one.

mod faults;
mod link;
mod network;
mod pair;
#[cfg(feature = "websocket")]
mod session_pair;

pub use faults::{Break, Faults};
pub use link::{Link, Side};
pub use network::Network;
pub use pair::{Happening, Pair};
#[cfg(feature = "websocket")]
pub use session_pair::SessionPair;
