//! TLS, for all adapters: settings of both sides, and one connection without a socket.
//!
//! TLS 1.3 alone is spoken, by rustls with ring. No session is resumed and no early data is taken:
//! a connection lasts as long as a policy does.

mod client;
mod error;
mod files;
mod server;
mod session;
mod stream;

pub use client::TlsClient;
pub use error::TlsError;
pub use server::TlsServer;
pub use session::{Pending, Received, TlsSession};
pub(crate) use stream::Secure;

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The SHA-256 of a certificate in its binary form, DER.
type Fingerprint = [u8; 32];

fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes everything");
        text
    })
}
