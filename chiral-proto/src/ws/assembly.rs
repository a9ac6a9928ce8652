//! A large or fragmented message while it arrives, in a recycled buffer.

use bytes::Bytes;

use crate::pool::{ALIGNMENT, Buffer, BufferPool};

/// What an announced length costs at most before its bytes arrive, without a recycled buffer.
const MODEST: usize = 1 << 20;
/// Bytes of the chiral header's length, at the start of the message.
const PREFIX: usize = size_of::<u32>();

/// The message's bytes lie at `start..start + len` of the buffer, `start` being chosen so that the
/// chiral payload, which begins at `PREFIX + H` of the message, begins at an aligned address.
#[derive(Debug)]
pub(super) struct Assembly {
    buffer: Buffer,
    /// 0 until the first `PREFIX` bytes are there.
    start: usize,
    len: usize,
    /// Bytes of the whole message, as far as they are known or likely.
    expected: Option<usize>,
}

impl Assembly {
    /// A buffer for a message of `announced` bytes, of which a peer may have sent none yet.
    pub(super) fn new(pool: &BufferPool, announced: usize) -> Self {
        let wanted = announced.max(PREFIX) + ALIGNMENT;
        let buffer = pool.take_recycled(wanted).unwrap_or_else(|| pool.take(wanted.min(MODEST)));
        Self { buffer, start: 0, len: 0, expected: Some(announced) }
    }

    /// Notes how long the message will be; `None` when nobody can tell.
    pub(super) fn expect(&mut self, len: Option<usize>) {
        self.expected = len;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether the message's place in the buffer is settled, so that bytes can be read into it.
    pub(super) fn is_placed(&self) -> bool {
        self.len >= PREFIX
    }

    /// Copies bytes behind those that are there.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let rest = if self.is_placed() { bytes } else { self.place(bytes) };
        let end = self.start + self.len;
        self.reserve(rest.len());
        self.buffer[end..end + rest.len()].copy_from_slice(rest);
        self.len += rest.len();
    }

    /// Takes bytes until the chiral header's length is known, and returns the others.
    fn place<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (prefix, rest) = bytes.split_at(bytes.len().min(PREFIX - self.len));
        self.reserve(prefix.len());
        self.buffer[self.len..self.len + prefix.len()].copy_from_slice(prefix);
        self.len += prefix.len();
        if let Some(prefix) = self.buffer[..self.len].first_chunk::<PREFIX>() {
            let header = u32::from_le_bytes(*prefix) as usize;
            let payload = (header % ALIGNMENT + PREFIX) % ALIGNMENT;
            self.start = (ALIGNMENT - payload) % ALIGNMENT;
            self.buffer.copy_within(..PREFIX, self.start);
        }
        rest
    }

    /// Room for up to `remaining` bytes, to be read into and then counted by
    /// [`fill`](Self::fill). Never empty unless `remaining` is 0.
    pub(super) fn room(&mut self, remaining: usize) -> &mut [u8] {
        self.reserve(remaining.min(1));
        let from = self.start + self.len;
        let to = self.buffer.len().min(from + remaining);
        &mut self.buffer[from..to]
    }

    /// Counts `count` bytes of the room as arrived, and returns them.
    pub(super) fn fill(&mut self, count: usize) -> &mut [u8] {
        let from = self.start + self.len;
        self.len += count;
        &mut self.buffer[from..from + count]
    }

    /// Makes room for `count` bytes: at most twice the room that is used up, and no more than the
    /// message needs.
    fn reserve(&mut self, count: usize) {
        let needed = self.len + ALIGNMENT + count;
        if needed > self.buffer.len() {
            let doubled = 2 * self.buffer.len();
            let whole = self.expected.map_or(doubled, |expected| expected + ALIGNMENT);
            self.buffer.grow(doubled.min(whole).max(needed));
        }
    }

    /// The message. One of up to `small` bytes gets memory of its own size instead of a part of a
    /// buffer that may be far larger.
    pub(super) fn finish(self, small: usize) -> Bytes {
        let range = self.start..self.start + self.len;
        if self.len <= small {
            Bytes::copy_from_slice(&self.buffer[range])
        } else {
            self.buffer.freeze(range)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(header: u32, len: usize) -> Vec<u8> {
        let body = (0..len - PREFIX).map(|index| index as u8);
        header.to_le_bytes().into_iter().chain(body).collect()
    }

    #[test]
    fn payloads_are_aligned_for_any_header_length_and_fragmentation() {
        let pool = BufferPool::new(2);
        for header in (0..130).chain([u32::MAX - 3, u32::MAX]) {
            for piece in [1, 2, 3, 4, 5, 100] {
                let message = message(header, 150);
                let mut assembly = Assembly::new(&pool, 0);
                assembly.expect(Some(message.len()));
                for bytes in message.chunks(piece) {
                    assembly.append(bytes);
                }
                let start = assembly.buffer.as_ptr().addr() + assembly.start;
                assert_eq!((start as u64 + 4 + u64::from(header)) % 64, 0, "header {header}");
                assert_eq!(assembly.finish(0), message);
            }
        }
    }

    #[test]
    fn the_buffer_grows_with_received_not_announced_bytes() {
        let pool = BufferPool::new(2);
        let mut assembly = Assembly::new(&pool, 200 << 20);
        assert_eq!(assembly.buffer.len(), MODEST);
        assembly.append(&[0; PREFIX]);
        let mut arrived = PREFIX;
        while arrived < 5 << 20 {
            let room = assembly.room((200 << 20) - arrived).len();
            assert!(room > 0);
            arrived += room.min(65536);
            assembly.fill(room.min(65536));
            assert!(assembly.buffer.len() <= MODEST.max(2 * arrived + 2 * ALIGNMENT));
        }
    }

    #[test]
    fn a_message_of_unknown_length_doubles_its_buffer() {
        let pool = BufferPool::new(2);
        let mut assembly = Assembly::new(&pool, 256 << 10);
        assembly.expect(None);
        let mut lens = vec![assembly.buffer.len()];
        for _ in 0..68 {
            assembly.append(&vec![0; 256 << 10]);
            lens.push(assembly.buffer.len());
        }
        lens.dedup();
        assert!(lens.len() < 9, "{lens:?}");
        assert!(assembly.buffer.len() <= 2 * assembly.len() + 2 * ALIGNMENT);
    }

    #[test]
    fn a_fitting_recycled_buffer_is_used_without_growing() {
        let pool = BufferPool::new(2);
        drop(pool.take(30 << 20));
        assert_eq!(Assembly::new(&pool, 20 << 20).buffer.len(), 30 << 20);
        assert_eq!(Assembly::new(&pool, 40 << 20).buffer.len(), 30 << 20);
    }
}
