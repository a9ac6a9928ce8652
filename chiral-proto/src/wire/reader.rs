use std::fmt;
use std::time::Duration;

use rmp::Marker;

use super::error::{ErrorKind, WireError};
use super::frame::PREFIX_LEN;
use super::limits::Limits;

/// A position in a frame's msgpack header. Every read checks what stands there, and an error says
/// where it was.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    header: &'a [u8],
    at: usize,
}

/// A number in any of msgpack's formats.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(n) => n as f64,
            Self::Signed(n) => n as f64,
            Self::Float(x) => x,
        }
    }

    /// The number as one that counts, if it is whole and not negative.
    fn as_u64(self) -> Option<u64> {
        // 2^53: every integer up to it is a float of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Unsigned(n) => Some(n),
            Self::Signed(n) => n.try_into().ok(),
            Self::Float(x) if (0.0..=EXACT).contains(&x) && x.fract() == 0.0 => Some(x as u64),
            Self::Float(_) => None,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(n) => write!(f, "the integer {n}"),
            Self::Signed(n) => write!(f, "the integer {n}"),
            Self::Float(x) => write!(f, "the float {x}"),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(header: &'a [u8]) -> Self {
        Self { header, at: 0 }
    }

    /// The same header, at a position that an earlier reader was at.
    pub(super) fn seek(&self, at: usize) -> Self {
        Self { header: self.header, at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> usize {
        self.header.len() - self.at
    }

    /// The byte of the frame at which the reader stands.
    pub(super) fn offset(&self) -> usize {
        PREFIX_LEN + self.at
    }

    fn peek(&self, field: &str) -> Result<Marker, WireError> {
        match self.header.get(self.at) {
            Some(&byte) => Ok(Marker::from_u8(byte)),
            None => Err(self.truncated(field, 1)),
        }
    }

    fn take(&mut self, field: &str, count: usize) -> Result<&'a [u8], WireError> {
        if count > self.rest() {
            return Err(self.truncated(field, count));
        }
        let taken = &self.header[self.at..][..count];
        self.at += count;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    fn marker(&mut self, field: &str) -> Result<Marker, WireError> {
        let marker = self.peek(field)?;
        self.at += 1;
        Ok(marker)
    }

    /// The length that stands behind a marker, in a big-endian integer of `width` bytes.
    fn length(&mut self, field: &str, width: usize) -> Result<usize, WireError> {
        let bytes = self.take(field, width)?;
        Ok(bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    #[cold]
    fn truncated(&self, field: &str, wanted: usize) -> WireError {
        WireError::at(ErrorKind::Truncated, field, self.offset())
            .found(format_args!("{} more bytes of header", self.rest()))
            .expected(format_args!("{wanted}"))
    }

    #[cold]
    fn wrong_type(&self, field: &str, expected: &str) -> WireError {
        let mut at = self.clone();
        let found = match at.number(field) {
            Ok(number) => number.to_string(),
            Err(_) => self.peek(field).map_or("the header's end", describe).to_owned(),
        };
        WireError::at(ErrorKind::WrongType, field, self.offset()).found(found).expected(expected)
    }

    /// The number of entries of a map; the reader then stands at the first key.
    pub(super) fn map_len(&mut self, field: &str) -> Result<usize, WireError> {
        match self.peek(field)? {
            Marker::FixMap(len) => {
                self.at += 1;
                Ok(len.into())
            }
            marker @ (Marker::Map16 | Marker::Map32) => {
                self.at += 1;
                self.length(field, if marker == Marker::Map16 { 2 } else { 4 })
            }
            _ => Err(self.wrong_type(field, "a map")),
        }
    }

    /// The number of elements of an array; the reader then stands at the first.
    pub(super) fn array_len(&mut self, field: &str) -> Result<usize, WireError> {
        match self.peek(field)? {
            Marker::FixArray(len) => {
                self.at += 1;
                Ok(len.into())
            }
            marker @ (Marker::Array16 | Marker::Array32) => {
                self.at += 1;
                self.length(field, if marker == Marker::Array16 { 2 } else { 4 })
            }
            _ => Err(self.wrong_type(field, "an array")),
        }
    }

    /// The bytes of a string, whose UTF-8 is not yet checked, if a string stands here.
    pub(super) fn try_string(&mut self, field: &str) -> Result<Option<&'a [u8]>, WireError> {
        let width = match self.peek(field)? {
            Marker::FixStr(len) => {
                self.at += 1;
                return self.take(field, len.into()).map(Some);
            }
            Marker::Str8 => 1,
            Marker::Str16 => 2,
            Marker::Str32 => 4,
            _ => return Ok(None),
        };
        self.at += 1;
        let len = self.length(field, width)?;
        self.take(field, len).map(Some)
    }

    /// A string; the range is where its bytes lie in the header.
    pub(super) fn string(&mut self, field: &str) -> Result<(&'a str, usize), WireError> {
        let offset = self.offset();
        let bytes = self.try_string(field)?.ok_or_else(|| self.wrong_type(field, "a string"))?;
        let text = std::str::from_utf8(bytes).map_err(|error| {
            WireError::at(ErrorKind::WrongType, field, offset)
                .found(format_args!("a string with bad UTF-8 at its byte {}", error.valid_up_to()))
                .expected("UTF-8")
        })?;
        Ok((text, self.at - bytes.len()))
    }

    /// A bool, or a number as Python takes it for one: 0 is false.
    pub(super) fn truth(&mut self, field: &str) -> Result<bool, WireError> {
        if let Some(boolean) = self.try_boolean(field)? {
            return Ok(boolean);
        }
        let mut number = self.clone();
        match number.number(field) {
            Ok(found) => {
                *self = number;
                Ok(found.as_f64() != 0.0)
            }
            Err(_) => Err(self.wrong_type(field, "a bool")),
        }
    }

    fn try_boolean(&mut self, field: &str) -> Result<Option<bool>, WireError> {
        let boolean = match self.peek(field)? {
            Marker::True => true,
            Marker::False => false,
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(boolean))
    }

    /// Steps over a nil, if one stands here.
    pub(super) fn nil(&mut self, field: &str) -> Result<bool, WireError> {
        let nil = self.peek(field)? == Marker::Null;
        self.at += usize::from(nil);
        Ok(nil)
    }

    fn number(&mut self, field: &str) -> Result<Number, WireError> {
        use Number::{Float, Signed, Unsigned};
        let start = self.clone();
        Ok(match self.marker(field)? {
            Marker::FixPos(n) => Unsigned(n.into()),
            Marker::FixNeg(n) => Signed(n.into()),
            Marker::U8 => Unsigned(u8::from_be_bytes(self.take_array(field)?).into()),
            Marker::U16 => Unsigned(u16::from_be_bytes(self.take_array(field)?).into()),
            Marker::U32 => Unsigned(u32::from_be_bytes(self.take_array(field)?).into()),
            Marker::U64 => Unsigned(u64::from_be_bytes(self.take_array(field)?)),
            Marker::I8 => Signed(i8::from_be_bytes(self.take_array(field)?).into()),
            Marker::I16 => Signed(i16::from_be_bytes(self.take_array(field)?).into()),
            Marker::I32 => Signed(i32::from_be_bytes(self.take_array(field)?).into()),
            Marker::I64 => Signed(i64::from_be_bytes(self.take_array(field)?)),
            Marker::F32 => Float(f32::from_be_bytes(self.take_array(field)?).into()),
            Marker::F64 => Float(f64::from_be_bytes(self.take_array(field)?)),
            marker => {
                return Err(WireError::at(ErrorKind::WrongType, field, start.offset())
                    .found(describe(marker))
                    .expected("a number"));
            }
        })
    }

    /// A number in any format, as a float; of a bool, 0 or 1.
    pub(super) fn float(&mut self, field: &str) -> Result<f64, WireError> {
        // As most floats come: matrices are many of them.
        if let Some([F64, bytes @ ..]) = self.header[self.at..].first_chunk::<9>() {
            self.at += 9;
            return Ok(f64::from_be_bytes(*bytes));
        }
        match self.try_boolean(field)? {
            Some(boolean) => Ok(f64::from(u8::from(boolean))),
            None => self.number(field).map(Number::as_f64),
        }
    }

    /// A number in any format that counts bytes or elements.
    pub(super) fn size(&mut self, field: &str) -> Result<usize, WireError> {
        let offset = self.offset();
        let number = self.number(field)?;
        number.as_u64().and_then(|size| size.try_into().ok()).ok_or_else(|| {
            WireError::at(ErrorKind::OutOfRange, field, offset)
                .found(number)
                .expected("a whole number that is not negative and fits the memory")
        })
    }

    /// A whole number that is not negative, if one stands here.
    pub(super) fn whole(&mut self) -> Option<u64> {
        self.number("").ok()?.as_u64()
    }

    /// A time in seconds, if a number stands here that can be one.
    pub(super) fn seconds(&mut self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.number("").ok()?.as_f64()).ok()
    }

    /// Steps over one value of any kind, checking its structure against the limits. `budget`
    /// counts the values that may still come.
    pub(super) fn skip(
        &mut self,
        field: &str,
        limits: &Limits,
        depth: usize,
        budget: &mut usize,
    ) -> Result<(), WireError> {
        self.skip_values(1, field, limits, depth, budget)
    }

    fn skip_values(
        &mut self,
        count: usize,
        field: &str,
        limits: &Limits,
        depth: usize,
        budget: &mut usize,
    ) -> Result<(), WireError> {
        if count > self.rest() {
            return Err(self.truncated(field, count)); // a value has one byte at the least
        }
        if count > 0 && depth > limits.depth.min(Limits::MAX_DEPTH) {
            return Err(self.too_deep(field, limits, depth));
        }
        self.count(count, field, limits, budget)?;
        let mut left = count;
        loop {
            left -= self.skip_leaves(left);
            if left == 0 {
                return Ok(());
            }
            let (bytes, values) = self.extent(field)?;
            self.take(field, bytes)?;
            self.skip_values(values, field, limits, depth + 1, budget)?;
            left -= 1;
        }
    }

    /// Counts values that were stepped over.
    pub(super) fn count(
        &self,
        values: usize,
        field: &str,
        limits: &Limits,
        budget: &mut usize,
    ) -> Result<(), WireError> {
        *budget = budget.checked_sub(values).ok_or_else(|| self.too_many(field, limits))?;
        Ok(())
    }

    /// Steps over the leaves that come next, and returns how many they were. Most values by far
    /// are leaves.
    fn skip_leaves(&mut self, at_most: usize) -> usize {
        let mut rest = &self.header[self.at..];
        let mut skipped = 0;
        while skipped < at_most
            && let Some(&marker) = rest.first()
            && let len @ 1.. = usize::from(LEAF_LEN[usize::from(marker)])
            && let Some(behind) = rest.get(len..)
        {
            rest = behind;
            skipped += 1;
        }
        self.at = self.header.len() - rest.len();
        skipped
    }

    /// What follows the marker of a value that is no leaf: so many bytes, then so many values.
    fn extent(&mut self, field: &str) -> Result<(usize, usize), WireError> {
        let start = self.offset();
        Ok(match self.marker(field)? {
            Marker::Str8 | Marker::Bin8 => (self.length(field, 1)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.length(field, 2)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.length(field, 4)?, 0),
            // An ext has one byte of type before its data.
            Marker::Ext8 => (self.length(field, 1)? + 1, 0),
            Marker::Ext16 => (self.length(field, 2)? + 1, 0),
            Marker::Ext32 => (self.length(field, 4)?.saturating_add(1), 0),
            Marker::FixArray(len) => (0, len.into()),
            Marker::Array16 => (0, self.length(field, 2)?),
            Marker::Array32 => (0, self.length(field, 4)?),
            Marker::FixMap(len) => (0, 2 * usize::from(len)),
            Marker::Map16 => (0, 2 * self.length(field, 2)?),
            Marker::Map32 => (0, self.length(field, 4)?.saturating_mul(2)),
            Marker::Reserved => {
                return Err(WireError::at(ErrorKind::NotMsgpack, field, start)
                    .found("the byte 0xc1")
                    .expected("a msgpack value: 0xc1 is none"));
            }
            // A leaf that the header's end cuts off.
            leaf => (usize::from(LEAF_LEN[usize::from(leaf.to_u8())]) - 1, 0),
        })
    }

    #[cold]
    fn too_deep(&self, field: &str, limits: &Limits, depth: usize) -> WireError {
        let deepest = limits.depth.min(Limits::MAX_DEPTH);
        WireError::at(ErrorKind::Limit, field, self.offset())
            .found(format_args!("values nested {depth} deep"))
            .expected(format_args!("at most {deepest} (`Limits::depth`)"))
    }

    #[cold]
    fn too_many(&self, field: &str, limits: &Limits) -> WireError {
        WireError::at(ErrorKind::Limit, field, self.offset())
            .found("more values in the header")
            .expected(format_args!("at most {} (`Limits::values`)", limits.values))
    }
}

const F64: u8 = 0xcb;

/// Bytes of a value whose marker alone tells its length, the marker included; 0 for the others.
const LEAF_LEN: [u8; 256] = {
    let mut lens = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        lens[byte] = match byte as u8 {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1, // small integers, nil, bools
            text @ 0xa0..=0xbf => 1 + (text & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            F64 | 0xcf | 0xd3 => 9,
            ext @ 0xd4..=0xd8 => 2 + (1 << (ext - 0xd4)),
            _ => 0,
        };
        byte += 1;
    }
    lens
};

fn describe(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nil",
        Marker::True => "true",
        Marker::False => "false",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "a string",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "binary data",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "an array",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        Marker::Reserved => "the byte 0xc1",
        Marker::F32 | Marker::F64 => "a float",
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => "an ext value",
        _ => "an integer",
    }
}
