//! Links with faults of all kinds.

use chiral_proto::testing::{Link, Side};

use crate::world::{Script, Seen, run};

/// Seeds that are run without `CHIRAL_FAULT_SEEDS`.
const SEEDS: u64 = 300;
/// A break comes within so many bytes of the session.
const BYTES: u64 = 15_000;

/// Says how to run a seed again, when it fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay it with: CHIRAL_FAULT_SEED={} cargo test -p chiral-proto --features \
                 testing,websocket --test faults random_faults",
                self.0
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is configured so")]
fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, found {value:?}")))
}

#[test]
fn random_faults() {
    let seeds = match number("CHIRAL_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHIRAL_FAULT_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let (mut whole, mut broken, mut corrupted, mut applied) = (0, 0, 0, 0);
    let mut seen = Seen::default();
    for seed in seeds {
        let _replay = Replay(seed);
        let link = Link::random(seed, BYTES);
        let sides = [Side::Client, Side::Server];
        let corrupts = sides.iter().any(|side| link.faults(*side).corrupts());
        let outcome = run(Script::LONG.vary(seed), link);
        corrupted += u64::from(corrupts);
        if outcome.applied.len() == Script::LONG.actions as usize {
            whole += 1;
        } else {
            broken += 1;
        }
        applied += outcome.applied.len();
        seen.add(&outcome.seen);
    }
    println!(
        "{count} seeds: {whole} sessions with all actions, {broken} with others, {corrupted} begun \
         with corrupted bytes; {applied} actions applied; {seen:?}"
    );
    if count >= SEEDS {
        assert!(seen.counts().into_iter().all(|count| *count > 10), "not tried enough: {seen:?}");
    }
}
