//! FreeForm-form values as JSON, as they came.

use std::collections::HashMap;

use chiral_proto::{Map, Value};
use data_encoding::HEXLOWER;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A number: what JSON has no way to write is `"nan"`, `"inf"` or `"-inf"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            number if number.is_finite() => serializer.serialize_f64(number),
            number if number.is_nan() => serializer.serialize_str("nan"),
            number if number > 0.0 => serializer.serialize_str("inf"),
            _ => serializer.serialize_str("-inf"),
        }
    }
}

/// A free-form value. Binary is `{"bin": hex}`, an extension `{"ext": [type, hex]}`, a map with a
/// key that is no string `{"map": [[key, value], …]}`; a string that is not UTF-8 counts as
/// binary. Where a key stands twice the last value counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FreeForm(pub(super) Value);

impl From<&Map> for FreeForm {
    /// The whole map, keys that are no strings included.
    fn from(map: &Map) -> Self {
        Self(map.into())
    }
}

impl FreeForm {
    /// The entries of a map; none of anything else.
    pub(super) fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let entries = match self.0 {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        };
        entries.into_iter().map(|(key, value)| (Self(key), Self(value)))
    }
}

impl Serialize for FreeForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Borrowed(&self.0).serialize(serializer)
    }
}

struct Borrowed<'a>(&'a Value);

impl Serialize for Borrowed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Nil => serializer.serialize_unit(),
            Value::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Value::Integer(integer) => integer.serialize(serializer),
            Value::F32(number) => Number((*number).into()).serialize(serializer),
            Value::F64(number) => Number(*number).serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Binary(bytes) => tagged(serializer, "bin", &hex(bytes)),
            Value::Ext(kind, bytes) => tagged(serializer, "ext", &(kind, hex(bytes))),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Borrowed)),
            Value::Map(entries) => serialize_map(serializer, entries),
        }
    }
}

fn serialize_map<S: Serializer>(
    serializer: S,
    entries: &[(Value, Value)],
) -> Result<S::Ok, S::Error> {
    let keys: Option<Vec<&str>> = entries.iter().map(|(key, _)| key.as_str()).collect();
    let Some(keys) = keys else {
        let pairs: Vec<_> =
            entries.iter().map(|(key, value)| (Borrowed(key), Borrowed(value))).collect();
        return tagged(serializer, "map", &pairs);
    };
    let last: HashMap<&str, &Value> =
        keys.iter().copied().zip(entries.iter().map(|(_, value)| value)).collect();
    let mut map = serializer.serialize_map(Some(last.len()))?;
    let mut left = last;
    for key in keys {
        if let Some(value) = left.remove(key) {
            map.serialize_entry(key, &Borrowed(value))?;
        }
    }
    map.end()
}

fn tagged<S: Serializer>(
    serializer: S,
    tag: &str,
    value: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, value)?;
    map.end()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Into<Value>) -> String {
        serde_json::to_string(&FreeForm(value.into())).unwrap()
    }

    #[test]
    fn integers_keep_their_full_range() {
        assert_eq!(json(u64::MAX), "18446744073709551615");
        assert_eq!(json(i64::MIN), "-9223372036854775808");
    }

    #[test]
    fn floats_round_trip_as_floats() {
        assert_eq!(json(1.0), "1.0");
        assert_eq!(json(-0.0), "-0.0");
        // The nearest f64 to the f32, not the shortest f32.
        assert_eq!(json(0.1_f32), "0.10000000149011612");
        for number in [0.1, 1e16, 5e-324, f64::MAX, 1.0 / 3.0] {
            assert_eq!(json(number).parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
        assert_eq!(json(f64::NAN), r#""nan""#);
        assert_eq!(json(f64::INFINITY), r#""inf""#);
        assert_eq!(json(f32::NEG_INFINITY), r#""-inf""#);
    }

    #[test]
    fn values_without_a_json_equivalent_are_tagged() {
        assert_eq!(json(Value::Binary(vec![0, 255])), r#"{"bin":"00ff"}"#);
        assert_eq!(json(Value::Ext(-1, vec![1, 2])), r#"{"ext":[-1,"0102"]}"#);
        assert_eq!(json(Value::Nil), "null");
        let map = Value::Map(vec![(1.into(), "one".into()), ("two".into(), Value::Array(vec![]))]);
        assert_eq!(json(map), r#"{"map":[[1,"one"],["two",[]]]}"#);
    }

    #[test]
    fn maps_keep_key_order_and_the_last_duplicate_value() {
        let entries = [("b", 1), ("a", 2), ("b", 3)];
        let map = entries.map(|(key, value)| (key.into(), value.into())).to_vec();
        assert_eq!(json(Value::Map(map)), r#"{"b":3,"a":2}"#);
    }
}
