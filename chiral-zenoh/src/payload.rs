use std::sync::Arc;

use bytes::Bytes;
use chiral_driver::Message;
use chiral_proto::pool::BufferPool;
use zenoh::bytes::ZBytes;

/// One whole message as it was received: over the network in one buffer; through shared memory
/// where the robot wrote it, in a segment for each camera buffer.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    segments: Vec<Bytes>,
    len: usize,
    is_shared: bool,
}

/// Zenoh cuts what goes over a network into batches whose length is a number of 16 bits, so a
/// longer piece has come through shared memory. Shorter buffers are not worth sharing.
pub(crate) const SHARED_FROM: usize = 1 << 16;
/// Where pixels begin in a gathered buffer, so that every dtype can be viewed in place.
const ALIGNMENT: usize = 16;

impl Payload {
    /// Takes a payload over, without copying what lies in shared memory.
    pub(crate) fn new(payload: &ZBytes, pool: &BufferPool) -> Self {
        let is_shared =
            cfg!(feature = "shm") && payload.slices().any(|slice| slice.len() >= SHARED_FROM);
        let segments = if is_shared { in_place(payload) } else { vec![gathered(payload, pool)] };
        Self { segments, len: payload.len(), is_shared }
    }

    /// One that is too long to be copied: what refuses it looks at its length only.
    pub(crate) fn oversized(payload: &ZBytes) -> Self {
        Self { segments: in_place(payload), len: payload.len(), is_shared: false }
    }

    /// Bytes of the whole message.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Its bytes in order.
    pub(crate) fn chunks(&self) -> Vec<&[u8]> {
        self.segments.iter().map(|segment| &segment[..]).collect()
    }

    /// Whether it came through shared memory.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// As the driver takes it. No pixel is copied.
    pub(crate) fn into_message(mut self) -> Message {
        match self.segments.len() {
            1 => Message::Whole(self.segments.remove(0)),
            _ => Message::Segments(self.segments),
        }
    }

    /// As one buffer. This copies what came through shared memory.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        match self.segments.len() {
            1 => self.segments.remove(0),
            _ => self.segments.concat().into(),
        }
    }

    pub(crate) fn into_segments(self) -> Vec<Bytes> {
        self.segments
    }
}

/// The payload's own slices; the small ones are copied out of the buffers that they arrived in.
fn in_place(payload: &ZBytes) -> Vec<Bytes> {
    let payload = Arc::new(payload.clone());
    let segment = |(index, slice): (usize, &[u8])| {
        if slice.len() < SHARED_FROM {
            Bytes::copy_from_slice(slice)
        } else {
            Bytes::from_owner(Piece { payload: Arc::clone(&payload), index })
        }
    };
    payload.slices().enumerate().map(segment).collect()
}

/// One slice of a payload, which it keeps.
struct Piece {
    payload: Arc<ZBytes>,
    index: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.payload.slices().nth(self.index).expect("the payload does not change")
    }
}

/// The payload in one buffer that was used before.
fn gathered(payload: &ZBytes, pool: &BufferPool) -> Bytes {
    let mut prefix = [0; 4];
    prefix.iter_mut().zip(payload.slices().flatten()).for_each(|(to, from)| *to = *from);
    let head_len = prefix.len() + u32::from_le_bytes(prefix) as usize % ALIGNMENT;
    let start = (ALIGNMENT - head_len % ALIGNMENT) % ALIGNMENT;
    let mut buffer = pool.take(start + payload.len());
    let mut end = start;
    for slice in payload.slices() {
        buffer[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    buffer.freeze(start..end)
}

#[cfg(test)]
mod tests {
    use chiral_proto::Action;
    use chiral_proto::wire::{ClientMessage, Frame, Limits};

    use super::*;

    #[test]
    fn gathered_frames_are_complete_and_aligned() {
        let pool = BufferPool::new(1);
        let frame = ClientMessage::ApplyAction(Action::from([0.5; 1000])).encode();
        let mut writer = ZBytes::writer();
        for piece in frame.to_bytes().chunks(7) {
            writer.append(ZBytes::from(piece));
        }
        let bytes = Payload::new(&writer.finish(), &pool).into_bytes();
        assert_eq!(bytes, frame.to_bytes());
        let payload = Frame::parse(bytes, &Limits::default()).expect("it is a frame");
        assert_eq!(payload.payload().contiguous().as_ptr().addr() % ALIGNMENT, 0);
    }

    #[test]
    fn bytes_that_are_not_a_frame_are_gathered_unchanged() {
        for text in ["", "abc", "\u{7f}\u{7f}\u{7f}\u{7f}"] {
            let message = Payload::new(&ZBytes::from(text), &BufferPool::new(1));
            assert_eq!(message.len(), text.len());
            assert_eq!(message.into_bytes(), text);
        }
    }
}
