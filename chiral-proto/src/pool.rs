//! Buffers that are used again: a camera's next image and a socket's next frame go where an
//! earlier one lay, so that steady streaming allocates and zeroes no pixel memory.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use bytes::Bytes;

use crate::sync::{Arc, Mutex, lock};

/// A pool of byte buffers. Cloning it gives another handle to the same pool.
///
/// Buffers start at a 16-byte boundary, so that every dtype can be viewed in place.
///
/// ```
/// use chiral_proto::pool::BufferPool;
///
/// let pool = BufferPool::new(2);
/// let mut buffer = pool.take(640 * 480 * 3);
/// buffer[0] = 255;
/// let image = buffer.freeze(0..640 * 480 * 3);
/// let first = image.as_ptr();
/// drop(image); // the last handle goes: the memory returns to the pool
/// assert_eq!(pool.take(640 * 480 * 3).as_ptr(), first);
/// ```
#[derive(Clone)]
pub struct BufferPool(Arc<Shared>);

struct Shared {
    free: Mutex<Vec<Words>>,
    keep: usize,
}

/// 16-byte words: the alignment of the largest element and more.
type Words = Vec<u128>;
const WORD: usize = size_of::<u128>();

impl BufferPool {
    /// A pool that keeps at most `keep` unused buffers.
    pub fn new(keep: usize) -> Self {
        Self(Arc::new(Shared { free: Mutex::new(Vec::with_capacity(keep)), keep }))
    }

    /// A buffer of at least `len` bytes: the smallest unused one that is large enough, or a new
    /// one. What stands in it is arbitrary.
    pub fn take(&self, len: usize) -> Buffer {
        let words = self.take_free(len).unwrap_or_else(|| vec![0; len.div_ceil(WORD)]);
        Buffer { words, pool: Some(self.clone()) }
    }

    /// An unused buffer of at least `len` bytes, if there is one.
    pub fn take_recycled(&self, len: usize) -> Option<Buffer> {
        Some(Buffer { words: self.take_free(len)?, pool: Some(self.clone()) })
    }

    fn take_free(&self, len: usize) -> Option<Words> {
        let mut free = lock(&self.0.free);
        let fitting = free.iter().enumerate().filter(|(_, words)| words.len() * WORD >= len);
        let (smallest, _) = fitting.min_by_key(|(_, words)| words.len())?;
        Some(free.swap_remove(smallest))
    }

    fn put_back(&self, words: Words) {
        let mut free = lock(&self.0.free);
        free.push(words);
        if free.len() > self.0.keep {
            // The smallest is the one least likely to fit the next frame.
            let smallest = (0..free.len()).min_by_key(|&index| free[index].len());
            let surplus = smallest.map(|index| free.swap_remove(index));
            drop(free);
            drop(surplus); // a large deallocation is no work to do under a lock
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("keep", &self.0.keep).finish_non_exhaustive()
    }
}

/// A buffer of a [`BufferPool`], writable until it is frozen. Dropped, it returns to its pool.
pub struct Buffer {
    words: Words,
    /// Taken only on drop.
    pool: Option<BufferPool>,
}

impl Buffer {
    /// Shares the bytes of `range`. When the last handle to them goes, the memory returns to the
    /// pool.
    ///
    /// # Panics
    /// When the range lies outside the buffer.
    pub fn freeze(self, range: Range<usize>) -> Bytes {
        Bytes::from_owner(self).slice(range)
    }

    /// Lengthens the buffer to at least `len` bytes, keeping what stands in it.
    pub fn grow(&mut self, len: usize) {
        let words = len.div_ceil(WORD);
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put_back(std::mem::take(&mut self.words));
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_fitting_buffer_is_taken_and_the_surplus_is_let_go() {
        let pool = BufferPool::new(2);
        let buffers = [16, 64, 32].map(|len| pool.take(len));
        let [small, large, middle] = buffers.each_ref().map(|buffer| buffer.as_ptr());
        drop(buffers);
        assert!(pool.take_recycled(65).is_none());
        let taken = pool.take_recycled(10).expect("two buffers are unused");
        assert_eq!(taken.as_ptr(), middle, "not {small:?}: it was the surplus; nor {large:?}");
    }

    #[test]
    fn frozen_bytes_return_with_their_last_handle() {
        let pool = BufferPool::new(1);
        let frozen = pool.take(100).freeze(10..20);
        let other = frozen.slice(2..4);
        drop(frozen);
        assert!(pool.take_recycled(1).is_none());
        drop(other);
        assert!(pool.take_recycled(100).is_some());
    }

    #[test]
    fn growing_keeps_the_contents() {
        let mut buffer = BufferPool::new(1).take(16);
        buffer[3] = 7;
        buffer.grow(1000);
        assert!(buffer.len() >= 1000 && buffer[3] == 7);
    }
}
