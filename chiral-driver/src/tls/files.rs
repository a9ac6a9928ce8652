use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, pem::Error>>();
    let found = read().map_err(|error| unreadable(path, "certificates", &error))?;
    if found.is_empty() {
        return Err(unreadable(path, "certificates", &pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// The private key of a PEM file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, "a private key", &error))
}

/// The authorities of a PEM file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            TlsError::Settings(format!("{}: a certificate cannot be used: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

fn unreadable(path: &Path, expected: &str, error: &pem::Error) -> TlsError {
    let found = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it has none".to_owned(),
        // The texts of the others may show a part of the file.
        _ => "it is no proper PEM file".to_owned(),
    };
    TlsError::Settings(format!("{}: expected {expected} in PEM: {found}", path.display()))
}
