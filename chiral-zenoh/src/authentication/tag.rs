use std::sync::Mutex;
use std::sync::PoisonError;

/// Bytes of a tag: what it covers, the message's number, and the MAC.
const TAG_LEN: usize = 1 + 8 + 32;
/// Frames up to this are covered whole, whatever is in them.
const WHOLE_UP_TO: usize = 1 << 16;
/// Bytes of a header's length, at the start of a frame.
const PREFIX_LEN: usize = 4;

/// How much of a message its tag covers, beside the message's number and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Coverage {
    /// Every byte.
    Whole = 0,
    /// The length and the header, and not the pixels.
    Head = 1,
}

/// Makes the tags of what one side sends under one key.
pub(crate) struct Signer {
    key: [u8; 32],
    next: u64,
    /// Whether long messages are covered whole, too.
    covers_pixels: bool,
}

impl Signer {
    pub(crate) fn new(key: [u8; 32], covers_pixels: bool) -> Self {
        Self { key, next: 0, covers_pixels }
    }

    /// The tag of the next message, whose bytes are in `chunks` and begin with its head.
    /// `is_shared`: some of it is in shared memory. What lies there can be changed by whoever has
    /// the memory, at any time, so it is not covered.
    pub(crate) fn sign(&mut self, chunks: &[&[u8]], is_shared: bool) -> Vec<u8> {
        let len = len_of(chunks);
        let is_whole = len <= WHOLE_UP_TO || self.covers_pixels && !is_shared;
        let coverage = if is_whole { Coverage::Whole } else { Coverage::Head };
        let number = self.next;
        self.next += 1;
        let mac = mac(&self.key, coverage, number, chunks);
        [&[coverage as u8], &number.to_le_bytes()[..], mac.as_bytes()].concat()
    }
}

/// Checks the tags of what one side receives under one key.
pub(crate) struct Verifier {
    key: [u8; 32],
    /// The number of the next message.
    next: Mutex<u64>,
}

/// Why a message does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unauthentic {
    /// It is not of the peer: it has no tag, or a wrong one.
    Foreign,
    /// The peer has sent it, and it has been received before.
    Replayed,
    /// The peer has sent it, and one before it is missing.
    Gap {
        /// Its number.
        found: u64,
        /// The number of the one that is missing.
        expected: u64,
    },
}

impl Verifier {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key, next: Mutex::new(0) }
    }

    /// Checks the tag of a message, whose bytes are in `chunks`.
    pub(crate) fn verify(&self, tag: &[u8], chunks: &[&[u8]]) -> Result<(), Unauthentic> {
        let tag: &[u8; TAG_LEN] = tag.try_into().map_err(|_| Unauthentic::Foreign)?;
        let (coverage, rest) = tag.split_first().expect("it has a length");
        let coverage = match coverage {
            0 => Coverage::Whole,
            1 => Coverage::Head,
            _ => return Err(Unauthentic::Foreign),
        };
        let (&number, claimed) = rest.split_first_chunk().expect("it has a length");
        let number = u64::from_le_bytes(number);
        let claimed: [u8; 32] = claimed.try_into().expect("it has a length");
        // Zenoh calls from one thread after another; this is for two at once.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Before anything is hashed: what has been sent before costs its sender as much.
        if number < *next {
            return Err(Unauthentic::Replayed);
        }
        if mac(&self.key, coverage, number, chunks) != blake3::Hash::from_bytes(claimed) {
            return Err(Unauthentic::Foreign);
        }
        if number > *next {
            return Err(Unauthentic::Gap { found: number, expected: *next });
        }
        *next += 1;
        Ok(())
    }
}

/// The MAC of a message. BLAKE3 compares such hashes in constant time.
fn mac(key: &[u8; 32], coverage: Coverage, number: u64, chunks: &[&[u8]]) -> blake3::Hash {
    let len = len_of(chunks);
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&[coverage as u8]);
    hasher.update(&number.to_le_bytes());
    hasher.update(&(len as u64).to_le_bytes());
    let mut left = match coverage {
        Coverage::Whole => len,
        Coverage::Head => head_len(chunks).min(len),
    };
    for chunk in chunks {
        let covered = left.min(chunk.len());
        hasher.update(&chunk[..covered]);
        left -= covered;
        if left == 0 {
            break;
        }
    }
    hasher.finalize()
}

fn len_of(chunks: &[&[u8]]) -> usize {
    chunks.iter().map(|chunk| chunk.len()).sum()
}

