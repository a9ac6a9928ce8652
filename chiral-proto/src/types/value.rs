use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// One free-form value: nil, bool, integer, float, string, binary, array, map or ext.
///
/// This is [`rmpv::Value`]: it converts from Rust's own types with `into()`, is read with
/// `as_str`, `as_f64`, …, and indexed with `value["key"]`.
pub use rmpv::Value;

/// A free-form map with string keys: metadata, `info` and `extra`.
///
/// A decoded map keeps its bytes as they came, so it costs nothing until it is read, takes no more
/// memory than it did on the wire, and goes out again unchanged. Cloning is cheap.
///
/// Equality is of the encoding: the same entries in another order, or an integer in a wider
/// format, make another map.
///
/// ```
/// use chiral_proto::Map;
/// # #[derive(Debug, PartialEq)]
/// # struct Gripper { force: f64 }
///
/// let metadata = Map::new().with("robot", "arm-3").with("joints", 7);
/// assert_eq!(metadata.get("joints").and_then(|joints| joints.as_u64()), Some(7));
///
/// // Or any `serde` type that serialises to a map.
/// let joints: std::collections::BTreeMap<String, f64> = [("elbow".into(), 1.5)].into();
/// let info = Map::from_serialize(&joints)?;
/// assert_eq!(info.deserialize::<std::collections::BTreeMap<String, f64>>()?, joints);
/// # Ok::<(), chiral_proto::ValueError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Map {
    len: u32,
    /// The entries as msgpack, key after value after key, without the map's own header.
    entries: Bytes,
}

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self { len: 0, entries: Bytes::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key. Where a peer wrote a key twice, the last one counts.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.iter().filter(|(k, _)| k == key).last().map(|(_, value)| value)
    }

    /// Sets the value of a key, in its old place if it has one, else at the end.
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if self.iter().any(|(k, _)| k == key) {
            let kept = self.iter().map(|(k, old)| {
                let value = if k == key { value.clone() } else { old };
                (k, value)
            });
            *self = kept.collect();
        } else {
            self.push(key, &value);
        }
    }

    /// The same map with one more entry: for building a map in one expression.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// The entries in their order, those whose key is a string.
    pub fn iter(&self) -> impl Iterator<Item = (String, Value)> + '_ {
        let mut rest = &self.entries[..];
        std::iter::from_fn(move || {
            let key = rmpv::decode::read_value(&mut rest).ok()?;
            let value = rmpv::decode::read_value(&mut rest).ok()?;
            Some((key, value))
        })
        .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)))
    }

    /// The map of a `serde` value: of a struct by its field names, or of a map with string keys.
    ///
    /// # Errors
    /// When the value does not serialise, or not to a map with string keys.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, ValueError> {
        let encoded = rmp_serde::to_vec_named(value).map_err(|e| ValueError(e.to_string()))?;
        let mut rest = &encoded[..];
        let len = rmp::decode::read_map_len(&mut rest)
            .map_err(|_| ValueError("expected a struct or a map with string keys".to_owned()))?;
        let start = encoded.len() - rest.len();
        let map = Self { len, entries: Bytes::from(encoded).slice(start..) };
        if map.iter().count() == map.len() {
            Ok(map)
        } else {
            Err(ValueError("expected every key of the map to be a string".to_owned()))
        }
    }

    /// Reads the map as a `serde` type. An integer serves where a float is wanted.
    ///
    /// # Errors
    /// When the entries are not what `T` expects.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        rmp_serde::from_slice(&self.encode()).map_err(|e| ValueError(e.to_string()))
    }

    /// The map as msgpack.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(5 + self.entries.len());
        self.encode_into(&mut out);
        out.into()
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        rmp::encode::write_map_len(out, self.len).expect("a Vec takes every write");
        out.extend_from_slice(&self.entries);
    }

    /// Bytes that [`encode_into`](Self::encode_into) needs at the most.
    pub(crate) fn encoded_len(&self) -> usize {
        5 + self.entries.len()
    }

    /// The entries as msgpack, key after value after key.
    pub(crate) fn encoded_entries(&self) -> &[u8] {
        &self.entries
    }

    /// Appends an entry whose key is not there yet and whose value is msgpack already.
    pub(crate) fn push_encoded(&mut self, key: &str, value: &[u8]) {
        let mut entry = Vec::with_capacity(5 + key.len() + value.len());
        rmp::encode::write_str(&mut entry, key).expect("a Vec takes every write");
        entry.extend_from_slice(value);
        self.push_entry(&entry);
    }

    /// A map over entries whose structure was already checked.
    pub(crate) fn from_checked(len: u32, entries: Bytes) -> Self {
        Self { len, entries }
    }

    fn push(&mut self, key: &str, value: &Value) {
        let mut entry = Vec::new();
        rmp::encode::write_str(&mut entry, key).expect("a Vec takes every write");
        rmpv::encode::write_value(&mut entry, value).expect("a Vec takes every write");
        self.push_entry(&entry);
    }

    fn push_entry(&mut self, entry: &[u8]) {
        let entries = std::mem::take(&mut self.entries);
        let mut entries =
            entries.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        entries.extend_from_slice(entry);
        self.entries = entries.freeze();
        self.len += 1;
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.push(key.as_ref(), &value.into());
        }
        map
    }
}

impl<K: AsRef<str>, V: Into<Value>, const LEN: usize> From<[(K, V); LEN]> for Map {
    fn from(entries: [(K, V); LEN]) -> Self {
        entries.into_iter().collect()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct AsShown<'a>(&'a Value);
        impl fmt::Debug for AsShown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0, f)
            }
        }
        let mut map = f.debug_map();
        for (key, value) in self.iter() {
            map.entry(&key, &AsShown(&value));
        }
        map.finish()
    }
}

/// A free-form map and a `serde` type that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("free-form map: {0}")]
pub struct ValueError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_replaces_in_place() {
        let mut map = Map::from([("a", 1), ("b", 2)]);
        map.insert("a", 3);
        map.insert("c", "x");
        assert_eq!(map, Map::from([("a", 3), ("b", 2)]).with("c", "x"));
        assert_eq!(map.len(), 3);
        assert_eq!(map.get("a"), Some(3.into()));
        assert_eq!(map.get("nothing"), None);
        assert_eq!(format!("{map:?}"), r#"{"a": 3, "b": 2, "c": "x"}"#);
    }

    #[test]
    fn an_integer_deserialises_as_a_float() {
        let map = Map::new().with("mass", 2);
        let floats: std::collections::BTreeMap<String, f64> = map.deserialize().unwrap();
        assert_eq!(floats["mass"].to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn values_that_are_not_maps_are_rejected() {
        assert!(Map::from_serialize(&7).is_err());
        assert!(Map::from_serialize(&std::collections::BTreeMap::from([(1, 2)])).is_err());
        let error =
            Map::new().with("x", "word").deserialize::<std::collections::BTreeMap<String, u8>>();
        assert!(error.is_err());
    }
}
