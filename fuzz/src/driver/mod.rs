//! What the targets of the driver share: a runtime and a clock that stand still unless they are
//! told to go on, a byte stream whose other end is the target, and the peer's WebSocket bytes.

pub mod clock;
pub mod peer;
pub mod progress;
pub mod runtime;
pub mod stream;
