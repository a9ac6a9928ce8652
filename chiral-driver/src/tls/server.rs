use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::error::Side;
use super::{TlsError, TlsSession, files, fingerprint, hex, provider};

/// What a server needs to speak TLS: its certificate and key and, if clients are to prove who they
/// are with certificates too, the authority that signs those.
///
/// ```no_run
/// use chiral_driver::{ServerConfig, TlsServer};
///
/// let tls = TlsServer::from_pem_files("robot.pem", "robot.key")?;
/// println!("clients pin {}", tls.fingerprint());
/// let config = ServerConfig::default().tls(tls);
/// # Ok::<(), chiral_driver::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsServer {
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    client_authority: Option<Arc<RootCertStore>>,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// With a certificate (the server's own first, then those of the authorities between) and its
    /// private key, each from a PEM file.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when a file cannot be read, or the key is not the certificate's.
    pub fn from_pem_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let certificates = files::certificates(certificate.as_ref())?;
        let key = Arc::new(files::key(key.as_ref())?);
        let config = config(&certificates, &key, None)?;
        Ok(Self { certificates, key, client_authority: None, config })
    }

    /// Lets in those clients alone that have a certificate which one of these authorities has
    /// signed, from a PEM file: mutual TLS. A client's own certificate may be its authority.
    ///
    /// # Errors
    /// [`TlsError::Settings`] when the file cannot be read.
    pub fn client_ca(mut self, authorities: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.client_authority = Some(Arc::new(files::authorities(authorities.as_ref())?));
        self.config = config(&self.certificates, &self.key, self.client_authority.as_ref())?;
        Ok(self)
    }

    /// The SHA-256 of the server's certificate in hexadecimal digits, for
    /// [`TlsClient::pin`](super::TlsClient::pin).
    pub fn fingerprint(&self) -> String {
        hex(&fingerprint(&self.certificates[0]))
    }

    /// Whether clients prove who they are with certificates.
    pub fn authenticates_clients(&self) -> bool {
        self.client_authority.is_some()
    }

    /// A connection that has come in.
    ///
    /// # Errors
    /// [`TlsError::Protocol`] when the system has no random bytes.
    pub fn session(&self) -> Result<TlsSession, TlsError> {
        let connection = ServerConnection::new(Arc::clone(&self.config))
            .map_err(|error| TlsError::of(&error, Side::Server))?;
        Ok(TlsSession::new(connection.into(), Side::Server))
    }
}

fn config(
    certificates: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    client_authority: Option<&Arc<RootCertStore>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let bad = |what: &str, error: &dyn fmt::Display| {
        TlsError::Settings(format!("the {what} cannot be used: {error}"))
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad("TLS version", &error))?;
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(authority), provider())
                    .build()
                    .map_err(|error| bad("client authority", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates.to_vec(), key.clone_key())
        .map_err(|error| bad("certificate with this key", &error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl fmt::Debug for TlsServer {
    /// Shows nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("fingerprint", &self.fingerprint())
            .field("authenticates_clients", &self.authenticates_clients())
            .finish_non_exhaustive()
    }
}
