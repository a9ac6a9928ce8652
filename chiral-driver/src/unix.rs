use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::address::StreamAddress;

/// A path on which a Unix socket listens; the file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixListening(PathBuf);

impl UnixListening {
    /// Listens on a path. A socket that is left there of a server that is gone is replaced.
    ///
    /// # Errors
    /// When another server listens there, something else is there, or the system refuses.
    pub fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        Ok((listener, Self(path.to_owned())))
    }

    /// The address.
    pub fn address(&self) -> StreamAddress {
        StreamAddress::Unix(self.0.clone())
    }

    /// A client's name for the log: it has no address of its own.
    pub fn peer(&self) -> String {
        format!("a client of {}", self.0.display())
    }
}

impl Drop for UnixListening {
    fn drop(&mut self) {
        // Whoever has removed it before has done this work.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a path is that of a socket on which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("chiral-unix-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_removed_on_drop() {
        let path = path("abandoned");
        drop(UnixListener::bind(&path).expect("the path is free"));
        let (listener, listening) = UnixListening::bind(&path).expect("nobody listens there");
        UnixListening::bind(&path).expect_err("somebody listens there now");
        drop(listener);
        drop(listening);
        assert!(!path.exists());
    }

    #[test]
    fn binding_does_not_replace_a_regular_file() {
        let path = path("file");
        std::fs::write(&path, "mine").expect("it can be written");
        UnixListening::bind(&path).expect_err("something else is there");
        assert_eq!(std::fs::read(&path).expect("it is still there"), b"mine");
        std::fs::remove_file(&path).expect("it can be removed");
    }
}
