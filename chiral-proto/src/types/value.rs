use std::fmt;
use std::ops::Index;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One free-form value, as msgpack has them.
///
/// It is made with `into()` from what Rust has: booleans, integers, floats, strings, options (`None`
/// is nil), and lists, slices, arrays and maps of all these, also nested; a map of one's own is
/// written with [`map!`](crate::map). **A list of bytes is a list of integers**: binary is only what
/// is called so, [`Value::binary`] or [`Value::Binary`].
///
/// ```
/// use chiral_proto::Value;
///
/// assert_eq!(Value::from(vec![1, 7]), Value::Array(vec![1.into(), 7.into()]));
/// assert_eq!(format!("{:?}", Value::from(vec![1_u8, 7])), "[1, 7]");
/// assert_eq!(format!("{:?}", Value::binary([1, 7])), r#"b"\x01\x07""#);
///
/// let limits = Value::from(vec![Some(1.5), None]);
/// assert_eq!(limits[0].as_f64(), Some(1.5));
/// assert!(limits[1].is_nil());
/// ```
///
/// Shown, it is what goes out: integers without and floats with a fraction, `0.5_f32` for single
/// precision, strings in quotes, binary as `b"…"`, of which the first 32 bytes.
#[derive(Clone, Default, PartialEq)]
pub enum Value {
    /// Nothing.
    #[default]
    Nil,
    /// A truth value.
    Boolean(bool),
    /// An integer. Those beyond the range of `i64` and `u64` together, which msgpack does not have,
    /// go out as the nearest float.
    Integer(i128),
    /// A float of single precision.
    F32(f32),
    /// A float of double precision.
    F64(f64),
    /// A string.
    String(String),
    /// Bytes. What a peer sends as a string that is not UTF-8 is read as this, too.
    Binary(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// A map with keys of any kind, in the order in which they came.
    Map(Vec<(Value, Value)>),
    /// An extension of msgpack: its type and its data.
    Ext(i8, Vec<u8>),
}

impl Value {
    /// Bytes, as binary: `Value::from(bytes)` would make a list of integers.
    pub fn binary(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Whether this is nil.
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_integer()?.try_into().ok()
    }

    /// The integer, if it is one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_integer()?.try_into().ok()
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// The number, integer or float, as a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(integer) => Some(*integer as f64),
            Self::F32(number) => Some((*number).into()),
            Self::F64(number) => Some(*number),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of binary.
    pub fn as_binary(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key, if this is a map that has it. Where it stands twice, the last one counts.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let mut entries = self.as_map()?.iter().rev();
        entries.find(|(found, _)| found.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Reads one value, and leaves `bytes` behind it.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        rmpv::decode::read_value(bytes).ok().map(Self::from_rmpv)
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        rmpv::encode::write_value(out, &self.to_rmpv()).expect("a Vec takes every write");
    }

    fn from_rmpv(value: rmpv::Value) -> Self {
        match value {
            rmpv::Value::Nil => Self::Nil,
            rmpv::Value::Boolean(boolean) => Self::Boolean(boolean),
            rmpv::Value::Integer(integer) => Self::Integer(match integer.as_u64() {
                Some(integer) => integer.into(),
                None => integer.as_i64().unwrap_or_default().into(),
            }),
            rmpv::Value::F32(number) => Self::F32(number),
            rmpv::Value::F64(number) => Self::F64(number),
            rmpv::Value::String(text) => match String::from_utf8(text.into_bytes()) {
                Ok(text) => Self::String(text),
                Err(error) => Self::Binary(error.into_bytes()),
            },
            rmpv::Value::Binary(bytes) => Self::Binary(bytes),
            rmpv::Value::Array(elements) => {
                Self::Array(elements.into_iter().map(Self::from_rmpv).collect())
            }
            rmpv::Value::Map(entries) => {
                let entries = entries.into_iter();
                let entry = |(key, value)| (Self::from_rmpv(key), Self::from_rmpv(value));
                Self::Map(entries.map(entry).collect())
            }
            rmpv::Value::Ext(kind, bytes) => Self::Ext(kind, bytes),
        }
    }

    fn to_rmpv(&self) -> rmpv::Value {
        match self {
            Self::Nil => rmpv::Value::Nil,
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Integer(integer) => match (u64::try_from(*integer), i64::try_from(*integer)) {
                (Ok(integer), _) => integer.into(),
                (_, Ok(integer)) => integer.into(),
                _ => (*integer as f64).into(),
            },
            Self::F32(number) => (*number).into(),
            Self::F64(number) => (*number).into(),
            Self::String(text) => text.as_str().into(),
            Self::Binary(bytes) => rmpv::Value::Binary(bytes.clone()),
            Self::Array(elements) => {
                rmpv::Value::Array(elements.iter().map(Self::to_rmpv).collect())
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(Self, Self)| (key.to_rmpv(), value.to_rmpv());
                rmpv::Value::Map(entries.iter().map(entry).collect())
            }
            Self::Ext(kind, bytes) => rmpv::Value::Ext(*kind, bytes.clone()),
        }
    }
}

static NIL: Value = Value::Nil;

/// The value of a key of a map; nil where there is none.
impl Index<&str> for Value {
    type Output = Self;

