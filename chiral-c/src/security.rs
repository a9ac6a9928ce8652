//! How robot and policy show each other who they are: tokens and TLS.

use std::ffi::c_char;

use chiral_blocking::Token;
#[cfg(feature = "tls")]
use chiral_blocking::{TlsClient, TlsServer};

use crate::error::Failure;
use crate::memory;
use crate::sized::sized;

/// The secret by which a robot knows its policies: 16 to 1024 letters, digits and `-._~+/`, such as
/// `openssl rand -hex 16` makes. One of the three says where it is, the others are null. It is copied,
/// and stands in no error and no line of the log.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_token {
    /// `sizeof(chiral_token)`.
    pub size: usize,
    /// The token itself.
    pub text: *const c_char,
    /// A file that consists of it.
    pub file: *const c_char,
    /// The name of an environment variable that has it.
    pub variable: *const c_char,
}

/// Whom a client takes for its robot over TLS. All null: whoever has a certificate that the operating
/// system trusts. The files are PEM files.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_client_tls {
    /// `sizeof(chiral_client_tls)`.
    pub size: usize,
    /// The SHA-256 fingerprint of the robot's certificate, as `chiral_server_fingerprint` gives it: 64
    /// hexadecimal digits, with or without colons. The certificate may then be for whatever name.
    pub pin: *const c_char,
    /// The authorities that are trusted, in the place of a pin; a robot's own certificate may be one. Its
    /// certificate must be for the host as it stands in the URI.
    pub authorities: *const c_char,
    /// The client's own certificate, for a robot that asks for one.
    pub certificate: *const c_char,
    /// Its key.
    pub key: *const c_char,
}

/// What a server needs to speak TLS. The files are PEM files.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_server_tls {
    /// `sizeof(chiral_server_tls)`.
    pub size: usize,
    /// The server's certificate.
    pub certificate: *const c_char,
    /// Its key.
    pub key: *const c_char,
    /// The authorities of which one has to have signed a policy's certificate; null lets in policies
    /// without one.
    pub client_authorities: *const c_char,
}

sized!(chiral_token, chiral_client_tls, chiral_server_tls);

impl chiral_token {
    /// # Safety
    /// Its pointers are valid.
    pub(crate) unsafe fn read(&self) -> Result<Token, Failure> {
        // SAFETY: the caller's promise.
        let [text, file, variable] = unsafe {
            [
                memory::text_or_null(self.text, "token.text")?,
                memory::text_or_null(self.file, "token.file")?,
                memory::text_or_null(self.variable, "token.variable")?,
            ]
        };
        let token = match (text, file, variable) {
            (Some(text), None, None) => Token::new(text),
            (None, Some(file), None) => Token::from_file(file),
            (None, None, Some(variable)) => Token::from_env(variable),
            _ => {
                return Err(Failure::misuse(
                    "the token is given in none or several ways, expected one of text, file and \
                     variable",
                ));
            }
        };
        token.map_err(Failure::misuse)
    }
}

#[cfg(feature = "tls")]
impl chiral_client_tls {
    /// # Safety
    /// Its pointers are valid.
    pub(crate) unsafe fn read(&self) -> Result<TlsClient, Failure> {
        // SAFETY: the caller's promise.
        let [pin, authorities, certificate, key] = unsafe {
            [
                memory::text_or_null(self.pin, "tls.pin")?,
                memory::text_or_null(self.authorities, "tls.authorities")?,
                memory::text_or_null(self.certificate, "tls.certificate")?,
                memory::text_or_null(self.key, "tls.key")?,
            ]
        };
        let tls = match (pin, authorities) {
            (None, None) => TlsClient::system_roots(),
            (Some(pin), None) => TlsClient::pin(pin),
            (None, Some(file)) => TlsClient::ca_file(file),
            (Some(_), Some(_)) => {
                return Err(Failure::misuse(
                    "found a pin and a file of authorities, expected one of them",
                ));
            }
        };
        let tls = tls.map_err(Failure::misuse)?;
        match (certificate, key) {
            (None, None) => Ok(tls),
            (Some(certificate), Some(key)) => {
                tls.certificate(certificate, key).map_err(Failure::misuse)
            }
            _ => Err(Failure::misuse("found one of certificate and key, expected both or none")),
        }
    }
}

#[cfg(feature = "tls")]
impl chiral_server_tls {
    /// # Safety
    /// Its pointers are valid.
    pub(crate) unsafe fn read(&self) -> Result<TlsServer, Failure> {
        // SAFETY: the caller's promise.
        let certificate = unsafe { memory::text(self.certificate, "tls.certificate")? };
        // SAFETY: the caller's promise.
        let key = unsafe { memory::text(self.key, "tls.key")? };
        let tls = TlsServer::from_pem_files(certificate, key).map_err(Failure::misuse)?;
        // SAFETY: the caller's promise.
        match unsafe { memory::text_or_null(self.client_authorities, "tls.client_authorities")? } {
            None => Ok(tls),
            Some(file) => tls.client_ca(file).map_err(Failure::misuse),
        }
    }
}

#[cfg(not(feature = "tls"))]
pub(crate) fn without_tls() -> Failure {
    Failure::misuse("the library was built without TLS: build it with the feature `tls`")
}
