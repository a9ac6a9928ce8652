use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::faults::{Break, Faults};
use crate::random::SplitMix;

/// An ordered byte stream between two sides, with [`Faults`] in each direction.
///
/// It takes the time as a parameter, and its calls are those of a socket that never blocks: on a
/// virtual clock it stands for a network ([`SessionPair`](super::SessionPair)), and between two real
/// sockets, on real time, for a bad one.
///
/// ```
/// use std::io::ErrorKind;
/// use std::time::{Duration, Instant};
/// use chiral_proto::testing::{Break, Faults, Link, Side};
///
/// # #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
/// let now = Instant::now();
/// let delay = Duration::from_millis(5);
/// let to_server = Faults::default().delay(delay, Duration::ZERO).breaks_at(3, Break::Reset);
/// let mut link = Link::new(to_server, Faults::default());
///
/// // Three bytes pass, 5 ms later.
/// assert_eq!(link.write(now, Side::Client, b"hello").unwrap(), 3);
/// let mut bytes = [0; 16];
/// let early = link.read(now, Side::Server, &mut bytes).unwrap_err();
/// assert_eq!(early.kind(), ErrorKind::WouldBlock);
/// assert_eq!(link.poll_timeout(now), Some(now + delay));
/// assert_eq!(link.read(now + delay, Side::Server, &mut bytes).unwrap(), 3);
///
/// // Both sides find the reset.
/// let end = link.read(now + delay, Side::Server, &mut bytes).unwrap_err();
/// assert_eq!(end.kind(), ErrorKind::ConnectionReset);
/// let end = link.write(now + delay, Side::Server, b"bye").unwrap_err();
/// assert_eq!(end.kind(), ErrorKind::ConnectionReset);
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    to_server: Direction,
    to_client: Direction,
    is_closed: [bool; 2],
}

/// A side of a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The policy's.
    Client,
    /// The robot's.
    Server,
}

impl Side {
    /// The side at the other end.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One direction: what is under way.
#[derive(Debug, Clone)]
struct Direction {
    faults: Faults,
    random: SplitMix,
    /// What was written at once, and when it arrives.
    under_way: VecDeque<(Instant, VecDeque<u8>)>,
    /// Bytes of these, and of those that a silent direction has swallowed.
    held: usize,
    /// Bytes taken so far.
    sent: u64,
    /// Until when the sender is held up by the bandwidth.
    busy_until: Option<Instant>,
    /// The sender has ended the stream.
    is_finished: bool,
}

impl Link {
    /// A link with these faults.
    pub fn new(to_server: Faults, to_client: Faults) -> Self {
        let [to_server, to_client] = [to_server, to_client].map(Direction::new);
        Self { to_server, to_client, is_closed: [false; 2] }
    }

    /// A link with [random faults](Faults::random) in both directions, other ones for each seed.
    pub fn random(seed: u64, bytes: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let [to_server, to_client] = [(); 2].map(|()| Faults::random(random.next(), bytes));
        Self::new(to_server, to_client)
    }

    /// The faults of what this side sends.
    pub fn faults(&self, from: Side) -> &Faults {
        &self.outgoing(from).faults
    }

    /// How many bytes this side has sent.
    pub fn bytes_sent(&self, from: Side) -> u64 {
        self.outgoing(from).sent
    }

    /// How the link has broken, if it has: in the direction from this side, or as a whole.
    pub fn broken(&self, from: Side) -> Option<Break> {
        let of_all = |end| matches!(end, Break::Reset | Break::Unplugged);
        let other = self.outgoing(from.peer()).broken().filter(|end| of_all(*end));
        other.or(self.outgoing(from).broken())
    }

