use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::{Fingerprint, hex};

/// Why TLS settings cannot be used, or a TLS connection failed. Its text says what to do, and shows
/// nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate, key or fingerprint cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The client speaks without TLS.
    #[error("found no TLS, expected a TLS handshake: connect with wss://")]
    PlainClient,
    /// The server speaks without TLS.
    #[error(
        "the server answers without TLS: connect with ws:// if that is meant, or set the server up \
         for TLS"
    )]
    PlainServer,
    /// The server's certificate is not the pinned one.
    #[error(
        "the server's certificate has the SHA-256 fingerprint {found}, expected the pinned \
         {expected}: is it the right server, and was its certificate renewed?"
    )]
    WrongFingerprint {
        /// The fingerprint of the certificate that the server has.
        found: String,
        /// The pinned one.
        expected: String,
    },
    /// The peer's certificate is not accepted.
    #[error("{0}")]
    Certificate(String),
    /// The peer does not go on, and has said why.
    #[error("{0}")]
    RefusedByPeer(String),
    /// The stream ended during the TLS handshake.
    #[error("the peer hung up during the TLS handshake")]
    EndOfHandshake,
    /// The stream ended without the message that ends a TLS connection: somebody may have cut it
    /// off.
    #[error(
        "the TLS stream was cut off: it ended without a close_notify, so what the peer sent last \
         may be missing"
    )]
    Truncated,
    /// The peer broke the rules of TLS, or wants what is not offered.
    #[error("TLS failed: {0}")]
    Protocol(String),
}

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl TlsError {
    /// What an error of rustls means at this side.
    pub(super) fn of(error: &Error, side: Side) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error, side),
            Error::NoCertificatesPresented => Self::Certificate(
                "the client has no certificate, expected one that the client authority signed"
                    .to_owned(),
            ),
            Error::AlertReceived(alert) => Self::of_alert(*alert, side),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => match side {
                Side::Client => Self::PlainServer,
                Side::Server => Self::PlainClient,
            },
            Error::PeerIncompatible(why) => {
                Self::Protocol(format!("the peer does not offer TLS 1.3 as needed ({why:?})"))
            }
            error => Self::Protocol(error.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError, side: Side) -> Self {
        use CertificateError::{
            BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
            NotValidYet, NotValidYetContext, UnknownIssuer,
        };
        if let CertificateError::Other(other) = error
            && let Some(WrongFingerprint { found, expected }) = other.0.downcast_ref()
        {
            return Self::WrongFingerprint { found: hex(found), expected: hex(expected) };
        }
        let whose = match side {
            Side::Client => "the server's",
            Side::Server => "the client's",
        };
        let problem = match (error, side) {
            // A bad signature is that of another authority which has the same name.
            (UnknownIssuer | BadSignature, Side::Client) => {
                "is signed by nobody who is trusted here: trust the file of its authority, or of \
                 the certificate itself, or pin its fingerprint"
            }
            (UnknownIssuer | BadSignature, Side::Server) => "is not signed by the client authority",
            (Expired | ExpiredContext { .. }, _) => "has expired: make a new one",
            (NotValidYet | NotValidYetContext { .. }, _) => {
                "is not valid yet: check the clocks of both computers"
            }
            (NotValidForName | NotValidForNameContext { .. }, _) => {
                "is not for the host that was connected to: use a name or address that it has, or \
                 pin its fingerprint"
            }
            _ => return Self::Certificate(format!("{whose} certificate is refused: {error}")),
        };
        Self::Certificate(format!("{whose} certificate {problem}"))
    }

    fn of_alert(alert: AlertDescription, side: Side) -> Self {
        use AlertDescription::{
            BadCertificate, CertificateExpired, CertificateRequired, CertificateUnknown,
            DecryptError, UnknownCA, UnsupportedCertificate,
        };
        Self::RefusedByPeer(match (alert, side) {
            (CertificateRequired, Side::Client) => {
                "the server asks for a certificate of the client, and it has none: give it one \
                 that the server's client authority signed"
                    .to_owned()
            }
            (
                BadCertificate
                | CertificateExpired
                | CertificateUnknown
                | DecryptError
                | UnknownCA
                | UnsupportedCertificate,
                Side::Client,
            ) => format!("the server does not accept the client's certificate ({alert:?})"),
            (
                BadCertificate
                | CertificateExpired
                | CertificateUnknown
                | UnknownCA
                | UnsupportedCertificate,
                Side::Server,
            ) => format!("the client does not accept this server's certificate ({alert:?})"),
            _ => format!("the peer ended TLS with an alert ({alert:?})"),
        })
    }
}

/// What a pin's check has found.
#[derive(Debug)]
pub(super) struct WrongFingerprint {
    pub(super) found: Fingerprint,
    pub(super) expected: Fingerprint,
}

impl fmt::Display for WrongFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found the fingerprint {}, expected {}", hex(&self.found), hex(&self.expected))
    }
}

impl std::error::Error for WrongFingerprint {}

impl TlsError {
    /// The TLS error in an error of a stream, if that is what it is.
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
