use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::StreamAddress;

/// A path on which a Unix socket listens; the file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixListening(PathBuf);

impl UnixListening {
    /// Listens on a path. A socket that is left there of a server that is gone is replaced.
    ///
    /// Whoever may write to the socket's file may connect. The process's umask decides who that is,
    /// as with any file: with 022, the usual one, its own user and the superuser; with 002 its group
    /// too.
    ///
    /// # Errors
    /// When another server listens there, something else is there, or the system refuses: also a
    /// path that is longer than a socket's may be, 107 bytes on Linux and 103 on macOS.
    pub fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        if path.as_os_str().is_empty() {
            // To the system that would be an address of its own choice, which nobody knows.
            let expected = "found no path, expected unix:/path";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
        }
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

/// Connects to a Unix socket, to read and write by calls that block; connecting does not: the system
/// knows at once whether it can be done.
///
/// # Errors
/// When nobody listens there, or the server has not taken as many connections as may wait for it
/// ([`WouldBlock`](io::ErrorKind::WouldBlock)). `UnixStream::connect` would wait for that, for ever.
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(error.kind(), "the server takes no connections: too many wait already")
        }
        _ => error,
    })?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// Whether a path is that of a socket on which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && connect_unix(path).is_err_and(refused)
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_server_that_takes_no_connections_blocks_nobody() {
        let path = path("full");
        let (listener, _listening) = UnixListening::bind(&path).expect("nobody listens there");
        socket2::SockRef::from(&listener).listen(0).expect("it listens");
        let mut waiting = Vec::new();
        let full = loop {
            match connect_unix(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "{full}");
        UnixListening::bind(&path).expect_err("somebody listens there, if slowly");
        let (mut accepted, _) = listener.accept().expect("they wait");
        io::Write::write_all(&mut accepted, b"hello").expect("it is connected");
        let mut hello = [0; 5];
        io::Read::read_exact(&mut waiting[0], &mut hello).expect("reading blocks until it comes");
        connect_unix(&path).expect("there is room again");
    }

    #[test]
    fn binding_an_empty_path_or_one_that_is_too_long_fails() {
        for path in [PathBuf::new(), path(&"a".repeat(200))] {
            let error = UnixListening::bind(&path).expect_err("it is no socket's");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_umask_decides_who_may_connect() {
        use std::os::unix::fs::PermissionsExt;
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = u32::from_str_radix(umask.expect("it is there").trim(), 8).expect("octal");
        let path = path("umask");
        let (_listener, _listening) = UnixListening::bind(&path).expect("nobody listens there");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o777 & !umask);
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
