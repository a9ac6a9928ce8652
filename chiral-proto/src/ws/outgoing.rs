//! The message that is being written.

use std::iter;

use crate::wire::Frame;

use super::head;
use super::mask::{self, Key};

/// Bytes of payload that a WebSocket frame has at most: a longer message is sent in fragments
/// (RFC 6455, section 5.4), so that pongs and closes pass between them. At 3 Mbit/s one takes less
/// than a second.
pub(super) const FRAGMENT: usize = 256 << 10;

/// A message as a gather list: WebSocket frames, each a header and pieces of a chiral frame.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The headers; a masked message lies here with all its bytes.
    own: Vec<u8>,
    frame: Option<Frame>,
    /// Empty when nothing is written.
    parts: Vec<Part>,
    /// Parts that are written, and bytes of the part behind them.
    part: usize,
    offset: usize,
}

/// A run of bytes to be written.
#[derive(Debug, Clone, Copy)]
struct Part {
    source: Source,
    start: usize,
    end: usize,
    /// A WebSocket frame begins here.
    begins_frame: bool,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Own,
    /// A segment of the chiral frame.
    Segment(usize),
}

impl Outgoing {
    pub(super) fn start(&mut self, frame: Frame) {
        let mut fragments = fragments(frame.len());
        let mut room = 0;
        for (index, segment) in frame.chunks().enumerate() {
            let mut start = 0;
            while start < segment.len() {
                if room == 0 {
                    let fragment = fragments.next().expect("they hold the frame");
                    let from = self.own.len();
                    head::put_fragment(&mut self.own, &fragment, None);
                    self.push(Source::Own, from, self.own.len(), true);
                    room = fragment.len;
                }
                let end = segment.len().min(start + room);
                self.push(Source::Segment(index), start, end, false);
                room -= end - start;
                start = end;
            }
        }
        self.frame = Some(frame);
    }

    pub(super) fn start_masked(&mut self, frame: &Frame, mut draw_key: impl FnMut() -> Key) {
        self.own.reserve(frame.len() + 14 * frame.len().div_ceil(FRAGMENT));
        let mut chunks = frame.chunks();
        let mut chunk: &[u8] = &[];
        for fragment in fragments(frame.len()) {
            let (from, key) = (self.own.len(), draw_key());
            head::put_fragment(&mut self.own, &fragment, Some(key));
            let start = self.own.len();
            let end = start + fragment.len;
            while self.own.len() < end {
                if chunk.is_empty() {
                    chunk = chunks.next().expect("they are as long as the frame");
                }
                // Piece by piece, so that it is still in the cache when it is masked.
                let at = self.own.len();
                let (piece, rest) = chunk.split_at(chunk.len().min(end - at).min(32 << 10));
                self.own.extend_from_slice(piece);
                mask::apply(&mut self.own[at..], key, at - start);
                chunk = rest;
            }
            self.push(Source::Own, from, end, true);
        }
    }

    fn push(&mut self, source: Source, start: usize, end: usize, begins_frame: bool) {
        self.parts.push(Part { source, start, end, begins_frame });
    }

    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether no WebSocket frame is written in part, so that another may stand here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.offset == 0 && self.parts.get(self.part).is_none_or(|part| part.begins_frame)
    }

    /// The chunks that are still to be written; none is empty.
    pub(super) fn rest(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks(self.parts.len())
    }

    /// Those of them up to the end of the WebSocket frame that is being written.
    pub(super) fn rest_of_frame(&self) -> impl Iterator<Item = &[u8]> {
        // It may begin in the part that is being written.
        let behind = self.part + 1;
        let next = self.parts.iter().skip(behind).position(|part| part.begins_frame);
        self.chunks(next.map_or(self.parts.len(), |next| behind + next))
    }

    fn chunks(&self, end: usize) -> impl Iterator<Item = &[u8]> {
        let mut offset = self.offset;
        self.parts[self.part..end].iter().map(move |part| {
            let bytes = match part.source {
                Source::Own => &self.own[..],
                Source::Segment(index) => self.frame.as_ref().map_or(&[][..], |it| it.chunk(index)),
            };
            &bytes[part.start + std::mem::take(&mut offset)..part.end]
        })
    }

    /// Counts `count` bytes as written.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.parts.get(self.part) {
            let len = part.end - part.start - self.offset;
            if count < len {
                self.offset += count;
                return;
            }
            count -= len;
            (self.part, self.offset) = (self.part + 1, 0);
        }
        assert!(count == 0, "{count} bytes written beyond what there was to write");
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.parts.clear();
        self.frame = None;
        (self.part, self.offset) = (0, 0);
    }
}

/// A piece of a message, in a WebSocket frame of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) len: usize,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// The fragments of a message of that length; of a short one, the whole of it.
fn fragments(len: usize) -> impl Iterator<Item = Fragment> {
    let starts = iter::once(0).chain((FRAGMENT..len).step_by(FRAGMENT));
    starts.map(move |start| {
        let left = len - start;
        Fragment { len: left.min(FRAGMENT), is_first: start == 0, is_last: left <= FRAGMENT }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_messages_are_fragmented() {
        for len in [4, FRAGMENT - 1, FRAGMENT] {
            let whole = Fragment { len, is_first: true, is_last: true };
            assert_eq!(fragments(len).collect::<Vec<_>>(), [whole]);
        }
        for len in [FRAGMENT + 1, 2 * FRAGMENT, 17 << 20] {
            let cut: Vec<_> = fragments(len).collect();
            assert_eq!(cut.len(), len.div_ceil(FRAGMENT));
            assert_eq!(cut.iter().map(|fragment| fragment.len).sum::<usize>(), len);
            for (index, fragment) in cut.iter().enumerate() {
                assert_eq!(fragment.is_first, index == 0);
                assert_eq!(fragment.is_last, index == cut.len() - 1);
            }
        }
    }
}
