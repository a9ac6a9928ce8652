//! The pairs over Zenoh: the cases of the grid that are about robots and policies and not about
//! WebSocket, and what only Zenoh has.
//!
//! Lines that are cut amid large observations are not among them: Zenoh, which sends for a whole
//! process with one thread, may be held up for seconds then, and with it all tests at once. The
//! processes of the test `network` are cut off so.

use std::time::{Duration, Instant};

use chiral_driver::ServerConfig;
use chiral_tests::Recorder;

use crate::network::Tcp;
use crate::pair::{Client, Pair, Server};
use crate::several_policies;
use crate::supervise::{self, eventually, soon};

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
                connected_cases! {}
                mod on_zenoh {
                    cases! {
                        super::super::PAIR;
                        several_policies {
                            a_policy_waits_for_its_turn
                        }
                        zenoh {
                            a_silent_connection_is_dropped_within_the_lease
                        }
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

/// Only with keys of the robot's own: otherwise Zenoh lets nobody in beside the policy that there is.
#[test]
fn the_newest_policy_takes_a_named_robot_over() {
    use crate::adapters::{smol, tokio, zenoh::OverZenoh};
    const PAIR: Pair = Pair {
        client: Client(&OverZenoh::named(&smol::ADAPTER)),
        server: Server { adapter: &OverZenoh::named(&tokio::ADAPTER), network: &Tcp },
    };
    supervise::run(|| several_policies::the_newest_policy_takes_the_robot_over(PAIR));
}

/// `accept` would let everybody in, for there is no request that it could look at.
#[test]
fn a_server_that_looks_at_requests_does_not_listen_on_zenoh() {
    let config = || ServerConfig::default().accept(|_| Ok(()));
    let uri = "zenoh:tcp/127.0.0.1:0?robot=arm";
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    for error in [
        runtime.block_on(chiral_tokio::PolicyServer::bind_with(uri, config())).map(drop),
        smol::block_on(chiral_smol::PolicyServer::bind_with(uri, config())).map(drop),
        chiral_blocking::PolicyServer::bind_with(uri, config()).map(drop),
    ] {
        let error = error.expect_err("nobody would be looked at");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("`ServerConfig::accept`"), "{error}");
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
