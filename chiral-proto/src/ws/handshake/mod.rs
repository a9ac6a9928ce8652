//! The opening handshake: one HTTP request and its response (RFC 6455, section 4).

mod client;
mod http;
mod server;

pub use client::{ClientHandshake, HandshakeError};
pub use server::{Accepted, BadRequest, Request, ServerHandshake};
