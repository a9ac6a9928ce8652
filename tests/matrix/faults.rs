//! Bad networks: slow ones, with short reads and stalls, such as corrupt what they carry, and such as
//! break, at any byte. The robot has a contract, which every other policy breaks.

use chiral_proto::testing::{Break, Faults, Link};
use chiral_tests::faulty_session::{self, FaultySession, Replay, Terms, seeds};

use crate::pair::Pair;
use crate::supervise::soon;

/// Seeds for each pair of adapters, unless `CHIRAL_FAULT_SEEDS` says otherwise.
const SEEDS: u64 = 3;
/// A random break comes within so many bytes of a session.
const BYTES: u64 = 8_000;

fn run(pair: Pair, link: Link, terms: Terms) -> FaultySession {
    let server = pair.server;
    let address = server.network.any_address();
    soon(|| faulty_session::run(pair.client.0, server.adapter, &address, link, terms))
}

pub(crate) fn random_faults(pair: Pair) {
    for seed in seeds(SEEDS) {
        let _replay = Replay::new(seed, "matrix");
        let session = run(pair, Link::random(seed, BYTES), Terms::random(seed));
        println!("seed {seed}: {session:?}");
    }
}

pub(crate) fn breaks_at_sampled_bytes(pair: Pair) {
    // The seed chooses the bytes; more seeds reach more of the session.
    for seed in seeds(1) {
        let _replay = Replay::new(seed, "matrix");
        for (number, how) in Break::ALL.into_iter().enumerate() {
            let byte = (seed * 4 + number as u64) * 617 % BYTES;
            let broken = || Faults::default().breaks_at(byte, how);
            let intact = Faults::default;
            for link in [Link::new(broken(), intact()), Link::new(intact(), broken())] {
                let session = run(pair, link, Terms::NONE);
                println!("{how:?} at byte {byte}: {session:?}");
            }
        }
    }
}

pub(crate) fn single_bytes_carry_a_session(pair: Pair) {
    let single = || Faults::default().pieces(1, 1);
    let session = run(pair, Link::new(single(), single()), Terms::NONE);
    assert_eq!((session.error, session.applied), (None, 40));
}
