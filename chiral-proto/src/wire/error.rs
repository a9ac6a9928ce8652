use std::fmt::{self, Write as _};

use super::message_type::MessageType;

/// A frame that could not be read: where, what was found there, and what was expected.
///
/// ```
/// use chiral_proto::wire::{ClientMessage, Frame, Limits};
///
/// let frame = Frame::parse((&b"\x07\0\0\0\x81\xa4type\x07"[..]).into(), &Limits::default())?;
/// let error = ClientMessage::decode(&frame, &Limits::default()).unwrap_err();
/// assert_eq!(error.to_string(), "field `type` at byte 10: found the integer 7, expected a string");
/// # Ok::<(), chiral_proto::wire::WireError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    kind: ErrorKind,
    message: Option<MessageType>,
    field: String,
    offset: usize,
    found: String,
    expected: String,
}

/// What kind of fault a [`WireError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The frame ends before what it announces.
    Truncated,
    /// The header is not one msgpack map.
    NotMsgpack,
    /// The message's `type` is none of the protocol's, or not one that this side receives.
    UnknownType,
    /// A field that the message must have is missing.
    MissingField,
    /// A field stands twice.
    DuplicateField,
    /// A field has a value of the wrong kind.
    WrongType,
    /// A number or a count is outside what the field allows.
    OutOfRange,
    /// Shape, dtype, size and offset of a buffer, or the payload, do not fit one another.
    BadBuffer,
    /// More than the [`Limits`](super::Limits) allow.
    Limit,
}

impl WireError {
    /// The longest text of `found` and `field` that is kept: a peer's megabyte is not repeated.
    const LONGEST: usize = 120;

    /// An error about the frame as a whole.
    pub(crate) fn frame(kind: ErrorKind, offset: usize) -> Self {
        Self::at(kind, "", offset)
    }

    /// An error about one field; `offset` is counted from the start of the frame.
    pub(crate) fn at(kind: ErrorKind, field: &str, offset: usize) -> Self {
        let mut details = Details {
            kind,
            message: None,
            field: String::new(),
            offset,
            found: String::new(),
            expected: String::new(),
        };
        push_bounded(&mut details.field, format_args!("{field}"));
        Self(Box::new(details))
    }

    pub(crate) fn found(mut self, found: impl fmt::Display) -> Self {
        push_bounded(&mut self.0.found, format_args!("{found}"));
        self
    }

    pub(crate) fn expected(mut self, expected: impl fmt::Display) -> Self {
        push_bounded(&mut self.0.expected, format_args!("{expected}"));
        self
    }

    /// The error as one of a field inside another: `outer.field`, `outer[3].field`.
    pub(crate) fn inside(mut self, outer: &str, index: Option<usize>) -> Self {
        let inner = std::mem::take(&mut self.0.field);
        let dot = if inner.is_empty() { "" } else { "." };
        let field = &mut self.0.field;
        match index {
            Some(index) => push_bounded(field, format_args!("{outer}[{index}]{dot}{inner}")),
            None => push_bounded(field, format_args!("{outer}{dot}{inner}")),
        }
        self
    }

    /// The error of a header that was expected to be a map and is something else.
    pub(crate) fn of_no_header(mut self) -> Self {
        if self.0.kind == ErrorKind::WrongType {
            self.0.kind = ErrorKind::NotMsgpack;
        }
        self
    }

    pub(crate) fn in_message(mut self, message: MessageType) -> Self {
        self.0.message.get_or_insert(message);
        self
    }

    /// The kind of fault.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The `type` of the message, where it could be read.
    pub fn message(&self) -> Option<MessageType> {
        self.0.message
    }

    /// The field, as in `cameras[2].image_size`; empty for the frame as a whole.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// The byte of the frame at which the fault lies.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// What was found.
    pub fn found_text(&self) -> &str {
        &self.0.found
    }

    /// What was expected.
    pub fn expected_text(&self) -> &str {
        &self.0.expected
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { message, field, offset, found, expected, .. } = &*self.0;
        match message {
            Some(message) if field.is_empty() => write!(f, "{message}: ")?,
            Some(message) => write!(f, "{message}: field `{field}` ")?,
            None if field.is_empty() => write!(f, "frame ")?,
            None => write!(f, "field `{field}` ")?,
        }
        write!(f, "at byte {offset}: found {found}, expected {expected}")
    }
}

impl std::error::Error for WireError {}

fn push_bounded(text: &mut String, piece: fmt::Arguments<'_>) {
    if text.ends_with('…') {
        return;
    }
    struct Bounded<'a>(&'a mut String);
    impl fmt::Write for Bounded<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            let room = WireError::LONGEST.saturating_sub(self.0.len());
            let end = (0..=room.min(piece.len())).rfind(|&end| piece.is_char_boundary(end));
            let end = end.unwrap_or(0);
            self.0.push_str(&piece[..end]);
            if end < piece.len() {
                self.0.push('…');
                return Err(fmt::Error);
            }
            Ok(())
        }
    }
    // The only error is that the text was cut short, which it says itself.
    let _ = Bounded(text).write_fmt(piece);
}
