use std::collections::HashMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::value::Value;

/// A free-form map with string keys: metadata, `info` and `extra`.
///
/// A decoded map keeps its bytes as they came, so it costs nothing until it is read, takes no more
/// memory than it did on the wire, and goes out again unchanged. Cloning is cheap.
///
/// Equality is of the encoding: the same entries in another order, or an integer in a wider
/// format, make another map.
///
/// ```
/// use chiral_proto::{Map, map};
///
/// let metadata = Map::new().with("robot", "arm-3").with("action_shape", vec![1, 7]);
/// assert_eq!(metadata.get("action_shape"), Some([1, 7].into()));
/// assert_eq!(format!("{metadata:?}"), r#"{"robot": "arm-3", "action_shape": [1, 7]}"#);
///
/// // The same in one expression, nested too.
/// assert_eq!(metadata, map! { "robot" => "arm-3", "action_shape" => [1, 7] });
/// let nested = map! { "gripper" => map! { "force" => 12.5, "fingers" => ["left", "right"] } };
/// assert_eq!(nested.get("gripper").expect("it is there")["force"].as_f64(), Some(12.5));
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
        let mut encoded = Vec::new();
        value.into().encode_into(&mut encoded);
        // What else the map holds stays as it is, byte for byte.
        let mut rest = &self.entries[..];
        let mut place = None;
        while let Some(found) = Value::decode(&mut rest) {
            let start = self.entries.len() - rest.len();
            // A value that is nested too deeply ends what can be read.
            if Value::decode(&mut rest).is_none() {
                break;
            }
            if found.as_str() == Some(key) {
                place = Some(start..self.entries.len() - rest.len());
            }
        }
        match place {
            Some(place) => {
                let entries = [&self.entries[..place.start], &encoded, &self.entries[place.end..]];
                self.entries = entries.concat().into();
            }
            None => self.push_encoded(key, &encoded),
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
        self.entries().filter_map(|(key, value)| match key {
            Value::String(key) => Some((key, value)),
            _ => None,
        })
    }

    /// All entries, those included whose key is no string.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Value, Value)> + '_ {
        let mut rest = &self.entries[..];
        std::iter::from_fn(move || Some((Value::decode(&mut rest)?, Value::decode(&mut rest)?)))
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

    /// A map over entries whose structure was already checked.
    pub(crate) fn from_checked(len: u32, entries: Bytes) -> Self {
        Self { len, entries }
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
        let entries = std::mem::take(&mut self.entries);
        let mut entries =
            entries.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        entries.extend_from_slice(&entry);
        self.entries = entries.freeze();
        self.len += 1;
    }
}

/// Of equal keys the last one counts.
impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut places = HashMap::new();
        let mut distinct: Vec<(String, Value)> = Vec::new();
        for (key, value) in entries {
            let (key, value) = (key.as_ref().to_owned(), value.into());
            if let Some(&place) = places.get(&key) {
                distinct[place] = (key, value);
            } else {
                places.insert(key.clone(), distinct.len());
                distinct.push((key, value));
            }
        }
        let mut map = Self::new();
        for (key, value) in distinct {
            let mut encoded = Vec::new();
            value.encode_into(&mut encoded);
            map.push_encoded(&key, &encoded);
        }
        map
    }
}

impl<K: AsRef<str>, V: Into<Value>, const LEN: usize> From<[(K, V); LEN]> for Map {
    fn from(entries: [(K, V); LEN]) -> Self {
        entries.into_iter().collect()
    }
}

/// Shows what goes out; see [`Value`].
impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries()).finish()
    }
}

/// As `Debug`.
impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A [`Map`] in one expression. Keys are strings; values are what [`Value`] is made from: numbers,
/// strings, options, lists, and maps of their own.
///
/// ```
/// use chiral_proto::map;
///
/// let joints = vec!["base".to_owned(), "elbow".to_owned()];
/// let metadata = map! {
///     "robot" => "arm-3",
///     "joints" => &joints,
///     "action" => map! { "shape" => [7], "dtype" => "float32", "max_speed" => None::<f64> },
/// };
/// assert_eq!(
///     format!("{metadata:?}"),
///     r#"{"robot": "arm-3", "joints": ["base", "elbow"], "#.to_owned()
///         + r#""action": {"shape": [7], "dtype": "float32", "max_speed": nil}}"#
/// );
/// assert!(map! {}.is_empty());
/// ```
#[macro_export]
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::Map::new()$(.with(::core::convert::AsRef::<str>::as_ref(&$key), $value))*
    };
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
        assert_eq!(map.to_string(), format!("{map:?}"));
    }

    #[test]
    fn insert_leaves_the_other_entries_byte_for_byte_and_replaces_the_one_that_counts() {
        // `a` in a wider format than needed, `b` twice, a key that is no string.
        let bytes = [b"\xa1a\xcd\x00\x01".as_slice(), b"\xa1b\x02", b"\x07\xc0", b"\xa1b\x03"];
        let mut map = Map::from_checked(4, bytes.concat().into());
        assert_eq!(map.get("b"), Some(3.into()));
        assert_eq!(format!("{map:?}"), r#"{"a": 1, "b": 2, 7: nil, "b": 3}"#);
        map.insert("b", 4);
        assert_eq!(map.get("b"), Some(4.into()));
        assert_eq!(map.encode()[1..], *[&bytes.concat()[..12], b"\x04".as_slice()].concat());
        assert_eq!(map.len(), 4);
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_to_be_read_does_not_panic() {
        let test = || {
            let nested = (0..2000).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
            let mut map = Map::new().with("a", nested).with("b", 1);
            map.insert("b", 2);
            assert_eq!((map.get("a"), map.len()), (None, 3));
        };
        // It is written recursively, which takes much of the stack without optimisations.
        let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test);
        thread.expect("there is memory").join().expect("it does not panic");
    }

    #[test]
    fn equal_keys_are_one_entry() {
        assert_eq!(Map::from([("a", 1), ("a", 2)]), map! { "a" => 2 });
        assert_eq!(map! { "a" => 1, String::from("a") => 2 }.len(), 1);
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
