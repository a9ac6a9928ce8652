//! The message that is being written.

use crate::wire::Frame;

use super::head;
use super::mask::{self, Key};

/// A message as a gather list: its header, and a frame's chunks.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The header; a masked message lies here with all its bytes. Empty when nothing is written.
    head: Vec<u8>,
    frame: Option<Frame>,
    /// Parts that are written, and bytes of the part behind them.
    part: usize,
    offset: usize,
}

impl Outgoing {
    pub(super) fn start(&mut self, frame: Frame) {
        head::put_message(&mut self.head, frame.len(), None);
        self.frame = Some(frame);
    }

    pub(super) fn start_masked(&mut self, frame: &Frame, key: Key) {
        head::put_message(&mut self.head, frame.len(), Some(key));
        self.head.reserve(frame.len());
        let start = self.head.len();
        frame.chunks().for_each(|chunk| {
            // Piece by piece, so that it is still in the cache when it is masked.
            for piece in chunk.chunks(32 << 10) {
                let from = self.head.len();
                self.head.extend_from_slice(piece);
                mask::apply(&mut self.head[from..], key, from - start);
            }
        });
    }

    pub(super) fn is_done(&self) -> bool {
        self.head.is_empty()
    }

    /// Whether no frame is written in part.
    pub(super) fn is_between_frames(&self) -> bool {
        (self.part, self.offset) == (0, 0)
    }

    /// The chunks that are still to be written; none is empty.
    pub(super) fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let mut offset = self.offset;
        self.parts().skip(self.part).map(move |part| &part[std::mem::take(&mut offset)..])
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let head = Some(&self.head[..]).filter(|head| !head.is_empty());
        head.into_iter().chain(self.frame.iter().flat_map(Frame::chunks))
    }

    /// Counts `count` bytes as written.
    pub(super) fn advance(&mut self, mut count: usize) {
        let (mut part, mut offset) = (self.part, self.offset);
        let mut is_done = true;
        for chunk in self.rest() {
            if count < chunk.len() {
                offset += count;
                count = 0;
                is_done = false;
                break;
            }
            count -= chunk.len();
            (part, offset) = (part + 1, 0);
        }
        assert!(count == 0, "{count} bytes written beyond what there was to write");
        (self.part, self.offset) = (part, offset);
        if is_done {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.head.clear();
        self.frame = None;
        (self.part, self.offset) = (0, 0);
    }
}
