use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a robot and its policies know, and nobody else on their Zenoh network.
///
/// With it each shows the other who it is before a policy is admitted, and nobody else can send in
/// the name of either ([what it defends](crate#who-may-drive-the-robot)). It is never sent. Whoever
/// is on the network can try guesses of it, so it has to be random: 32 characters or more, as
/// `openssl rand -hex 32` makes them. White space around it does not count.
///
/// ```
/// use chiral_zenoh::{Config, Secret};
///
/// let secret = Secret::new("f3b1e0b1a9a3c5b74b7d0c8f6a1d2e3f")?;
/// let robot: Config = "zenoh:?robot=arm-3&connect=tcp/router:7447".parse()?;
/// let robot = robot.with_secret(secret); // and the same at the policy
/// assert!(!format!("{robot:?} {robot}").contains("f3b1"));
///
/// assert!(Secret::new("swordfish").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Compared in constant time.
    key: blake3::Hash,
}

/// Characters of the shortest secret.
const MIN_LEN: usize = 32;
/// Bytes that are read of a file.
const MAX_FILE_LEN: u64 = 1 << 16;

impl Secret {
    /// A secret from its text.
    ///
    /// # Errors
    /// When it has fewer than 32 characters.
    pub fn new(text: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let text = text.as_ref().trim_ascii();
        if text.len() < MIN_LEN {
            return Err(SecretError::Short { found: text.len() });
        }
        Ok(Self { key: blake3::derive_key("chiral zenoh 2 secret", text).into() })
    }

    /// The secret in a file. On Unix the log warns of a file that others may read.
    ///
    /// # Errors
    /// When the file cannot be read, or has fewer than 32 characters or more than 64 KiB.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        let fail = |reason: String| SecretError::File { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        warn_if_others_can_read(path, &file);
        let mut text = Vec::new();
        file.take(MAX_FILE_LEN + 1).read_to_end(&mut text).map_err(|e| fail(e.to_string()))?;
        if text.len() as u64 > MAX_FILE_LEN {
            return Err(fail(format!("found more than {MAX_FILE_LEN} bytes, expected a secret")));
        }
        Self::new(text).map_err(|error| fail(error.to_string()))
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(
            "the secret in {} can be read by others: found mode {:03o}, expected 600 (`chmod 600`)",
            path.display(),
            mode & 0o777
        );
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_: &Path, _: &File) {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a [`Secret`] could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is too short to be safe from guesses.
    #[error(
        "found a secret of {found} characters, expected at least 32 random ones, as `openssl rand \
         -hex 32` makes them"
    )]
    Short {
        /// Its characters.
        found: usize,
    },
    /// Its file cannot be read, or holds no secret.
    #[error("the secret in {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn white_space_around_a_secret_does_not_count() {
        let secret = Secret::new(TEXT).expect("it is long enough");
        assert_eq!(Secret::new(format!(" {TEXT}\r\n")).expect("it is long enough"), secret);
        assert_ne!(Secret::new(format!("{TEXT}0")).expect("it is long enough"), secret);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let error = Secret::new(format!("{}   ", &TEXT[1..])).expect_err("31 characters");
        assert_eq!(error, SecretError::Short { found: 31 });
        assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
    }

    #[test]
    fn a_secret_is_read_from_a_file_whose_name_is_in_the_error() {
        let path = std::env::temp_dir().join(format!("chiral-secret-{}", std::process::id()));
        std::fs::write(&path, format!("{TEXT}\n")).expect("the temporary folder can be written");
        assert_eq!(Secret::read(&path), Secret::new(TEXT));
        std::fs::write(&path, vec![b'x'; 1 << 17]).expect("the temporary folder can be written");
        let error = Secret::read(&path).expect_err("128 KiB").to_string();
        std::fs::remove_file(&path).expect("it was just written");
        assert!(error.contains("more than 65536 bytes"), "{error}");
        let error = Secret::read(&path).expect_err("it is removed").to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
