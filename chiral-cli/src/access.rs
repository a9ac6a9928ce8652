//! Who may connect, and how that is shown: the options for tokens and TLS.

use std::env;
use std::path::PathBuf;

use chiral_blocking::{Builder, ServerConfig, Token};
use clap::Args;

use crate::usage::UsageError;

/// The environment variable in which a token may be.
const TOKEN_VARIABLE: &str = "CHIRAL_TOKEN";

/// The secret that robot and policy share.
#[derive(Args)]
struct TokenOptions {
    /// The token that robot and policy share, 16 to 1024 characters. Others on this computer can
    /// see it in the list of processes: better in a file, or in the environment variable
    /// `CHIRAL_TOKEN`.
    // As text: an error of clap's would show it.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,

    /// The file with the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenOptions {
    fn token(&self) -> anyhow::Result<Option<Token>> {
        let token = match (&self.token, &self.token_file) {
            (Some(text), _) => Token::new(text),
            (None, Some(path)) => Token::from_file(path),
            (None, None) if env::var_os(TOKEN_VARIABLE).is_some() => {
                Token::from_env(TOKEN_VARIABLE)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(token.map_err(UsageError::new)?))
    }
}

/// What a robot asks of its policies.
#[derive(Args)]
pub(crate) struct ServerAccess {
    #[command(flatten)]
    token: TokenOptions,

    /// Speak TLS, with this certificate (PEM) and --tls-key; `chiral cert` makes both.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key (PEM) of --tls-cert.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Take those policies alone that have a certificate which one of these authorities (PEM) has
    /// signed.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
}

impl ServerAccess {
    /// Sets what was asked for.
    pub(crate) fn apply(&self, mut config: ServerConfig) -> anyhow::Result<ServerConfig> {
        config.token = self.token.token()?;
        #[cfg(feature = "tls")]
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let mut tls = chiral_blocking::TlsServer::from_pem_files(certificate, key)?;
            if let Some(authorities) = &self.client_ca {
                tls = tls.client_ca(authorities)?;
            }
            config = config.tls(tls);
        }
        Ok(config)
    }
}

/// What a policy shows a robot, and for whom it takes it.
#[derive(Args)]
pub(crate) struct ClientAccess {
    #[command(flatten)]
    token: TokenOptions,

    /// For wss://: trust the authorities in this file (PEM), and not the system's.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    ca: Option<PathBuf>,

    /// For wss://: trust the certificate with this SHA-256 fingerprint, and no other.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Option<String>,

    /// For wss://: show the robot this certificate (PEM).
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The private key (PEM) of --cert.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl ClientAccess {
    /// Sets what was asked for.
    pub(crate) fn apply(&self, mut builder: Builder) -> anyhow::Result<Builder> {
        if let Some(token) = self.token.token()? {
            builder = builder.token(token);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls()? {
            builder = builder.tls(tls);
        }
        Ok(builder)
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> anyhow::Result<Option<chiral_blocking::TlsClient>> {
        use chiral_blocking::TlsClient;
        let trust = match (&self.pin, &self.ca) {
            (Some(fingerprint), _) => Some(TlsClient::pin(fingerprint).map_err(UsageError::new)?),
            (None, Some(authorities)) => Some(TlsClient::ca_file(authorities)?),
            (None, None) => None,
        };
        let (Some(certificate), Some(key)) = (&self.cert, &self.key) else { return Ok(trust) };
        let trust = trust.map_or_else(TlsClient::system_roots, Ok)?;
        Ok(Some(trust.certificate(certificate, key)?))
    }
}
