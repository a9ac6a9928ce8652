use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme,
};

use super::error::{Side, WrongFingerprint};
use super::{Fingerprint, TlsError, TlsSession, files, fingerprint, hex, provider};

/// Whom a client takes for its server over TLS and, if the server asks for it, the client's own
/// certificate.
///
/// Without these settings a client that connects with `wss://` trusts
/// [the system's authorities](Self::system_roots).
///
/// ```no_run
/// use chiral_driver::TlsClient;
///
/// // The fingerprint that `chiral cert` and `TlsServer::fingerprint` give.
/// let fingerprint = "1e55bd0ee8d56dc61f1f8f6d3b7d3ffb2a9a2f2a3bd3ba1c4ee67b1b5b5c9d10";
/// let tls = TlsClient::pin(fingerprint)?.certificate("policy.pem", "policy.key")?;
/// # Ok::<(), chiral_driver::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsClient {
    trust: Trust,
    config: Arc<ClientConfig>,
}

/// Whose certificates are accepted.
#[derive(Clone)]
enum Trust {
    Authorities(Arc<RootCertStore>),
    Pinned(Fingerprint),
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsClient {
    /// Trusts the authorities that the operating system does: those of the web, and a
    /// laboratory's own that was installed there.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when the system has none.
    pub fn system_roots() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
            return Err(TlsError::Settings(format!(
                "found no authorities that this system trusts{why}: name a file of them, or pin \
                 the server's certificate"
            )));
        }
        Self::new(Trust::Authorities(Arc::new(roots)), None)
    }

    /// Trusts the authorities of a PEM file and no others. A server's own certificate may be its
    /// authority. The certificate must be for the host's name or address as it stands in the URI.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when the file cannot be read.
    pub fn ca_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        Self::new(Trust::Authorities(Arc::new(files::authorities(path.as_ref())?)), None)
    }

    /// Trusts the one certificate that has this SHA-256 fingerprint: 64 hexadecimal digits, with or
    /// without colons. It may be self-signed, for whatever name, and have expired: whoever has its
    /// key is the server.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when it is no such fingerprint.
    pub fn pin(sha256: &str) -> Result<Self, TlsError> {
        Self::new(Trust::Pinned(parse(sha256)?), None)
    }

    /// Shows the server a certificate of the client, from PEM files: for servers with
    /// [`TlsServer::client_ca`](super::TlsServer::client_ca).
    ///
    /// # Errors
    /// [`TlsError::Settings`] when a file cannot be read, or the key is not the certificate's.
    pub fn certificate(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let identity = (files::certificates(certificate.as_ref())?, files::key(key.as_ref())?);
        Self::new(self.trust, Some(identity))
    }

    fn new(trust: Trust, identity: Option<Identity>) -> Result<Self, TlsError> {
        let bad = |what: &str, error: &dyn fmt::Display| {
            TlsError::Settings(format!("the {what} cannot be used: {error}"))
        };
        let verifier: Arc<dyn ServerCertVerifier> = match &trust {
            Trust::Authorities(roots) => {
                WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
                    .build()
                    .map_err(|error| bad("authorities", &error))?
            }
            Trust::Pinned(expected) => {
                Arc::new(PinVerifier { expected: *expected, provider: provider() })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad("TLS version", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| bad("certificate with this key", &error))?,
        };
        config.resumption = Resumption::disabled();
        Ok(Self { trust, config: Arc::new(config) })
    }

    /// A connection to a host, by name or address.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when no certificate can have that name.
    pub fn session(&self, host: &str) -> Result<TlsSession, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            TlsError::Settings(format!("no certificate can be for the host {host}"))
        })?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| TlsError::of(&error, Side::Client))?;
        Ok(TlsSession::new(connection.into(), Side::Client))
    }
}

impl fmt::Debug for TlsClient {
    /// Shows nothing of a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &self.trust {
            Trust::Authorities(roots) => format!("{} authorities", roots.len()),
            Trust::Pinned(expected) => format!("the certificate {}", hex(expected)),
        };
        f.debug_struct("TlsClient").field("trusts", &trust).finish_non_exhaustive()
    }
}

/// A fingerprint as openssl and browsers write it, or as [`hex`] does.
fn parse(text: &str) -> Result<Fingerprint, TlsError> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b' ')).collect();
    let expected = || {
        TlsError::Settings(
            "found no fingerprint to pin, expected the SHA-256 of a certificate: 64 hexadecimal \
             digits"
                .to_owned(),
        )
    };
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return Err(expected());
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(expected);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

/// Accepts one certificate, and who proves to have its key.
#[derive(Debug)]
struct PinVerifier {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = fingerprint(certificate);
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongFingerprint { found, expected: self.expected };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_tools_write_them() {
        let plain = "1e55bd0ee8d56dc61f1f8f6d3b7d3ffb2a9a2f2a3bd3ba1c4ee67b1b5b5c9d10";
        let bytes = parse(plain).expect("it is one");
        assert_eq!(hex(&bytes), plain);
        let pairs: Vec<_> =
            plain.as_bytes().chunks(2).map(|c| std::str::from_utf8(c).unwrap()).collect();
        assert_eq!(parse(&pairs.join(":").to_uppercase()), Ok(bytes));
        for bad in ["", "1e55", &plain[1..], &plain.replace('1', "g"), &"é".repeat(32)] {
            let error = parse(bad).expect_err(bad).to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }
}
