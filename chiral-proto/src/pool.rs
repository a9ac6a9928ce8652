//! Buffers that are used again: a camera's next image and a socket's next frame go where an
//! earlier one lay, so that steady streaming allocates and zeroes no pixel memory.
//!
//! # Alignment
//! Every buffer begins at a 64-byte boundary ([`ALIGNMENT`]): that of a cache line, of the widest
//! vector registers, and of what Arrow, array libraries and inference runtimes ask for before
//! they use memory in place. It is reached without unsafe code: a buffer is allocated up to 63
//! bytes longer than asked for, and its first bytes are left out.
//!
//! # Memory of your own
//! A pool takes its memory from the heap, or from a [`BufferSource`]: page-locked memory from which
//! a GPU copies, huge pages, memory shared with another process.
//!
//! ```
//! use chiral_proto::pool::{ALIGNMENT, BufferMemory, BufferPool, BufferSource};
//!
//! /// Stands for an allocator of page-locked memory.
//! struct PageLocked;
//!
//! impl BufferSource for PageLocked {
//!     fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
//!         Some(Box::new(vec![0_u8; len]))
//!     }
//! }
//!
//! let pool = BufferPool::with_source(2, PageLocked);
//! let buffer = pool.try_take(640 * 480 * 3).expect("the source has memory");
//! assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
//! ```

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
// Not loom's: it knows no unsized contents.
use std::sync::Arc as SharedArc;

use bytes::Bytes;

use crate::sync::{Arc, Mutex, lock};

/// Every buffer of a pool begins at a multiple of so many bytes.
pub const ALIGNMENT: usize = 64;

/// Where a [`BufferPool`] gets its memory from.
pub trait BufferSource: Send + Sync + 'static {
    /// A block of at least `len` bytes with any contents, or `None` when there is none left.
    ///
    /// A block that begins at a multiple of [`ALIGNMENT`] is used from its first byte. One that
    /// does not, and is then too short, is given back, and asked for once more, longer.
    ///
    /// The pool calls this without holding a lock, from the thread that wants the buffer.
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>>;
}

pub(crate) type SharedSource = SharedArc<dyn BufferSource>;

/// A source that several pools share.
impl<S: BufferSource + ?Sized> BufferSource for SharedArc<S> {
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
        (**self).allocate(len)
    }
}

/// Where the buffers of a pool lie, as a setting: on the heap, or in the memory of a
/// [`BufferSource`]. Two settings are equal when they are of the same source.
#[derive(Clone, Default)]
pub struct PoolMemory(Option<SharedSource>);

impl PoolMemory {
    /// The memory of a source.
    pub fn of(source: impl BufferSource) -> Self {
        Self(Some(SharedArc::new(source)))
    }

    /// A pool of this memory, which keeps at most `keep` unused buffers.
    pub fn pool(&self, keep: usize) -> BufferPool {
        match &self.0 {
            Some(source) => BufferPool::with_source(keep, SharedArc::clone(source)),
            None => BufferPool::new(keep),
        }
    }
}

impl PartialEq for PoolMemory {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(source), Some(other)) => SharedArc::ptr_eq(source, other),
            (source, other) => source.is_none() && other.is_none(),
        }
    }
}

impl Eq for PoolMemory {}

impl fmt::Debug for PoolMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PoolMemory(a source)" } else { "PoolMemory(the heap)" })
    }
}

/// A block of memory of a [`BufferSource`]: any type that gives its bytes as a slice. Dropping it
/// gives the memory back to its source.
///
/// Both views must be of the same bytes, and stay where and as long as they are.
pub trait BufferMemory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static> BufferMemory for T {}

/// A pool of byte buffers. Cloning it gives another handle to the same pool.
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
    free: Mutex<Vec<Block>>,
    keep: usize,
    source: Option<Box<dyn BufferSource>>,
}

impl BufferPool {
    /// A pool on the heap that keeps at most `keep` unused buffers.
    pub fn new(keep: usize) -> Self {
        Self::build(keep, None)
    }

    /// A pool of memory from a source, which keeps at most `keep` unused buffers.
    pub fn with_source(keep: usize, source: impl BufferSource) -> Self {
        Self::build(keep, Some(Box::new(source)))
    }

    fn build(keep: usize, source: Option<Box<dyn BufferSource>>) -> Self {
        Self(Arc::new(Shared { free: Mutex::new(Vec::with_capacity(keep)), keep, source }))
    }

    /// A buffer of at least `len` bytes: the smallest unused one that is large enough, or a new
    /// one. What stands in it is arbitrary.
    ///
    /// Where the pool's source has no memory left the buffer comes from the heap;
    /// [`try_take`](Self::try_take) says so instead. As with a `Vec`, a heap without so much
    /// memory ends the process.
    pub fn take(&self, len: usize) -> Buffer {
        let recycled = || self.take_free(len);
        let block = recycled().or_else(|| Block::of(self.0.source.as_deref()?, len));
        self.buffer(block.unwrap_or_else(|| Block::on_heap(len)))
    }

