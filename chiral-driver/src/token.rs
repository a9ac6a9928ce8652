//! The secret with which a policy shows that it may drive a robot.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// A secret that a server and those whom it lets in share: a bearer token (RFC 6750), sent in the
/// request with which a WebSocket begins.
///
/// Whoever reads the traffic can read it: beyond one computer it belongs into TLS. It is never shown,
/// neither by `Debug` nor in an error or the log.
///
/// ```
/// use chiral_driver::{ServerConfig, Token};
///
/// // As `openssl rand -hex 16` prints one.
/// let token = Token::new("6d1f0c8f2f6be3cf1a2a1fb0b5a5e6f7")?;
/// assert_eq!(format!("{token:?}"), "Token(***)");
/// let config = ServerConfig::default().token(token);
/// # Ok::<(), chiral_driver::TokenError>(())
/// ```
#[derive(Clone)]
pub struct Token(Arc<str>);

/// The length of a token.
const MIN_LEN: usize = 16;
const MAX_LEN: usize = 1024;

/// Why a text is no token. It shows nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is too short to be safe from guessing, or too long for a request.
    #[error(
        "found a token of {found} characters, expected {MIN_LEN} to {MAX_LEN}: make one with \
         `openssl rand -hex 16`"
    )]
    Length {
        /// How long it is.
        found: usize,
    },
    /// It has characters that a request cannot carry.
    #[error(
        "found a token with other characters than letters, digits and -._~+/ (and = at its end): \
         make one with `openssl rand -hex 16`"
    )]
    Characters,
    /// The file cannot be read.
    #[error("the token cannot be read from {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// The environment variable is not set.
    #[error("found no token in the environment variable {variable}, expected one: set it")]
    Environment {
        /// The variable.
        variable: String,
    },
}

impl Token {
    /// A token of 16 to 1024 letters, digits and `-._~+/`, with `=` at its end if need be: such as
    /// hexadecimal digits or base64. White space around it does not count.
    ///
    /// # Errors
    /// When it has another length or other characters.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if !text.trim_end_matches('=').bytes().all(is_allowed) {
            return Err(TokenError::Characters);
        }
        if !(MIN_LEN..=MAX_LEN).contains(&text.len()) {
            return Err(TokenError::Length { found: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// The token that a file consists of.
    ///
    /// # Errors
    /// When the file cannot be read, or is no token.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| TokenError::File {
            path: path.display().to_string(),
            problem: if error.kind() == io::ErrorKind::InvalidData {
                "it is no text".to_owned()
            } else {
                error.to_string()
            },
        })?;
        Self::new(&text)
    }

    /// The token in an environment variable, such as `CHIRAL_TOKEN`.
    ///
    /// # Errors
    /// When it is not set, or is no token.
    pub fn from_env(variable: &str) -> Result<Self, TokenError> {
        match std::env::var(variable) {
            Ok(text) => Self::new(&text),
            Err(std::env::VarError::NotPresent) => {
                Err(TokenError::Environment { variable: variable.to_owned() })
            }
            Err(std::env::VarError::NotUnicode(_)) => Err(TokenError::Characters),
        }
    }

    /// The value of a request's `Authorization` field.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether that is the value of a request's `Authorization` field. How long it takes tells
    /// nothing of the token but its length.
    pub(crate) fn is_in(&self, authorization: &str) -> bool {
        let Some(found) = claimed_token(authorization) else { return false };
        self.0.as_bytes().ct_eq(found.as_bytes()).into()
    }

    /// Whether the value of a request's `Authorization` field claims to be a token.
    pub(crate) fn is_claimed_in(authorization: &str) -> bool {
        claimed_token(authorization).is_some()
    }
}

fn claimed_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "c2VjcmV0IGFuZCBsb25n-._~+/==";

    #[test]
    fn a_token_is_of_a_safe_length_and_of_characters_that_a_request_carries() {
        assert!(
            Token::new(&format!(" {TEXT}\n")).expect("it is one").is_in(&format!("Bearer {TEXT}"))
        );
        for (bad, why) in [
            ("", "16 to 1024"),
            ("fifteen-letters", "16 to 1024"),
            (&"x".repeat(1025), "16 to 1024"),
            ("secret and long enough", "characters"),
            ("sécret-and-long-enough", "characters"),
            ("secret=and=long=enough", "characters"),
            ("secret-and-long\r\nX: y", "characters"),
        ] {
            let error = Token::new(bad).expect_err(bad);
            assert!(error.to_string().contains(why), "{error}");
            assert!(bad.is_empty() || !format!("{error} {error:?}").contains(bad), "{error:?}");
        }
    }

    #[test]
    fn a_request_has_the_token_only_as_a_whole_and_as_a_bearers() {
        let token = Token::new(TEXT).expect("it is one");
        assert!(token.is_in(&token.authorization()) && token.is_in(&format!("bearer  {TEXT}")));
        for other in [
            "",
            "Bearer",
            TEXT,
            &format!("Basic {TEXT}"),
            &format!("Bearer {}", &TEXT[1..]),
            &format!("Bearer {TEXT}="),
            &format!("Bearer {}", TEXT.to_lowercase()),
        ] {
            assert!(!token.is_in(other), "{other}");
        }
    }

    #[test]
    fn a_token_comes_from_a_file_or_says_why_not() {
        let path = std::env::temp_dir().join(format!("chiral-token-{}", std::process::id()));
        std::fs::write(&path, format!("{TEXT}\n")).expect("a file");
        let token = Token::from_file(&path);
        std::fs::write(&path, [0xff; 20]).expect("a file");
        let no_text = Token::from_file(&path).expect_err("it is no text").to_string();
        std::fs::remove_file(&path).expect("it is there");
        assert!(token.expect("it has one").is_in(&format!("Bearer {TEXT}")));
        assert!(no_text.contains("it is no text"), "{no_text}");
        let missing = Token::from_file(&path).expect_err("it has gone").to_string();
        assert!(missing.contains(path.to_str().expect("text")), "{missing}");
        let unset = Token::from_env("CHIRAL_TOKEN_THAT_NOBODY_SETS").expect_err("it is not set");
        assert!(unset.to_string().contains("CHIRAL_TOKEN_THAT_NOBODY_SETS"), "{unset}");
    }
}