/// Bytes of a frame's length and header, as the frame says.
fn head_len(chunks: &[&[u8]]) -> usize {
    let mut prefix = [0; PREFIX_LEN];
    let bytes = chunks.iter().copied().flatten();
    prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    PREFIX_LEN.saturating_add(u32::from_le_bytes(prefix) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pair(covers_pixels: bool) -> (Signer, Verifier) {
        (Signer::new(KEY, covers_pixels), Verifier::new(KEY))
    }

    /// A frame with a header of 8 bytes and many pixels.
    fn long() -> Vec<u8> {
        [&8_u32.to_le_bytes()[..], &vec![5; WHOLE_UP_TO + 100]].concat()
    }

    #[test]
    fn a_message_counts_once_and_in_order() {
        let (mut signer, verifier) = pair(true);
        let tags: Vec<_> = (0..4).map(|_| signer.sign(&[b"move"], false)).collect();
        assert_eq!(verifier.verify(&tags[0], &[b"move"]), Ok(()));
        assert_eq!(verifier.verify(&tags[0], &[b"move"]), Err(Unauthentic::Replayed));
        let gap = Unauthentic::Gap { found: 3, expected: 1 };
        assert_eq!(verifier.verify(&tags[3], &[b"move"]), Err(gap));
        assert_eq!(verifier.verify(&tags[1], &[b"move"]), Ok(()));
        assert_eq!(verifier.verify(&tags[2], &[b"move"]), Ok(()));
    }

    #[test]
    fn a_message_of_somebody_else_changes_nothing() {
        let (mut signer, verifier) = pair(true);
        let foreign = Signer::new([8; 32], true).sign(&[b"move"], false);
        assert_eq!(verifier.verify(&foreign, &[b"move"]), Err(Unauthentic::Foreign));
        let far = [&[0], &u64::MAX.to_le_bytes()[..], &[0; 32]].concat();
        assert_eq!(verifier.verify(&far, &[b"move"]), Err(Unauthentic::Foreign));
        for tag in [&b""[..], b"x", &[0; TAG_LEN], &[2; TAG_LEN], &[0; TAG_LEN + 1]] {
            assert_eq!(verifier.verify(tag, &[b"move"]), Err(Unauthentic::Foreign));
        }
        let tag = signer.sign(&[b"move"], false);
        assert_eq!(verifier.verify(&tag, &[b"stop"]), Err(Unauthentic::Foreign));
        assert_eq!(verifier.verify(&tag, &[b"move"]), Ok(()));
    }

    #[test]
    fn without_a_secret_the_head_and_the_length_of_a_long_message_are_covered() {
        let frame = long();
        for position in [0, 4, 11, 12, frame.len() - 1] {
            let (mut signer, verifier) = pair(false);
            let tag = signer.sign(&[&frame], false);
            let mut changed = frame.clone();
            changed[position] ^= 1;
            let is_covered = position < 12;
            let found = verifier.verify(&tag, &[&changed]).is_err();
            assert_eq!(found, is_covered, "{position}");
        }
        let (mut signer, verifier) = pair(false);
        let tag = signer.sign(&[&frame], false);
        let cut = &frame[..frame.len() - 1];
        assert_eq!(verifier.verify(&tag, &[cut]), Err(Unauthentic::Foreign));
    }

    #[test]
    fn with_a_secret_every_byte_is_covered_except_of_what_is_shared() {
        let (frame, mut changed) = (long(), long());
        *changed.last_mut().expect("it is long") ^= 1;
        for (is_shared, is_found) in [(false, true), (true, false)] {
            let (mut signer, verifier) = pair(true);
            let tag = signer.sign(&[&frame], is_shared);
            assert_eq!(verifier.verify(&tag, &[&changed]).is_err(), is_found);
        }
    }

    #[test]
    fn a_tag_does_not_claim_to_cover_less_than_it_does() {
        let (mut signer, verifier) = pair(true);
        let frame = long();
        let mut tag = signer.sign(&[&frame], false);
        tag[0] = Coverage::Head as u8;
        assert_eq!(verifier.verify(&tag, &[&frame]), Err(Unauthentic::Foreign));
    }

    proptest! {
        #[test]
        fn a_tag_does_not_depend_on_how_a_message_is_cut(
            message in prop::collection::vec(any::<u8>(), 0..200),
            cut in 1_usize..50,
            covers_pixels: bool,
        ) {
            let (mut signer, verifier) = pair(covers_pixels);
            let tag = signer.sign(&message.chunks(cut).collect::<Vec<_>>(), false);
            prop_assert_eq!(verifier.verify(&tag, &[&message]), Ok(()));
        }

        #[test]
        fn any_change_of_message_or_tag_is_found(
            message in prop::collection::vec(any::<u8>(), 1..200),
            position: prop::sample::Index,
            bit in 0_u8..8,
        ) {
            let (mut signer, verifier) = pair(true);
            let tag = signer.sign(&[&message], false);
            let mut both = [&tag[..], &message].concat();
            let position = position.index(both.len());
            both[position] ^= 1 << bit;
            let (tag, message) = both.split_at(TAG_LEN);
            prop_assert!(verifier.verify(tag, &[message]).is_err());
        }
    }
}
