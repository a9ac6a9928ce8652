//! Who sent a message: the handshake in which a policy and a robot agree on keys, and the tag that
//! every message of their session bears. Only with keys of the robot's own; docs/PROTOCOL.md has the
//! bytes.

mod handshake;
mod secret;
mod tag;

pub(crate) use handshake::{Challenge, Hello, Nonce, Parties, Proof, Request, SessionKeys, nonce};
pub use secret::{Secret, SecretError};
pub(crate) use tag::{Signer, Unauthentic, Verifier};