    /// As [`take`](Self::take), or `None` when the source, or the heap, has not so much memory.
    pub fn try_take(&self, len: usize) -> Option<Buffer> {
        let block = match self.take_free(len) {
            Some(block) => block,
            None => self.try_allocate(len)?,
        };
        Some(self.buffer(block))
    }

    /// An unused buffer of at least `len` bytes, if there is one.
    pub fn take_recycled(&self, len: usize) -> Option<Buffer> {
        Some(self.buffer(self.take_free(len)?))
    }

    /// A new buffer of `len` zeros, if there is memory for it. Of the heap no page is touched
    /// before it is written.
    pub(crate) fn try_take_zeros(&self, len: usize) -> Option<Buffer> {
        let mut buffer = self.buffer(self.try_allocate(len)?);
        if self.0.source.is_some() {
            buffer.fill(0);
        }
        Some(buffer)
    }

    fn try_allocate(&self, len: usize) -> Option<Block> {
        match self.0.source.as_deref() {
            Some(source) => Block::of(source, len),
            None => Block::try_on_heap(len),
        }
    }

    fn buffer(&self, block: Block) -> Buffer {
        Buffer { block, pool: Some(self.clone()) }
    }

    fn take_free(&self, len: usize) -> Option<Block> {
        let mut free = lock(&self.0.free);
        let fitting = free.iter().enumerate().filter(|(_, block)| block.len >= len);
        let (smallest, _) = fitting.min_by_key(|(_, block)| block.len)?;
        Some(free.swap_remove(smallest))
    }

    fn put_back(&self, block: Block) {
        let mut free = lock(&self.0.free);
        free.push(block);
        if free.len() > self.0.keep {
            // The smallest is the one least likely to fit the next frame.
            let smallest = (0..free.len()).min_by_key(|&index| free[index].len);
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

/// Memory, and the part of it that begins at a multiple of [`ALIGNMENT`].
struct Block {
    memory: Memory,
    start: usize,
    len: usize,
}

enum Memory {
    Heap(Vec<u8>),
    Source(Box<dyn BufferMemory>),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Source(memory) => (**memory).as_ref(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Source(memory) => (**memory).as_mut(),
        }
    }
}

impl Block {
    fn new(memory: Memory) -> Self {
        let bytes = memory.bytes();
        let start = bytes_to_boundary(bytes).min(bytes.len());
        let len = match memory {
            // What is left over of the reserve for the beginning is not counted.
            Memory::Heap(_) => (bytes.len() - start) / ALIGNMENT * ALIGNMENT,
            Memory::Source(_) => bytes.len() - start,
        };
        Self { memory, start, len }
    }

    fn empty() -> Self {
        Self { memory: Memory::Heap(Vec::new()), start: 0, len: 0 }
    }

    /// Zeros. The memory comes zeroed from the system, untouched if it is large.
    fn on_heap(len: usize) -> Self {
        let size = heap_size(len).expect("capacity overflow");
        Self::new(Memory::Heap(vec![0; size]))
    }

    fn try_on_heap(len: usize) -> Option<Self> {
        // There is no way to ask for zeroed memory that may be refused; so first for any.
        let mut probe = Vec::<u8>::new();
        probe.try_reserve_exact(heap_size(len)?).ok()?;
        drop(probe);
        Some(Self::on_heap(len))
    }

    fn of(source: &dyn BufferSource, len: usize) -> Option<Self> {
        let block = Self::new(Memory::Source(source.allocate(len)?));
        if block.len >= len {
            return Some(block);
        }
        drop(block);
        let longer = len.checked_add(ALIGNMENT - 1)?;
        Some(Self::new(Memory::Source(source.allocate(longer)?))).filter(|block| block.len >= len)
    }

    fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[self.start..self.start + self.len]
    }

    /// Makes a block of the heap longer; its contents stay. Of another source's, nothing.
    fn try_grow(&mut self, len: usize) -> bool {
        let Memory::Heap(bytes) = &mut self.memory else { return false };
        bytes.resize(heap_size(len).expect("capacity overflow"), 0);
        let start = bytes_to_boundary(bytes).min(bytes.len());
        if start != self.start {
            bytes.copy_within(self.start..self.start + self.len, start);
            self.start = start;
        }
        self.len = (bytes.len() - start) / ALIGNMENT * ALIGNMENT;
        true
    }
}

fn bytes_to_boundary(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT
}

/// What to allocate for `len` bytes from a boundary on; `None` when that overflows.
fn heap_size(len: usize) -> Option<usize> {
    if len == 0 {
        Some(0)
    } else {
        len.checked_next_multiple_of(ALIGNMENT)?.checked_add(ALIGNMENT - 1)
    }
}

/// A buffer of a [`BufferPool`], writable until it is frozen. Dropped, it returns to its pool.
pub struct Buffer {
    block: Block,
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

