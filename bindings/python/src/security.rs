//! Who may connect: tokens, and TLS as the dataclass `Tls` describes it.

use std::path::PathBuf;

use chiral_blocking::{TlsClient, TlsError, TlsServer, Token, TokenError};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// A secret that a robot and its policies share.
///
/// It is never shown, and cannot be read out again or pickled.
#[pyclass(frozen, module = "chiral", name = "Token")]
pub(crate) struct PyToken(Token);

fn of_token(error: TokenError) -> PyErr {
    match error {
        TokenError::File { .. } => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

#[pymethods]
impl PyToken {
    /// A token of 16 to 1024 letters, digits and `-._~+/`, such as `openssl rand -hex 16` prints.
    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &str) -> PyResult<Self> {
        Token::new(text).map(Self).map_err(of_token)
    }

    /// The token that a file consists of.
    #[staticmethod]
    fn from_file(path: PathBuf) -> PyResult<Self> {
        Token::from_file(path).map(Self).map_err(of_token)
    }

    /// The token in an environment variable.
    #[staticmethod]
    #[pyo3(signature = (variable = "CHIRAL_TOKEN"))]
    fn from_env(variable: &str) -> PyResult<Self> {
        Token::from_env(variable).map(Self).map_err(of_token)
    }

    fn __repr__(&self) -> String {
        // Without the secret.
        format!("{:?}", self.0)
    }
}

pub(crate) fn token(object: &Bound<'_, PyAny>) -> PyResult<Option<Token>> {
    let token = object.extract::<Option<PyRef<'_, PyToken>>>()?;
    Ok(token.map(|token| token.0.clone()))
}

/// What the dataclass `Tls` says.
#[derive(FromPyObject)]
struct Tls {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    pin: Option<String>,
}

impl Tls {
    /// This side's certificate and its key.
    fn identity(&self) -> PyResult<Option<(&PathBuf, &PathBuf)>> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            _ => Err(PyValueError::new_err(
                "found one of `cert` and `key`, expected both: a certificate, and its private key",
            )),
        }
    }
}

fn bad(error: TlsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn tls_client(object: &Bound<'_, PyAny>) -> PyResult<Option<TlsClient>> {
    let Some(tls) = object.extract::<Option<Tls>>()? else { return Ok(None) };
    let trust = match (&tls.ca, &tls.pin) {
        (Some(_), Some(_)) => {
            return Err(PyValueError::new_err(
                "found both `ca` and `pin`, expected one of them: whom to take for the robot",
            ));
        }
        (Some(path), None) => TlsClient::ca_file(path),
        (None, Some(fingerprint)) => TlsClient::pin(fingerprint),
        (None, None) => TlsClient::system_roots(),
    };
    let trust = trust.map_err(bad)?;
    let Some((cert, key)) = tls.identity()? else { return Ok(Some(trust)) };
    trust.certificate(cert, key).map(Some).map_err(bad)
}

pub(crate) fn tls_server(object: &Bound<'_, PyAny>) -> PyResult<Option<TlsServer>> {
    let Some(tls) = object.extract::<Option<Tls>>()? else { return Ok(None) };
    if tls.pin.is_some() {
        return Err(PyValueError::new_err(
            "found `pin`, which is for a policy: a robot takes the policies whose certificates `ca` has \
             signed",
        ));
    }
    let Some((cert, key)) = tls.identity()? else {
        return Err(PyValueError::new_err(
            "found no `cert` and `key`, expected the robot's certificate: `chiral cert` makes one",
        ));
    };
    let server = TlsServer::from_pem_files(cert, key).map_err(bad)?;
    let Some(ca) = &tls.ca else { return Ok(Some(server)) };
    server.client_ca(ca).map(Some).map_err(bad)
}

/// The SHA-256 of a certificate, for who pins it.
#[pyfunction]
pub(crate) fn fingerprint(cert: PathBuf, key: PathBuf) -> PyResult<String> {
    Ok(TlsServer::from_pem_files(cert, key).map_err(bad)?.fingerprint())
}
