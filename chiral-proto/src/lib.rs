//! The chiral protocol between a robot and the policy that drives it, as a pure state machine:
//! frames and time go in, frames and typed events come out.
//!
//! The **server** is the robot's side: it owns sensors and actuators. The **client** is the
//! policy's: it asks for observations and sends actions. This crate decides everything about the
//! protocol and touches nothing else. It does no I/O, reads no clock, starts no thread and holds no
//! global: you bring messages and an [`Instant`](std::time::Instant), it says what to send, what
//! has happened, and when it wants to be called again. So it runs on any event loop, in a simulator
//! on simulated time, and under a fuzzer. (On tokio, smol or plain threads you need not write that
//! loop: take the crate `chiral-tokio`, `chiral-smol` or `chiral-blocking`.)
//!
//! # A run loop
//!
//! Both sides are driven by the same five calls, which the trait [`Machine`] names:
//!
//! | call | what it is for |
//! |---|---|
//! | `handle_message(now, message)` | a message has come: one whole frame |
//! | `handle_timeout(now)` | the instant that `poll_timeout` gave has come |
//! | `poll_transmit(now)` | the next frame to send; called only when the transport can take one |
//! | `poll_event()`; of a server `poll_event(now)` | what has happened |
//! | `poll_timeout()` | when to call `handle_timeout` next |
//!
//! Here are both sides of a connection, each in a thread, over channels of whole messages. Over a
//! socket it is the same loop, with [`ws::Session`] between bytes and messages (feature
//! `websocket`).
//!
//! ```
//! use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
//! use std::time::{Duration, Instant};
//!
//! use bytes::Bytes;
//! use chiral_proto::sensors::Sensors;
//! use chiral_proto::{CameraConfig, ConnectionError, Machine, Rate, client, server};
//!
//! /// One round: sends what is to be sent, then waits for a message or for the time to act.
//! fn turn(machine: &mut impl Machine, inbox: &Receiver<Bytes>, outbox: &Sender<Bytes>) {
//!     let now = Instant::now();
//!     machine.handle_timeout(now);
//!     while let Some(frame) = machine.poll_transmit(now) {
//!         // A socket would gather `frame.chunks()` instead, and copy nothing.
//!         let _ = outbox.send(frame.to_bytes());
//!     }
//!     let until = machine.poll_timeout().unwrap_or(now + Duration::from_millis(100));
//!     match inbox.recv_timeout(until.saturating_duration_since(now)) {
//!         Ok(message) => machine.handle_message(Instant::now(), message),
//!         Err(RecvTimeoutError::Timeout) => {}
//!         Err(RecvTimeoutError::Disconnected) => {
//!             let lost = ConnectionError::Lost("the channel is closed".to_owned());
//!             machine.handle_disconnect(Instant::now(), lost);
//!         }
//!     }
//! }
//!
//! // The robot: answers every request for an observation with a snapshot of its sensors.
//! fn robot(inbox: Receiver<Bytes>, outbox: Sender<Bytes>) -> Vec<f32> {
//!     let camera = CameraConfig::new("wrist_cam", [48, 64, 3]);
//!     let sensors = Sensors::new([camera], []).expect("the camera fits the memory");
//!     let mut server = server::Server::new(Instant::now(), server::Config::default());
//!     let mut applied = Vec::new();
//!     loop {
//!         turn(&mut server, &inbox, &outbox);
//!         while let Some(event) = server.poll_event(Instant::now()) {
//!             match event {
//!                 server::Event::Action(action) => applied.extend_from_slice(&action.to_f32()),
//!                 server::Event::Observe(reply) => {
//!                     let _ = server.reply_observation(reply, &sensors);
//!                 }
//!                 server::Event::ActionsDropped { .. } => {} // a newer one came first
//!                 server::Event::Disconnected(_) => return applied, // and hold still
//!                 other => panic!("this policy does not ask for {other:?}"),
//!             }
//!         }
//!     }
//! }
//!
//! let (to_robot, from_policy) = channel();
//! let (to_policy, from_robot) = channel();
//! let robot = std::thread::spawn(move || robot(from_policy, to_policy));
//!
//! // The policy: observations at 100 Hz; on each, a chunk of actions, which leave at 500 Hz.
//! let mut client = client::Client::new(client::Config::default());
//! client.start_obs_stream(Instant::now(), Rate::hz(100)?)?;
//! client.start_action_dispatch(Instant::now(), Rate::hz(500)?)?;
//! while client.stats(Instant::now()).actions.count() < 10 {
//!     turn(&mut client, &from_robot, &to_robot);
//!     while let Some(event) = client.poll_event() {
//!         if let client::Event::Streamed(observation) = event {
//!             assert_eq!(*observation["wrist_cam"].image.shape(), [48, 64, 3]);
//!             let plan = [[0.1, 0.2].into(), [0.3, 0.4].into()];
//!             client.follow(Instant::now(), &observation, plan)?;
//!         }
//!     }
//! }
//! drop(to_robot);
//! let applied = robot.join().expect("the robot does not panic");
//! assert_eq!(applied[..2], [0.1, 0.2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Your own event loop: which example to start from
//!
//! Each is a whole application of 150 to 200 lines, in the crate's folder `examples`.
//!
//! - `mio`, when your loop waits for readiness: one thread and one poll serve a robot over
//!   WebSocket, with handshakes, refusals, keepalive and an orderly end.
//!   [`ws::Session::exchange`] is the whole of the glue between bytes and machine.
//! - `websocket_client`, when a policy has one thread and one socket: the client's side, with nothing
//!   but `std`.
//! - `simulator`, when there are no sockets and no clock: robot and policy in memory on simulated
//!   time, minutes in milliseconds, the same each run.
//! - `unix_socket`, when you have threads and a stream of your own: robot and policy on one host,
//!   each frame behind its length.
//!
//! # Where things are
//!
//! - [`client::Client`] and [`server::Server`]: the two state machines. Responses carry no id, so
//!   the client matches them to requests by order, and never swaps one; actions overtake
//!   everything else in both directions; ticks lie on a grid that does not drift.
//! - [`timeline`]: which row of which chunk is sent at which step, exactly, however long the policy
//!   thinks.
//! - [`Observation`], [`Camera`], [`Action`], [`Array`] and their kin: what travels, with K and T
//!   as [`nalgebra`] matrices and arrays as checked, mostly borrowed views.
//! - [`sensors`]: buffers of the latest values, which sensor threads write and snapshots read
//!   without copying a pixel.
//! - [`wire`]: frames and messages, byte for byte, and the [`Limits`](wire::Limits) on what a peer
//!   may send.
//! - [`ws`] (feature `websocket`): a WebSocket session without a socket.
//! - [`testing`] (feature `testing`): both machines on a virtual clock, for tests of your robots
//!   and policies.
//!
//! # Bad input
//!
//! Whatever a peer sends, the answer is `Ok` or a typed error that says which field of which message
//! was wrong, at which byte, what was found there and what was expected: never a panic, and never
//! more memory than a small multiple of what arrived. An error in what the peer sent ends the
//! connection, with one [`ConnectionError`], told once. A call of yours that the state does not
//! allow is an error of that call, and the connection goes on.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod client;
mod connection;
#[cfg(all(test, not(loom)))]
mod error_texts;
pub mod keepalive;
mod machine;
mod pacer;
pub mod pool;
mod random;
pub mod sensors;
pub mod server;
pub mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
pub mod timeline;
mod types;
pub mod wire;
#[cfg(feature = "websocket")]
pub mod ws;

pub use bytes;
pub use connection::ConnectionError;
pub use machine::Machine;
pub use nalgebra;
pub use pacer::{BadRate, Rate, instant_after};
pub use text::printable;
pub use types::*;

/// The port on which robots listen over WebSocket.
pub const DEFAULT_PORT: u16 = 8765;
/// Where a policy finds the robot of its own computer, at the [`DEFAULT_PORT`].
pub const DEFAULT_URI: &str = "ws://localhost:8765";
/// What a robot for the policies of its own computer listens on, at the [`DEFAULT_PORT`].
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8765";