    fn index(&self, key: &str) -> &Self {
        self.get(key).unwrap_or(&NIL)
    }
}

/// An element of a list; nil where there is none.
impl Index<usize> for Value {
    type Output = Self;

    fn index(&self, index: usize) -> &Self {
        self.as_array().and_then(|elements| elements.get(index)).unwrap_or(&NIL)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_rmpv().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rmpv::Value::deserialize(deserializer).map(Self::from_rmpv)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::F32(number) => write!(f, "{number:?}_f32"),
            Self::F64(number) => write!(f, "{number:?}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Binary(bytes) => write!(f, "{}", Shown(bytes)),
            Self::Array(elements) => f.debug_list().entries(elements).finish(),
            Self::Map(entries) => {
                f.debug_map().entries(entries.iter().map(|(key, value)| (key, value))).finish()
            }
            Self::Ext(kind, bytes) => write!(f, "ext({kind}, {})", Shown(bytes)),
        }
    }
}

/// As `Debug`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

struct Shown<'a>(&'a [u8]);

impl Shown<'_> {
    /// Bytes that are shown at the most.
    const LIMIT: usize = 32;
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(Self::LIMIT)];
        f.write_str("b\"")?;
        shown.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        f.write_str("\"")?;
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map;

    fn round_trip(value: &Value) -> Value {
        let mut bytes = Vec::new();
        value.encode_into(&mut bytes);
        Value::decode(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn debug_shows_what_goes_out() {
        let text = |value: &Value| {
            assert_eq!(value.to_string(), format!("{value:?}"));
            format!("{value:?}")
        };
        for (value, shown) in [
            (Value::Nil, "nil"),
            (true.into(), "true"),
            (u64::MAX.into(), "18446744073709551615"),
            (1.0.into(), "1.0"),
            (0.5_f32.into(), "0.5_f32"),
            ("a \"b\"\n\u{1b}".into(), r#""a \"b\"\n\u{1b}""#),
            (Value::binary(*b"ab"), r#"b"\x61\x62""#),
            (Value::Ext(-1, vec![7]), r#"ext(-1, b"\x07")"#),
            (vec![1_u8, 7].into(), "[1, 7]"),
            (map! { "a" => [1.5], "b" => None::<u8> }.into(), r#"{"a": [1.5], "b": nil}"#),
        ] {
            assert_eq!(text(&value), shown);
            assert_eq!(text(&round_trip(&value)), shown);
        }
        let long = text(&Value::binary(vec![0; 1000]));
        assert!(long.ends_with(r#"\x00"… (1000 bytes)"#) && long.len() < 200, "{long}");
    }

    #[test]
    fn values_go_out_as_they_come_back() {
        for value in [
            Value::from(i64::MIN),
            f64::INFINITY.into(),
            Value::Map(vec![(1.into(), Value::Nil), (vec![2.0].into(), "two".into())]),
        ] {
            assert_eq!(round_trip(&value), value);
        }
        let beyond = Value::Integer(i128::from(u64::MAX) + 1);
        assert_eq!(round_trip(&beyond), Value::F64(18_446_744_073_709_551_616.0));
        // A string that is not UTF-8.
        assert_eq!(Value::decode(&mut &[0xa1, 0xff][..]), Some(Value::binary([0xff])));
    }

    #[test]
    fn what_is_not_there_is_nil() {
        let value = Value::from(map! { "list" => [1, 2], "twice" => map! { "in" => true } });
        assert_eq!(value["list"][1].as_u64(), Some(2));
        assert_eq!(value["twice"]["in"].as_bool(), Some(true));
        for nothing in [&value["no"], &value["list"][2], &value["list"]["no"], &value[0]] {
            assert!(nothing.is_nil());
        }
        assert_eq!((Value::from(-1).as_u64(), Value::from(1.0).as_i64()), (None, None));
        assert_eq!(Value::from(-1).as_f64(), Some(-1.0));
    }

    #[test]
    fn a_value_is_a_part_of_any_serde_type() {
        let value = Value::from(map! { "name" => "arm", "limits" => vec![Some(1.5), None] });
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, r#"{"name":"arm","limits":[1.5,null]}"#);
        let parsed: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["limits"], value["limits"]);
    }
}
