//! Certificates and keys for tests, in files as users have them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use chiral_driver::{TlsClient, TlsServer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// A certificate with its key.
pub struct Identity {
    folder: PathBuf,
}

impl Identity {
    /// One that has signed itself, for `localhost` and the loopback address.
    pub fn self_signed() -> Self {
        let key = key();
        let certificate = params().self_signed(&key).expect("it is signed");
        Self::written(&certificate.pem(), &key)
    }

    /// One whose time is over.
    pub fn expired() -> Self {
        let (key, mut params) = (key(), params());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let certificate = params.self_signed(&key).expect("it is signed");
        Self::written(&certificate.pem(), &key)
    }

    /// One for another host.
    pub fn of_another_host() -> Self {
        let key = key();
        let params = CertificateParams::new(["elsewhere.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("it is signed");
        Self::written(&certificate.pem(), &key)
    }

    fn written(certificate: &str, key: &KeyPair) -> Self {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let folder = folder.join(format!("chiral-identity-{}-{call}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let identity = Self { folder };
        std::fs::write(identity.certificate(), certificate).expect("a file");
        std::fs::write(identity.key(), key.serialize_pem()).expect("a file");
        identity
    }

    /// The file of the certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// The file of the key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The settings of a server that has it.
    pub fn server(&self) -> TlsServer {
        TlsServer::from_pem_files(self.certificate(), self.key()).expect("they fit")
    }

    /// The settings of a client that trusts it alone.
    pub fn pinned(&self) -> TlsClient {
        TlsClient::pin(&self.server().fingerprint()).expect("it is a fingerprint")
    }

    /// The settings of a client that trusts it as an authority.
    pub fn trusted(&self) -> TlsClient {
        trusted(&self.certificate())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What is left over is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    identity: Identity,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let (key, mut params) = (key(), CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("it is signed");
        let identity = Identity::written(&certificate.pem(), &key);
        Self { issuer: Issuer::new(params, key), identity }
    }

    /// Signs a certificate for `localhost` and the loopback address.
    pub fn sign(&self) -> Identity {
        let key = key();
        let certificate = params().signed_by(&key, &self.issuer).expect("it is signed");
        Identity::written(&certificate.pem(), &key)
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.identity.certificate()
    }

    /// The settings of a client that trusts it.
    pub fn trusted(&self) -> TlsClient {
        trusted(&self.certificate())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn trusted(certificate: &Path) -> TlsClient {
    TlsClient::ca_file(certificate).expect("it is a certificate")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("random bytes")
}

fn params() -> CertificateParams {
    CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names")
}
