use std::sync::Arc;

use bytes::Bytes;
use chiral_proto::pool::BufferPool;
use chiral_proto::wire::{Frame, Limits, WireError};
use zenoh::bytes::ZBytes;

/// One whole frame as it has come.
///
/// Over the network it lies in one buffer. Through shared memory it lies where the robot wrote it,
/// in a piece per camera buffer.
#[derive(Debug, Clone)]
pub struct Message {
    segments: Vec<Bytes>,
    len: usize,
    is_shared: bool,
}

/// Zenoh cuts what goes over a network into batches whose length is a number of 16 bits, so a
/// longer piece has come through shared memory. Shorter buffers are not worth sharing.
pub(crate) const SHARED_FROM: usize = 1 << 16;
/// Where pixels begin in a gathered buffer, so that every dtype can be viewed in place.
const ALIGNMENT: usize = 16;

impl Message {
    /// Takes a payload over, without copying what lies in shared memory.
    pub(crate) fn new(payload: &ZBytes, pool: &BufferPool) -> Self {
        let is_shared =
            cfg!(feature = "shm") && payload.slices().any(|slice| slice.len() >= SHARED_FROM);
        let segments = if is_shared { in_place(payload) } else { vec![gathered(payload, pool)] };
        Self { segments, len: payload.len(), is_shared }
    }

    /// One that is too long to be taken over: what refuses it looks at its length only.
    pub(crate) fn oversized(payload: &ZBytes) -> Self {
        Self { segments: in_place(payload), len: payload.len(), is_shared: false }
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it came through shared memory.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The message as one buffer, for `handle_message` of a state machine. This copies what came
    /// through shared memory; [`into_frame`](Self::into_frame) does not.
    pub fn into_bytes(self) -> Bytes {
        if let [only] = &self.segments[..] {
            return only.clone();
        }
        self.segments.concat().into()
    }

    /// The message in the pieces in which it lies, for `handle_segments` of a state machine. No
    /// pixel is copied.
    pub fn into_segments(self) -> Vec<Bytes> {
        self.segments
    }

    /// The message as a frame, for `handle_frame` of a state machine. No pixel is copied.
    ///
    /// # Errors
    /// As of [`Frame::parse`]: when it is no frame, or over the limits.
    pub fn into_frame(self, limits: &Limits) -> Result<Frame, WireError> {
        Frame::parse_segments(self.segments, limits)
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
    use chiral_proto::wire::{ClientMessage, Limits};

    use super::*;

    #[test]
    fn gathered_messages_are_complete_and_aligned() {
        let pool = BufferPool::new(1);
        let frame = ClientMessage::ApplyAction(Action::from([0.5; 1000])).encode();
        let mut writer = ZBytes::writer();
        for piece in frame.to_bytes().chunks(7) {
            writer.append(ZBytes::from(piece));
        }
        let bytes = Message::new(&writer.finish(), &pool).into_bytes();
        assert_eq!(bytes, frame.to_bytes());
        let payload = Frame::parse(bytes, &Limits::default()).expect("it is a frame");
        assert_eq!(payload.payload().contiguous().as_ptr().addr() % ALIGNMENT, 0);
    }

    #[test]
    fn messages_that_are_not_frames_are_gathered_unchanged() {
        for text in ["", "abc", "\u{7f}\u{7f}\u{7f}\u{7f}"] {
            let message = Message::new(&ZBytes::from(text), &BufferPool::new(1));
            assert_eq!((message.len(), message.is_empty()), (text.len(), text.is_empty()));
            assert_eq!(message.into_bytes(), text);
        }
    }
}
