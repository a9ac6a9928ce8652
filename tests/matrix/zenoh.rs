//! The pairs over Zenoh: the cases of the grid that are about robots and policies and not about
//! WebSocket, and what only Zenoh has.
//!
//! Lines that are cut amid large observations are not among them: Zenoh, which sends for a whole
//! process with one thread, may be held up for seconds then, and with it all tests at once. The
//! processes of the test `network` are cut off so.

use std::time::{Duration, Instant};

use chiral_tests::Recorder;

use crate::pair::Pair;
use crate::supervise::{eventually, soon};

/// Makes the tests of pairs in one of Zenoh's modes.
macro_rules! over_zenoh {
    ($($how:ident { $($pair:ident: $client:ident => $server:ident;)* })*) => {
        $(mod $how {
            $(mod $pair {
                use crate::adapters;
                use crate::adapters::zenoh::OverZenoh;
                use crate::network::Tcp;
                use crate::pair::{Client, Pair, Server};

                const PAIR: Pair = Pair {
                    client: Client(&OverZenoh::$how(&adapters::$client::ADAPTER)),
                    server: Server {
                        adapter: &OverZenoh::$how(&adapters::$server::ADAPTER),
                        network: &Tcp,
                    },
                };
                common_cases! {}
                cases! {
                    super::PAIR;
                    zenoh {
                        a_silent_connection_is_dropped_within_the_lease
                    }
                }
            })*
        })*
    };
}

over_zenoh! {
    named {
        tokio_tokio: tokio => tokio;
        smol_blocking: smol => blocking;
        blocking_tokio: blocking => tokio;
    }
    compatible {
        tokio_tokio: tokio => tokio;
        blocking_smol: blocking => smol;
    }
}

/// After how long without a sign of life a peer is taken for gone.
const LEASE: Duration = Duration::from_secs(5);

pub(crate) fn a_silent_connection_is_dropped_within_the_lease(pair: Pair) {
    let served = pair.server.serve(Recorder::small());
    let relay = served.relay();
    let policy = pair.client.connect(relay.uri());
    soon(|| policy.metadata()).unwrap();
    let start = Instant::now();
    relay.freeze();
    eventually(|| policy.error().is_some());
    let error = policy.error().unwrap();
    assert!(error.is_lost(), "{error:?}");
    let reason = served.robot.wait_for_disconnects(1);
    assert!(reason.is_lost(), "{reason:?}");
    // The first sign of life that is missed is one of several in a lease.
    let after = start.elapsed();
    assert!((LEASE / 2..2 * LEASE).contains(&after), "{after:?}");
    relay.thaw();
    let next = pair.client.connect(&served.uri);
    soon(|| next.metadata()).unwrap();
}
