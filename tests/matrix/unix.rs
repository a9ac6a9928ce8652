//! The pairs over Unix sockets: the cases of the grid, and what becomes of the socket's file.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use chiral_driver::ConnectError;
use chiral_tests::Recorder;

use crate::adapter::ClientSettings;
use crate::network::{path_of, unused_path};
use crate::pair::{Client, Pair, Served};
use crate::supervise::{eventually, soon};

/// Makes the tests of pairs over Unix sockets.
macro_rules! over_unix {
    ($($pair:ident: $client:ident => $server:ident;)*) => {
        $(mod $pair {
            use crate::adapters::{self, unix::OverUnix};
            use crate::network::Unix;
            use crate::pair::{Client, Pair, Server};

            const PAIR: Pair = Pair {
                client: Client(&OverUnix(&adapters::$client::ADAPTER)),
                server: Server {
                    adapter: &OverUnix(&adapters::$server::ADAPTER),
                    network: &Unix,
                },
            };
            pair_cases! {}
            cases! {
                super::PAIR;
                unix {
                    the_socket_is_removed_on_shutdown
                    the_socket_is_removed_on_drop
                    a_stale_socket_is_replaced
                    connecting_waits_for_a_stale_socket_to_be_replaced
                    a_path_that_cannot_be_a_sockets_fails_at_once
                }
            }
        })*
    };
}

// Every adapter as a client and as a server.
over_unix! {
    tokio_tokio: tokio => tokio;
    smol_blocking: smol => blocking;
    blocking_smol: blocking => smol;
    async_std_tokio: async_std => tokio;
    tokio_async_std: tokio => async_std;
}

fn path(served: &Served) -> PathBuf {
    path_of(&served.uri).expect("it is served at a path")
}

pub(crate) fn the_socket_is_removed_on_shutdown(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    soon(|| policy.metadata()).unwrap();
    let path = path(&served);
    assert!(path.exists());
    soon(|| served.server.shut_down());
    eventually(|| !path.exists());
}

pub(crate) fn the_socket_is_removed_on_drop(pair: Pair) {
    let (served, policy) = pair.meet(Recorder::small());
    soon(|| policy.metadata()).unwrap();
    let path = path(&served);
    soon(|| drop(served));
    eventually(|| !path.exists());
}

/// A socket whose server has gone without removing it.
fn stale_socket() -> PathBuf {
    let path = unused_path();
    drop(UnixListener::bind(&path).expect("nobody listens there"));
    assert!(path.exists());
    path
}

pub(crate) fn a_stale_socket_is_replaced(pair: Pair) {
    let path = stale_socket();
    let served = pair.server.serve_at(path.to_str().expect("UTF-8"), Recorder::small());
    let policy = pair.client.connect(&served.uri);
    soon(|| policy.metadata()).unwrap();
    soon(|| served.server.shut_down());
    eventually(|| !path.exists());
}

pub(crate) fn connecting_waits_for_a_stale_socket_to_be_replaced(pair: Pair) {
    let path = stale_socket();
    let uri = format!("unix:{}", path.display());
    let connect_timeout = Some(Duration::from_millis(250));
    let settings = ClientSettings { connect_timeout, ..ClientSettings::default() };
    match pair.client.try_connect(&uri, settings).map(drop).unwrap_err() {
        ConnectError::NoServer { uri: tried, .. } => assert_eq!(tried, uri),
        other => panic!("{other:?}"),
    }
    let _served = pair.server.serve_at(path.to_str().expect("UTF-8"), Recorder::small());
    let policy = pair.client.connect(&uri);
    soon(|| policy.metadata()).unwrap();
}

pub(crate) fn a_path_that_cannot_be_a_sockets_fails_at_once(pair: Pair) {
    fails_at_once(pair.client, "unix:");
    fails_at_once(pair.client, &format!("unix:/tmp/{}", "a".repeat(200)));
}

/// Asserts that connecting fails although it may take for ever.
fn fails_at_once(client: Client, uri: &str) {
    let settings = ClientSettings { connect_timeout: None, ..ClientSettings::default() };
    let error = client.try_connect(uri, settings).map(drop).unwrap_err();
    assert!(error.to_string().contains(uri), "{error}");
}
