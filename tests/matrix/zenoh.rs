//! The pairs over Zenoh: the cases of the grid that are about robots and policies and not about
//! WebSocket, and what only Zenoh has.
//!
//! Lines that are cut amid large observations are not among them: Zenoh, which sends for a whole
//! process with one thread, may be held up for seconds then, and with it all tests at once. The
//! processes of the test `network` are cut off so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::ServerConfig;
use chiral_proto::{ActionKind, ActionSpec, Arming, Map, OnViolation, Rate};
use chiral_tests::Recorder;

use crate::adapter::{Adapter, ClientSettings, ServerSettings};
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

fn contract() -> ActionSpec {
    ActionSpec::vector(7)
        .kind(ActionKind::Absolute)
        .bounds([-1.0; 7], [2.0; 7])
        .max_step(0.25)
        .on_violation(OnViolation::Clamp)
        .rate(Rate::hz(50).expect("it is a rate"))
        .stop_after(20)
        .arming(Arming::OnReset)
}

/// What the only robot on a network is listed with.
fn listed(uri: &str) -> Map {
    let (network, _) = uri.split_once("?robot=").expect("it is named");
    let network: chiral_zenoh::Config = network.parse().expect("it is a URI");
    let robots = chiral_zenoh::robots(network, Duration::from_secs(5)).wait();
    let mut robots = robots.expect("the robot is there");
    assert_eq!(robots.len(), 1, "{robots:?}");
    robots.remove(0).metadata.expect("it says what it is")
}

#[test]
fn a_robot_is_listed_with_the_contract_that_its_policy_is_told() {
    use crate::adapters::{blocking, smol, tokio, zenoh::OverZenoh};
    let mut settings = ServerSettings::default();
    settings.machine.action_spec = contract();
    settings.machine.max_obs_age = Some(Duration::from_millis(800));
    let adapters: [&'static dyn Adapter; 3] = [&tokio::ADAPTER, &smol::ADAPTER, &blocking::ADAPTER];
    for adapter in adapters {
        let over_zenoh = OverZenoh::named(adapter);
        let robot = Arc::new(Recorder::small());
        let serving = over_zenoh.serve("127.0.0.1:0", robot, settings.clone());
        let policy = soon(|| over_zenoh.connect(&serving.uri(), ClientSettings::default()));
        let policy = policy.expect("it is admitted");
        soon(|| policy.metadata()).expect("it is answered");
        let metadata = listed(&serving.uri());
        assert_eq!(metadata.get("robot"), Some("recorder".into()));
        let found = ActionSpec::of_metadata(&metadata);
        assert_eq!(found, policy.contract());
        assert_eq!(found.declaration().bounds, contract().declaration().bounds);
        assert_eq!(found.declaration().max_obs_age, Some(Duration::from_millis(800)));
        drop(policy);
        serving.shut_down();
    }
}

#[test]
fn a_robot_that_pulls_its_commands_is_listed_with_its_contract() {
    let mut config = ServerConfig::default();
    config.machine.action_spec = ActionSpec::vector(7).bounds(-1.0, 1.0);
    let address = "zenoh:tcp/127.0.0.1:0?robot=arm";
    let robot = Recorder::small();
    let metadata = || Map::new().with("robot", "arm-3");
    let check = |uri: &str, calibrated: bool| {
        let listed = listed(uri);
        assert_eq!(listed.get("calibrated").is_some(), calibrated);
        let found = ActionSpec::of_metadata(&listed);
        let declared = found.declaration();
        assert_eq!(declared.bounds, config.machine.action_spec.declaration().bounds);
        assert_eq!(declared.watchdog, Some(chiral_driver::Watchdog::PULL_WATCHDOG));
    };

    let server = chiral_blocking::PolicyServer::bind_with(address, config.clone()).expect("free");
    let uri = server.uri().expect("it is bound");
    let commands = server.pull(robot.sensors(), metadata()).expect("it listens");
    check(&uri, false);
    commands.set_metadata(metadata().with("calibrated", true));
    check(&uri, true);
    drop(commands);

    smol::block_on(async {
        let server = chiral_smol::PolicyServer::bind_with(address, config.clone()).await;
        let server = server.expect("free");
        let uri = server.uri().expect("it is bound");
        let commands = server.pull(robot.sensors(), metadata()).expect("it listens");
        check(&uri, false);
        commands.set_metadata(metadata().with("calibrated", true));
        check(&uri, true);
    });
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