    /// Lengthens the buffer to at least `len` bytes, keeping what stands in it. The memory may
    /// move.
    pub fn grow(&mut self, len: usize) {
        if len <= self.block.len || self.block.try_grow(len) {
            return;
        }
        if let Some(pool) = self.pool.clone() {
            let mut longer = pool.take(len);
            longer[..self.len()].copy_from_slice(self);
            *self = longer;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put_back(std::mem::replace(&mut self.block, Block::empty()));
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.bytes()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.block.bytes_mut()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn is_aligned(bytes: &[u8]) -> bool {
        bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
    }

    #[test]
    fn the_pool_reuses_the_smallest_fitting_buffer_and_frees_the_surplus() {
        let pool = BufferPool::new(2);
        let buffers = [64, 640, 320].map(|len| pool.take(len));
        let [small, large, middle] = buffers.each_ref().map(|buffer| buffer.as_ptr());
        drop(buffers);
        assert!(pool.take_recycled(1000).is_none());
        let taken = pool.take_recycled(10).expect("two buffers are unused");
        assert_eq!(taken.as_ptr(), middle, "not {small:?}: it was the surplus; nor {large:?}");
    }

    #[test]
    fn a_frozen_buffer_returns_to_the_pool_with_its_last_handle() {
        let pool = BufferPool::new(1);
        let frozen = pool.take(100).freeze(10..20);
        let other = frozen.slice(2..4);
        drop(frozen);
        assert!(pool.take_recycled(1).is_none());
        drop(other);
        assert!(pool.take_recycled(100).is_some());
    }

    #[test]
    fn buffers_of_any_length_are_aligned_even_after_growing() {
        let pool = BufferPool::new(0);
        let mut kept = Vec::new();
        for len in [0, 1, 7, 63, 64, 65, 1000, 4096, 100_000] {
            let mut buffer = pool.take(len);
            assert_eq!(buffer.len(), len.next_multiple_of(ALIGNMENT));
            assert!(len == 0 || is_aligned(&buffer), "{len}");
            let written: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            buffer[..len].copy_from_slice(&written);
            for longer in [len + 1, len + 200, 3 * len + 5000] {
                buffer.grow(longer);
                assert!(buffer.len() >= longer && is_aligned(&buffer), "{len} to {longer}");
                assert_eq!(buffer[..len], written[..]);
            }
            kept.push(buffer.freeze(0..len));
        }
        assert!(kept.iter().all(|bytes| bytes.is_empty() || is_aligned(bytes)));
    }

    #[test]
    fn an_impossible_length_is_refused_without_aborting() {
        let pool = BufferPool::new(1);
        for len in [usize::MAX, usize::MAX - 64, isize::MAX as usize, isize::MAX as usize - 1000] {
            assert!(pool.try_take(len).is_none(), "{len}");
        }
    }

    /// A source of `left` blocks, each beginning `offset` bytes behind a boundary.
    struct Source {
        left: AtomicUsize,
        offset: usize,
    }

    struct Shifted(Vec<u8>, usize);

    impl AsRef<[u8]> for Shifted {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..]
        }
    }

    impl AsMut<[u8]> for Shifted {
        fn as_mut(&mut self) -> &mut [u8] {
            &mut self.0[self.1..]
        }
    }

    impl BufferSource for Source {
        fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
            let take = |left: usize| left.checked_sub(1);
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
            let memory = vec![0xAA; len + 2 * ALIGNMENT];
            let start = bytes_to_boundary(&memory) + self.offset;
            let mut memory = Shifted(memory, start);
            memory.0.truncate(start + len);
            Some(Box::new(memory))
        }
    }

    fn source(left: usize, offset: usize) -> Source {
        Source { left: AtomicUsize::new(left), offset }
    }

    #[test]
    fn memory_from_a_source_is_aligned_reused_and_bounded() {
        for offset in [0, 1, 33] {
            // Memory that does not begin at a boundary is asked for twice.
            let pool = BufferPool::with_source(1, source(if offset == 0 { 1 } else { 2 }, offset));
            let buffer = pool.try_take(100).expect("there is one");
            assert!(buffer.len() >= 100 && is_aligned(&buffer));
            assert!(pool.try_take(100).is_none(), "the source is empty");
            let place = buffer.as_ptr();
            drop(buffer.freeze(0..100));
            assert_eq!(pool.try_take(100).expect("recycled").as_ptr(), place);
        }
    }

    #[test]
    fn an_exhausted_source_falls_back_to_the_heap() {
        let pool = BufferPool::with_source(1, source(1, 0));
        let mut first = pool.take(100);
        let second = pool.take(100);
        assert_eq!((first[0], second[0]), (0xAA, 0));
        first[99] = 7;
        first.grow(1000);
        assert!(first.len() >= 1000 && first[99] == 7);
    }

    #[test]
    fn zeroed_buffers_from_a_source_are_zeroed() {
        let pool = BufferPool::with_source(1, source(1, 0));
        assert!(pool.try_take_zeros(100).expect("there is one").iter().all(|&byte| byte == 0));
    }
}
