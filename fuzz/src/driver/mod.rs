//! What the targets of the driver share: a runtime and a clock that stand still unless they are
//! told to go on, a network of byte streams whose other ends are the target, and the peer's WebSocket
//! bytes.

pub mod clock;
pub mod network;
pub mod peer;
pub mod policy;
pub mod progress;
mod random;
pub mod runtime;
pub mod stream;
