//! A robot that the tests write by hand, so that they know what it has done.

use chiral_proto::{Map, Observation, Value};

/// Pseudo-random numbers that are the same each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    // SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// From -1 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 19) - 1.0
    }
}

/// An observation that is known by its number; of a robot that tells which action it applied last,
/// if it is said.
pub(crate) fn observation(number: u64, applied: Option<u64>) -> Observation {
    let told = |applied: u64| {
        let entries = [("v", 1.into()), ("applied", applied.into()), ("snap", Value::F64(0.5))];
        let entries = entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect();
        Map::new().with("chiral", Value::Map(entries))
    };
    Observation {
        timestamp: number as f64,
        extra: applied.map(told).unwrap_or_default(),
        ..Observation::default()
    }
}
