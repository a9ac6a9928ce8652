use bytes::Bytes;

use super::error::{ErrorKind, WireError};
use super::limits::Limits;

/// Bytes of the header's length, at the start of every frame.
pub(crate) const PREFIX_LEN: usize = 4;

/// One message as it travels: `[u32 LE header length][msgpack header][raw payload]`.
///
/// A frame is *described*, never concatenated: a head (length and header) of its own and the
/// payload as a list of segments, each the buffer of one sensor. Write it with a gather write of
/// [`chunks`](Self::chunks):
///
/// ```
/// use chiral_proto::wire::{ClientMessage, Frame, Limits};
/// use chiral_proto::Action;
///
/// let frame = ClientMessage::ApplyAction(Action::from([0.5, -0.5])).encode();
/// let wire: Vec<u8> = frame.chunks().flatten().copied().collect();
/// assert_eq!(wire.len(), frame.len());
///
/// let received = Frame::parse(wire.into(), &Limits::default())?;
/// assert_eq!(*received.payload().contiguous(), 0.5_f32.to_le_bytes().iter().chain(&(-0.5_f32).to_le_bytes()).copied().collect::<Vec<u8>>());
/// # Ok::<(), chiral_proto::wire::WireError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The length and the header: `PREFIX_LEN + H` bytes, in memory of its own.
    head: Bytes,
    payload: Payload,
}

impl Frame {
    /// A frame from one whole message of the transport. Checks the frame's own structure; its
    /// header is read when the frame is decoded.
    ///
    /// The header, a few kilobytes, is copied; the payload is not.
    ///
    /// # Errors
    /// When the message is over [`Limits::frame_len`], too short for the header that it
    /// announces, or announces one over [`Limits::header_len`].
    pub fn parse(mut message: Bytes, limits: &Limits) -> Result<Self, WireError> {
        let head_len = Self::head_len(&message, message.len(), limits)?;
        // Names and free-form maps are slices of the head: in memory of its own it lets the
        // pixels go when only a name is kept.
        let head = Bytes::copy_from_slice(&message[..head_len]);
        Ok(Self { head, payload: message.split_off(head_len).into() })
    }

    /// A frame from the segments in which a transport delivered one message. No more is copied
    /// than what lies across two segments' border.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_segments(
        segments: impl IntoIterator<Item = Bytes>,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let mut message = Payload::from_iter(segments);
        let mut prefix = [0; PREFIX_LEN];
        let prefix_len = message.copy_to(&mut prefix);
        let head_len = Self::head_len(&prefix[..prefix_len], message.len(), limits)?;
        let head = Bytes::copy_from_slice(&message.slice(0, head_len));
        message.advance(head_len);
        Ok(Self { head, payload: message })
    }

    /// A frame of a header just written and the payload that it describes.
    pub(crate) fn from_parts(head: Bytes, payload: Payload) -> Self {
        Self { head, payload }
    }

    fn head_len(start: &[u8], frame_len: usize, limits: &Limits) -> Result<usize, WireError> {
        if frame_len > limits.frame_len {
            return Err(WireError::frame(ErrorKind::Limit, 0)
                .found(format_args!("a frame of {frame_len} bytes"))
                .expected(format_args!("at most {} (`Limits::frame_len`)", limits.frame_len)));
        }
        let Some(prefix) = start.first_chunk() else {
            return Err(WireError::frame(ErrorKind::Truncated, 0)
                .found(format_args!("a frame of {frame_len} bytes"))
                .expected("at least 4, the header's length"));
        };
        let header_len = u32::from_le_bytes(*prefix) as usize;
        let is_cut_short = header_len > frame_len - PREFIX_LEN;
        if is_cut_short && let Some(error) = Self::foreign(start) {
            return Err(error);
        }
        if header_len > limits.header_len {
            return Err(WireError::frame(ErrorKind::Limit, 0)
                .found(format_args!("a header of {header_len} bytes"))
                .expected(format_args!("at most {} (`Limits::header_len`)", limits.header_len)));
        }
        if is_cut_short {
            return Err(WireError::frame(ErrorKind::Truncated, 0)
                .found(format_args!("a header of {header_len} bytes announced"))
                .expected(format_args!("at most the {} that follow", frame_len - PREFIX_LEN)));
        }
        Ok(PREFIX_LEN + header_len)
    }

    /// The error of a message that begins as those of another protocol do.
    #[cold]
    fn foreign(start: &[u8]) -> Option<WireError> {
        let key = match *start {
            [0x80..=0x8f, key, ..] => key, // a short map
            [0xde, _, _, key, ..] => key,  // one of 16 bits
            [b'{' | b'[', ..] => {
                return Some(
                    WireError::frame(ErrorKind::NotMsgpack, 0)
                        .found("what looks like JSON")
                        .expected("a chiral frame: the peer speaks another protocol"),
                );
            }
            _ => return None,
        };
        let is_text = matches!(key, 0xa0..=0xbf | 0xd9..=0xdb);
        is_text.then(|| {
            WireError::frame(ErrorKind::NotMsgpack, 0)
                .found("a msgpack map without its length in front, as openpi's servers send it")
                .expected("a chiral frame: the peer speaks another protocol")
        })
    }

    /// Bytes of the whole frame.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Never: a frame has at least its header's length.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The msgpack header.
    pub fn header(&self) -> &[u8] {
        &self.head[PREFIX_LEN..]
    }

    /// The raw payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The frame's bytes in order, as slices for a gather write; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.segments().map(|segment| &segment[..])
    }

    /// One of the [`chunks`](Self::chunks), by its place among them.
    #[cfg(feature = "websocket")]
    pub(crate) fn chunk(&self, index: usize) -> &[u8] {
        match index.checked_sub(1) {
            None => &self.head,
            Some(index) => &self.payload.segments[index],
        }
    }

    /// The frame's bytes in order, as shared buffers; none is empty. The first is the head.
    pub fn segments(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.head).chain(&self.payload.segments)
    }

    /// The whole frame as one buffer, for a transport that cannot gather. This copies.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.len());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.into()
    }

    pub(crate) fn head(&self) -> &Bytes {
        &self.head
    }
}

