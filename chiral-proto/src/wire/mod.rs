//! Frames and messages: what goes over the wire, byte for byte.
//!
//! [`Frame::parse`] takes one message of the transport apart into header and payload;
//! [`ClientMessage::decode`] and [`ServerMessage::decode`] read it. The way back is `encode`,
//! whose [`Frame`] shares the sensors' buffers instead of copying them.
//!
//! Reading is by key, in any order, with unknown keys passed over and every number in any of
//! msgpack's formats. Every length, count, offset and shape is checked, with arithmetic that
//! cannot overflow, against what really arrived and against the [`Limits`], before memory is spent
//! on it. What is decoded takes no more memory than a small multiple of the header, and shares the
//! payload. Writing follows the key order of the Python peer, byte for byte.
//!
//! # What is missing, nil, or not quite of the kind
//!
//! Peers are programs in Python and C++, where `None`, `1` and `True` slip into the place of one
//! another. The same rules hold for every message; nil is the same as a missing key throughout.
//!
//! | field | missing or nil | other kinds that count |
//! |---|---|---|
//! | `data`, `info`, `extra`, `obs_timestamps` | an empty map | |
//! | `cameras`, `proprios` | none | |
//! | `timestamp` (of observation and camera), `reward` | 0 | any integer or float; a bool as 0 or 1 |
//! | `terminated`, `truncated` | false | any number: 0 is false |
//! | elements of `intrinsics`, `extrinsics`, `obs_timestamps` | an error | any integer or float; a bool as 0 or 1 |
//! | shapes, offsets, sizes | an error; of all four `depth_` keys: no depth | any integer; a float without a fraction |
//! | `type`, `name`, `dtype`, `shape`, the matrices | an error | |
//! | `seq`, `snap`, `hold` of an action | not known | any integer or float; anything else: not known |
//!
//! ```
//! use chiral_proto::wire::{Frame, Limits, ServerMessage};
//! use chiral_proto::{Map, Observation};
//!
//! let observation = Observation { timestamp: 1.5, ..Observation::default() };
//! let frame = ServerMessage::Observation(observation).encode();
//!
//! let received = Frame::parse(frame.to_bytes(), &Limits::default())?;
//! match ServerMessage::decode(&received, &Limits::default())? {
//!     ServerMessage::Observation(observation) => assert_eq!(observation.timestamp, 1.5),
//!     other => panic!("a {} came back", other.message_type()),
//! }
//! # Ok::<(), chiral_proto::wire::WireError>(())
//! ```

mod decode;
mod encode;
mod error;
mod fields;
mod frame;
mod limits;
mod message;
mod message_type;
mod reader;
pub(crate) mod timing;

pub use error::{ErrorKind, WireError};
pub use frame::{Frame, Payload};
pub use limits::Limits;
pub use message::{ClientMessage, Message, ServerMessage};
pub use message_type::{MessageType, RequestKind};
