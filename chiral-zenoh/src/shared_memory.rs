use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::shm::{
    Defragment, GarbageCollect, PosixShmProviderBackend, ShmProvider, ShmProviderBuilder, ZShm,
    ZShmMut,
};

use crate::config::Config;

/// Memory that a robot shares with the policies on its machine, from a
/// [`Listener`](crate::Listener).
///
/// What a sensor writes here goes to the policy without being copied: take a
/// [`buffer`](Self::buffer), let the camera's driver fill it, [freeze](SharedBuffer::freeze) it,
/// and publish it as an owned array. What sensors wrote elsewhere is copied here when an
/// observation leaves.
///
/// ```no_run
/// use chiral_zenoh::proto::sensors::{CameraFrame, Sensors};
/// use chiral_zenoh::proto::{Array, Dtype};
///
/// # fn image(listener: &chiral_zenoh::Listener, sensors: &Sensors) -> Option<()> {
/// let memory = listener.shared_memory()?;
/// let mut image = memory.buffer(480 * 640 * 3)?; // `None`: full, publish from elsewhere
/// image.fill(127);
/// let image = Array::new(Dtype::U8, [480, 640, 3], image.freeze()).expect("it fits the shape");
/// sensors.publish("wrist_cam", CameraFrame::new().image(image)).expect("it is as declared");
/// # Some(())
/// # }
/// ```
///
/// A buffer is free again when its last handle is gone, on both sides: a policy that keeps many
/// observations keeps their memory, and what then finds no room goes over the network.
#[derive(Clone)]
pub struct SharedMemory(Arc<Inner>);

struct Inner {
    provider: ShmProvider<PosixShmProviderBackend>,
    /// The frozen buffers that somebody still has, by address.
    frozen: Mutex<BTreeMap<usize, Weak<ZShm>>>,
}

impl SharedMemory {
    /// The memory that a configuration asks for; without it everything goes over the network.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        if !config.shared_memory {
            return None;
        }
        match Self::new(config.shared_memory_len) {
            Ok(memory) => Some(memory),
            Err(why) => {
                tracing::warn!("no shared memory, observations go over the network: {why}");
                None
            }
        }
    }

    fn new(len: usize) -> Result<Self, String> {
        check_room(len)?;
        let provider = ShmProviderBuilder::default_backend(len).wait();
        let provider = provider.map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(Inner { provider, frozen: Mutex::default() })))
    }

    /// A buffer to write into; `None` when there is no room. What stands in it is arbitrary.
    pub fn buffer(&self, len: usize) -> Option<SharedBuffer> {
        let alloc = self.0.provider.alloc(len);
        let buffer = alloc.with_policy::<Defragment<GarbageCollect>>().wait().ok()?;
        Some(SharedBuffer { buffer, memory: Arc::clone(&self.0) })
    }

    /// The payload of a segment that is a whole frozen buffer.
    pub(crate) fn find(&self, segment: &Bytes) -> Option<ZBytes> {
        let frozen = self.0.frozen().get(&segment.as_ptr().addr())?.upgrade()?;
        (frozen.len() == segment.len()).then(|| ZBytes::from(ZShm::clone(&frozen)))
    }

    /// A copy of a segment.
    pub(crate) fn copy(&self, segment: &[u8]) -> Option<ZBytes> {
        let mut buffer = self.buffer(segment.len())?;
        buffer.copy_from_slice(segment);
        Some(buffer.buffer.into())
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.0.provider.available();
        f.debug_struct("SharedMemory").field("available", &available).finish_non_exhaustive()
    }
}

impl Inner {
    fn frozen(&self) -> MutexGuard<'_, BTreeMap<usize, Weak<ZShm>>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writing to shared memory that the system cannot give ends the process, so it is asked first.
#[cfg(target_os = "linux")]
fn check_room(len: usize) -> Result<(), String> {
    let state = rustix::fs::statvfs("/dev/shm").map_err(|error| format!("/dev/shm: {error}"))?;
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    if free < len as u64 {
        return Err(format!(
            "found {free} bytes free in /dev/shm, expected {len}: enlarge it (a container's \
             `--shm-size`), or ask for less"
        ));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_room(_: usize) -> Result<(), String> {
    Ok(())
}

/// A buffer in [`SharedMemory`], writable until it is frozen.
pub struct SharedBuffer {
    buffer: ZShmMut,
    memory: Arc<Inner>,
}

impl SharedBuffer {
    /// Shares what was written. Published as it is, whole, it goes to the policy without a copy.
    pub fn freeze(self) -> Bytes {
        let shm = Arc::new(ZShm::from(self.buffer));
        self.memory.frozen().insert(shm.as_ptr().addr(), Arc::downgrade(&shm));
        Bytes::from_owner(Frozen { shm, memory: self.memory })
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for SharedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuffer({} bytes)", self.len())
    }
}

/// The owner of frozen bytes.
struct Frozen {
    shm: Arc<ZShm>,
    memory: Arc<Inner>,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.shm
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // While this one is here its memory is not given away, so the entry is this one's.
        self.memory.frozen().remove(&self.shm.as_ptr().addr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_buffer_can_be_looked_up_while_it_is_alive() {
        let memory = SharedMemory::new(1 << 20).expect("there is shared memory");
        let mut buffer = memory.buffer(100_000).expect("there is room");
        buffer.fill(7);
        let frozen = buffer.freeze();
        let payload = memory.find(&frozen).expect("it is whole");
        assert!(payload.as_shm().is_some());
        assert_eq!(payload.to_bytes(), &frozen[..]);
        assert!(memory.find(&frozen.slice(1..)).is_none(), "no part of one");
        assert!(memory.find(&Bytes::from_static(b"elsewhere")).is_none());
        drop((payload, frozen));
        assert!(memory.0.frozen().is_empty());
    }

    #[test]
    fn allocation_fails_without_room_and_succeeds_once_freed() {
        let memory = SharedMemory::new(1 << 20).expect("there is shared memory");
        let segment = vec![1; 200_000];
        let held: Vec<_> = std::iter::from_fn(|| memory.copy(&segment)).collect();
        assert!((3..=5).contains(&held.len()), "{}", held.len());
        drop(held);
        assert!(memory.buffer(200_000).is_some());
    }

    #[test]
    fn more_shared_memory_than_available_is_rejected_with_a_reason() {
        let error = SharedMemory::new(1 << 50).map(drop).expect_err("a petabyte");
        assert!(error.contains("expected 1125899906842624"), "{error}");
    }
}
