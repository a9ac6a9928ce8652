//! Frames and messages: what goes over the wire, byte for byte.

mod error;
mod frame;
mod limits;

pub use error::{ErrorKind, WireError};
pub use frame::{Frame, Payload};
pub use limits::Limits;