    /// Takes bytes that a side sends, and returns how many it took; at least one, unless there are
    /// none.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when it takes none now;
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset) when the link [is reset](Break::Reset), or the
    /// other side has [closed](Self::close) it; [`BrokenPipe`](io::ErrorKind::BrokenPipe) when this side
    /// has. A link that is broken in another way takes bytes that never arrive.
    pub fn write(&mut self, now: Instant, from: Side, bytes: &[u8]) -> io::Result<usize> {
        let direction = self.outgoing(from);
        if direction.is_finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let broken = self.broken(from);
        if broken == Some(Break::Reset) || self.is_closed[from.peer() as usize] {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.outgoing_mut(from).write(now, bytes, broken)
    }

    /// Hands over bytes that have arrived at a side, and returns how many; 0 says that the stream
    /// has ended, if `buf` has room for any.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when none have arrived;
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset) when the link is reset and nothing more
    /// arrives.
    pub fn read(&mut self, now: Instant, to: Side, buf: &mut [u8]) -> io::Result<usize> {
        let from = to.peer();
        let broken = self.broken(from);
        let is_ours = broken.is_some() && self.outgoing(from).broken() == broken;
        let direction = self.outgoing_mut(from);
        if broken.is_none() || is_ours {
            let count = direction.read(now, buf);
            if count > 0 || buf.is_empty() {
                return Ok(count);
            }
            if !direction.under_way.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        match broken {
            Some(Break::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(Break::EndOfStream) => Ok(0),
            None if direction.is_finished => Ok(0),
            Some(Break::Silence | Break::Unplugged) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends what a side sends: the other one finds the end of the stream behind what is under way.
    pub fn shut_down_write(&mut self, from: Side) {
        self.outgoing_mut(from).is_finished = true;
    }

    /// Closes a side's end: it sends nothing more, and the other one cannot send to it any more.
    pub fn close(&mut self, side: Side) {
        self.shut_down_write(side);
        self.is_closed[side as usize] = true;
    }

    /// Whether a side has [closed](Self::close) its end.
    pub fn is_closed(&self, side: Side) -> bool {
        self.is_closed[side as usize]
    }

    /// When something next arrives, or can be written again, after `now`.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let of = |direction: &Direction| {
            let arrival = direction.under_way.front().map(|(arrives, _)| *arrives);
            arrival.into_iter().chain(direction.busy_until).filter(|at| *at > now).min()
        };
        of(&self.to_server).into_iter().chain(of(&self.to_client)).min()
    }

    fn outgoing(&self, side: Side) -> &Direction {
        match side {
            Side::Client => &self.to_server,
            Side::Server => &self.to_client,
        }
    }

    fn outgoing_mut(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        }
    }
}

impl Direction {
    fn new(faults: Faults) -> Self {
        Self {
            random: SplitMix::new(faults.seed),
            faults,
            under_way: VecDeque::new(),
            held: 0,
            sent: 0,
            busy_until: None,
            is_finished: false,
        }
    }

    fn broken(&self) -> Option<Break> {
        let (bytes, how) = self.faults.break_at?;
        (self.sent >= bytes).then_some(how)
    }

    fn write(&mut self, now: Instant, bytes: &[u8], broken: Option<Break>) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if broken == Some(Break::EndOfStream) {
            // Nobody reads it, and nobody says so.
            return Ok(bytes.len());
        }
        let room = self.faults.capacity.saturating_sub(self.held);
        if room == 0 || self.busy_until.is_some_and(|until| until > now) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = bytes.len().min(room);
        if self.faults.longest_write < usize::MAX {
            count = count.min(1 + self.random.below(self.faults.longest_write as u64) as usize);
        }
        if broken.is_some() {
            // It fills up what a system buffers for a peer that acknowledges nothing.
            self.held += count;
            return Ok(count);
        }
        if let Some((bytes, _)) = self.faults.break_at {
            count = count.min(usize::try_from(bytes - self.sent).unwrap_or(usize::MAX));
        }
        let mut piece: VecDeque<u8> = bytes[..count].iter().copied().collect();
        self.corrupt(&mut piece);
        let arrives = self.arrival(now, count);
        self.under_way.push_back((arrives, piece));
        self.held += count;
        self.sent += count as u64;
        Ok(count)
    }

    /// When so many bytes arrive that are written now: never before those that were written earlier.
    fn arrival(&mut self, now: Instant, count: usize) -> Instant {
        let bandwidth = self.faults.bytes_per_second;
        let written = match bandwidth.map(|bandwidth| count as f64 / bandwidth) {
            Some(writing) => {
                let written = now + Duration::from_secs_f64(writing);
                self.busy_until = Some(written);
                written
            }
            None => now,
        };
        let mut arrives = written + self.faults.delay;
        if !self.faults.jitter.is_zero() {
            arrives += self.faults.jitter.mul_f64(self.random.share());
        }
        if let Some((share, stall)) = self.faults.stalls
            && self.random.happens(share)
        {
            arrives += stall;
        }
        self.under_way.back().map_or(arrives, |(before, _)| arrives.max(*before))
    }

    fn corrupt(&mut self, piece: &mut VecDeque<u8>) {
        if self.faults.corruption > 0.0 {
            for byte in &mut *piece {
                if self.random.happens(self.faults.corruption) {
                    *byte ^= 1 + self.random.below(255) as u8;
                }
            }
        }
        if let Some((number, mask)) = self.faults.corrupted_byte
            && let Some(index) = number.checked_sub(self.sent)
            && let Some(byte) = usize::try_from(index).ok().and_then(|index| piece.get_mut(index))
        {
            *byte ^= mask;
        }
    }

    fn read(&mut self, now: Instant, buf: &mut [u8]) -> usize {
        let mut room = buf.len();
        if self.faults.longest_read < usize::MAX {
            room = room.min(1 + self.random.below(self.faults.longest_read as u64) as usize);
        }
        let mut count = 0;
        while count < room
            && let Some((arrives, piece)) = self.under_way.front_mut()
            && *arrives <= now
        {
            let chunk = piece.as_slices().0;
            let len = chunk.len().min(room - count);
            buf[count..count + len].copy_from_slice(&chunk[..len]);
            piece.drain(..len);
            count += len;
            if piece.is_empty() {
                self.under_way.pop_front();
            }
        }
        self.held -= count;
        count
    }
}
