//! Memory that NumPy arrays may write to while Rust holds handles to it.
//!
//! A received observation lies in one buffer, of which `Bytes` handles are slices. `Bytes` gives
//! shared references only, and a pointer made from one must not be written through. Here the memory
//! is allocated raw, and noted: so a writable pointer to a part of it is made from the pointer that
//! the allocator gave, not from a reference.
//!
//! Writing through such a pointer is sound as long as nobody reads or writes the same bytes through
//! a reference meanwhile, nor makes such a reference. Who hands out arrays sees to it; see `places.rs`
//! and `buffer.rs`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chiral_blocking::proto::pool::{ALIGNMENT, BufferMemory, BufferSource};

/// Allocates blocks that [`writable`] knows.
#[derive(Clone, Copy)]
pub(crate) struct PythonMemory;

impl BufferSource for PythonMemory {
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
        Some(Box::new(Block::allocate(len)?))
    }
}

/// The blocks that there are, by their address.
static BLOCKS: Mutex<BTreeMap<usize, Start>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Start {
    pointer: NonNull<u8>,
    len: usize,
}

// SAFETY: it is only an address until somebody writes to it, for which `writable` states the terms.
unsafe impl Send for Start {}

fn blocks() -> MutexGuard<'static, BTreeMap<usize, Start>> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pointer with which these bytes may be written, if they lie in a block of [`PythonMemory`].
///
/// It stays valid for as long as the block does, and so for as long as somebody holds a handle to
/// the bytes. Who writes, or lets NumPy write, sees to it that nobody reads them in Rust meanwhile, and
/// keeps the pointer: to ask for it again takes a reference to the bytes, which must not be made any
/// more.
pub(crate) fn writable(bytes: &[u8]) -> Option<NonNull<u8>> {
    let address = bytes.as_ptr().addr();
    let blocks = blocks();
    let (start, block) = blocks.range(..=address).next_back()?;
    let offset = address - start;
    if offset + bytes.len() > block.len {
        return None;
    }
    // SAFETY: the offset lies within the block, which exists while it is noted, and a handle to its
    // bytes keeps it: `bytes` borrows from one.
    Some(unsafe { block.pointer.add(offset) })
}

/// One allocation. Its bytes are reached by the raw pointer alone.
struct Block {
    start: Start,
    layout: Layout,
}

// SAFETY: the pointer is that of an allocation which nobody else owns.
unsafe impl Send for Block {}
// SAFETY: shared references to a block give shared references to its bytes, no more.
unsafe impl Sync for Block {}

impl Block {
    /// Zeros: of a large block no page is touched before it is written.
    fn allocate(len: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len.max(1), ALIGNMENT).ok()?;
        // SAFETY: the layout is not empty.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let start = Start { pointer, len };
        blocks().insert(pointer.addr().get(), start);
        Some(Self { start, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // First of all: the address may be given to another thread at once.
        blocks().remove(&self.start.pointer.addr().get());
        // SAFETY: it was allocated with this layout, and this is its only owner.
        unsafe { dealloc(self.start.pointer.as_ptr(), self.layout) };
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as the block. Those that an array may
        // write are not read through this reference while it can.
        unsafe { std::slice::from_raw_parts(self.start.pointer.as_ptr(), self.start.len) }
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and the pool that has the block for itself has no handle to it about, so
        // that no array is left which keeps one.
        unsafe { std::slice::from_raw_parts_mut(self.start.pointer.as_ptr(), self.start.len) }
    }
}

#[cfg(test)]
mod tests {
    use chiral_blocking::proto::pool::BufferPool;

    use super::*;

    #[test]
    fn a_part_of_a_frozen_buffer_can_be_written_while_handles_to_it_exist() {
        let pool = BufferPool::with_source(1, PythonMemory);
        let mut buffer = pool.take(1000);
        buffer.fill(1);
        let bytes = buffer.freeze(0..1000);
        let part = bytes.slice(100..200);
        let pointer = writable(&part).expect("it is of this memory");
        // SAFETY: 100 bytes of `part`, which is not read until they are written.
        unsafe { pointer.write_bytes(7, 100) };
        drop((bytes, part));
        let again = pool.take(1000);
        assert_eq!((again[99], again[100], again[199], again[200]), (1, 7, 7, 1));
    }

    #[test]
    fn other_memory_is_not_writable() {
        let other = vec![0_u8; 100];
        assert_eq!(writable(&other), None);
        let block = Block::allocate(64).expect("there is memory");
        let bytes = block.as_ref();
        assert!(writable(bytes).is_some() && bytes.as_ptr().addr() % ALIGNMENT == 0);
        let address = bytes.as_ptr().addr();
        drop(block);
        assert!(!blocks().contains_key(&address));
    }
}
