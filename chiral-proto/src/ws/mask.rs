//! Masks: what a client must lay over everything that it sends (RFC 6455, section 5.3).

use std::fmt;

use rand::rngs::ChaCha8Rng;
use rand::{Rng as _, SeedableRng as _};

pub(super) type Key = [u8; 4];

/// The mask keys of one client session, drawn from the seed that the caller brought.
pub(super) struct Keys(ChaCha8Rng);

impl Keys {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    pub(super) fn draw(&mut self) -> Key {
        self.0.next_u32().to_ne_bytes()
    }
}

impl fmt::Debug for Keys {
    /// Keys that can be foretold protect nothing, so the state is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Masks or unmasks `bytes`, the first of which stands at `position` of the frame's payload.
pub(super) fn apply(bytes: &mut [u8], key: Key, position: usize) {
    const BLOCK: usize = size_of::<u128>();
    let pattern: [u8; BLOCK] = std::array::from_fn(|index| key[(position + index) % key.len()]);
    let mask = u128::from_ne_bytes(pattern);
    // No alignment is needed: the compiler turns this into unaligned vector instructions.
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        *block = (u128::from_ne_bytes(*block) ^ mask).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_matches_the_rfc_at_every_offset_length_and_alignment() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let data: Vec<u8> = (0..100).collect();
        for offset in 0..20 {
            for len in 0..80 {
                for position in [0, 1, 2, 3, 4, 5, 1_000_003] {
                    let mut masked = data.clone();
                    apply(&mut masked[offset..offset + len], key, position);
                    for (index, (now, before)) in masked.iter().zip(&data).enumerate() {
                        let inside = (offset..offset + len).contains(&index);
                        let mask = if inside { key[(index - offset + position) % 4] } else { 0 };
                        assert_eq!(*now, before ^ mask, "byte {index}, position {position}");
                    }
                }
            }
        }
    }

    #[test]
    fn mask_keys_differ_and_are_determined_by_the_seed() {
        let draw = |seed| {
            let mut keys = Keys::new([seed; 32]);
            [keys.draw(), keys.draw(), keys.draw()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).windows(2).all(|pair| pair[0] != pair[1]));
    }
}
