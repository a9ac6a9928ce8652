use std::time::Duration;

use crate::random::SplitMix;

/// What one direction of a [`Link`](super::Link) does to the bytes that it carries. The default
/// carries them at once and unchanged.
///
/// ```
/// use std::time::Duration;
/// use chiral_proto::testing::{Break, Faults};
///
/// let faults = Faults::default()
///     .seed(7)
///     .delay(Duration::from_millis(20), Duration::from_millis(5))
///     .bytes_per_second(1e6)
///     .pieces(3, 1)
///     .breaks_at(500, Break::Reset);
/// println!("{faults:?}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    pub(super) seed: u64,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) bytes_per_second: Option<f64>,
    pub(super) capacity: usize,
    pub(super) longest_write: usize,
    pub(super) longest_read: usize,
    pub(super) stalls: Option<(f64, Duration)>,
    pub(super) corruption: f64,
    pub(super) corrupted_byte: Option<(u64, u8)>,
    pub(super) break_at: Option<(u64, Break)>,
}

/// How a [`Link`](super::Link) breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Break {
    /// The connection is reset: both sides get an error, and what is under way is lost. What went
    /// before in the broken direction still arrives.
    Reset,
    /// The stream ends in this direction; the other one goes on.
    EndOfStream,
    /// This direction carries nothing any more, and nobody is told: one way of a half-open
    /// connection.
    Silence,
    /// Neither direction carries anything any more, and nobody is told: a cable that was pulled, a
    /// host without power.
    Unplugged,
}

impl Break {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reset, Self::EndOfStream, Self::Silence, Self::Unplugged];
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            bytes_per_second: None,
            capacity: 256 << 10,
            longest_write: usize::MAX,
            longest_read: usize::MAX,
            stalls: None,
            corruption: 0.0,
            corrupted_byte: None,
            break_at: None,
        }
    }
}

impl Faults {
    /// The faults with another seed for what is left to chance: the jitter, the lengths of pieces,
    /// which pieces are stalled and which bytes are corrupted.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The faults with a delay of every byte, and up to `jitter` more. Bytes keep their order.
    #[must_use]
    pub fn delay(mut self, delay: Duration, jitter: Duration) -> Self {
        (self.delay, self.jitter) = (delay, jitter);
        self
    }

    /// The faults with a bandwidth, above zero.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes_per_second: f64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// The faults with another number of bytes that may be under way, at least one; a write beyond
    /// that is short, or has to wait. Default: 256 KiB.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes.max(1);
        self
    }

    /// The faults with short writes and reads: each takes from one byte to so many.
    #[must_use]
    pub fn pieces(mut self, longest_write: usize, longest_read: usize) -> Self {
        (self.longest_write, self.longest_read) = (longest_write.max(1), longest_read.max(1));
        self
    }

    /// The faults with a share of the writes, 0 to 1, that arrive so much later, and all behind them.
    #[must_use]
    pub fn stalls(mut self, share: f64, stall: Duration) -> Self {
        self.stalls = Some((share, stall));
        self
    }

    /// The faults with a share of bytes, 0 to 1, that arrive as others.
    #[must_use]
    pub fn corruption(mut self, share: f64) -> Self {
        self.corruption = share;
        self
    }

    /// The faults with one more byte that arrives as another: that of this number, counted from 0,
    /// with the bits of `mask` flipped.
    #[must_use]
    pub fn corrupts_byte(mut self, number: u64, mask: u8) -> Self {
        self.corrupted_byte = Some((number, mask));
        self
    }

    /// The faults with an end: so many bytes still arrive, and then the link breaks.
    #[must_use]
    pub fn breaks_at(mut self, bytes: u64, how: Break) -> Self {
        self.break_at = Some((bytes, how));
        self
    }

    /// Whether what arrives may be other than what was sent.
    pub fn corrupts(&self) -> bool {
        self.corruption > 0.0 || self.corrupted_byte.is_some()
    }

    /// When and how the link breaks, if it does.
    pub fn break_at(&self) -> Option<(u64, Break)> {
        self.break_at
    }

    /// Faults of all kinds, other ones for each seed: some links are merely slow, some break within
    /// the first `bytes` bytes, some corrupt what they carry.
    pub fn random(seed: u64, bytes: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let mut faults = Self::default().seed(random.next());
        let up_to =
            |random: &mut SplitMix, micros: u64| Duration::from_micros(random.below(micros));
        if random.happens(0.5) {
            let (delay, jitter) = (up_to(&mut random, 50_000), up_to(&mut random, 20_000));
            faults = faults.delay(delay, jitter);
        }
        if random.happens(0.3) {
            // From 10 kB/s to 10 MB/s.
            faults = faults.bytes_per_second(1e4 * 1000_f64.powf(random.share()));
        }
        if random.happens(0.3) {
            faults = faults.capacity(1 << random.below(16));
        }
        if random.happens(0.5) {
            let [write, read] = [(); 2].map(|()| 1 << random.below(14));
            faults = faults.pieces(write, read);
        }
        if random.happens(0.3) {
            let share = 0.1 * random.share();
            faults = faults.stalls(share, up_to(&mut random, 300_000));
        }
        if random.happens(0.15) {
            faults = faults.corruption(10_f64.powf(-2.0 - 3.0 * random.share()));
        }
        if random.happens(0.4) {
            let how = Break::ALL[random.below(Break::ALL.len() as u64) as usize];
            faults = faults.breaks_at(random.below(bytes.max(1)), how);
        }
        faults
    }
}