/// A frame's payload: one run of bytes, in one or more segments.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// None is empty.
    segments: Vec<Bytes>,
    len: usize,
}

impl Payload {
    pub(crate) fn with_capacity(segments: usize) -> Self {
        Self { segments: Vec::with_capacity(segments), len: 0 }
    }

    /// Appends a segment and returns the offset at which it lies.
    pub(crate) fn push(&mut self, segment: Bytes) -> usize {
        let offset = self.len;
        self.len += segment.len();
        if !segment.is_empty() {
            self.segments.push(segment);
        }
        offset
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload as one buffer; copies when it lies in more than one segment.
    pub fn contiguous(&self) -> Bytes {
        self.slice(0, self.len)
    }

    /// Bytes `[offset, offset + len)`, which the caller has checked: shared when they lie in one
    /// segment, gathered when they do not.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Bytes {
        let end = offset + len;
        let mut gathered = Vec::new();
        let mut start = 0;
        for segment in &self.segments {
            let stop = start + segment.len();
            if start <= offset && end <= stop {
                return segment.slice(offset - start..end - start);
            }
            if offset < stop && start < end {
                gathered.reserve_exact(len - gathered.len());
                gathered.extend_from_slice(
                    &segment[offset.saturating_sub(start)..end.min(stop) - start],
                );
            }
            start = stop;
        }
        gathered.into()
    }

    /// Whether `[offset, offset + len)` lies in one segment.
    pub(crate) fn is_shared(&self, offset: usize, len: usize) -> bool {
        let mut start = 0;
        len == 0
            || self.segments.iter().any(|segment| {
                let end = start + segment.len();
                let inside = start <= offset && offset + len <= end;
                start = end;
                inside
            })
    }

    fn copy_to(&self, out: &mut [u8]) -> usize {
        let wanted = out.len().min(self.len);
        out[..wanted].copy_from_slice(&self.slice(0, wanted));
        wanted
    }

    fn advance(&mut self, mut count: usize) {
        self.len -= count;
        self.segments.retain_mut(|segment| {
            let cut = count.min(segment.len());
            count -= cut;
            *segment = segment.slice(cut..);
            !segment.is_empty()
        });
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        [bytes].into_iter().collect()
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(segments: I) -> Self {
        let mut payload = Self::default();
        for segment in segments {
            payload.push(segment);
        }
        payload
    }
}

/// Equal when the bytes are, however they are cut.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        fn bytes(payload: &Payload) -> impl Iterator<Item = &u8> {
            payload.segments.iter().flatten()
        }
        self.len == other.len && bytes(self).eq(bytes(other))
    }
}
