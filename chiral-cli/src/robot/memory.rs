use bytes::Bytes;

/// Where cameras write what they see: on the heap, or in memory that a server shares with the
/// policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    #[cfg(feature = "zenoh-shm")]
    pub(crate) shared: Option<chiral_driver::zenoh::SharedMemory>,
}

impl Memory {
    /// What a camera delivers of a picture that lies on the heap: it is copied to shared memory,
    /// as a camera writes there. Without that, or when it is full, the picture stays where it is.
    #[cfg(feature = "zenoh-shm")]
    pub(super) fn deliver(&self, picture: Bytes) -> Bytes {
        let buffer = self.shared.as_ref().and_then(|memory| memory.buffer(picture.len()));
        let Some(mut buffer) = buffer else { return picture };
        buffer.copy_from_slice(&picture);
        buffer.freeze()
    }

    #[cfg(not(feature = "zenoh-shm"))]
    #[expect(clippy::unused_self, reason = "there is no shared memory to write to")]
    pub(super) fn deliver(&self, picture: Bytes) -> Bytes {
        picture
    }
}
