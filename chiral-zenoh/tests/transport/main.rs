//! Robots and policies over real Zenoh sessions on the loopback interface.

mod attacks;
mod compatible;
mod limits;
mod named;
mod network;
mod pair;
#[cfg(feature = "interop")]
mod python;
#[cfg(feature = "shm")]
mod shared_memory;
