//! Free-form values from what people have.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::map::Map;
use super::name::Name;
use super::value::Value;

macro_rules! from {
    ($variant:ident: $($type:ty),+) => {
        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    Self::$variant(value.into())
                }
            }

            impl From<&$type> for Value {
                fn from(value: &$type) -> Self {
                    (*value).into()
                }
            }
        )+
    };
}

from!(Boolean: bool);
from!(Integer: i8, i16, i32, i64, u8, u16, u32, u64);
from!(F32: f32);
from!(F64: f64);
from!(String: char, &str);

macro_rules! from_size {
    ($($type:ty),+) => {
        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    // No platform's is wider than 64 bits.
                    Self::Integer(value as i128)
                }
            }

            impl From<&$type> for Value {
                fn from(value: &$type) -> Self {
                    (*value).into()
                }
            }
        )+
    };
}

from_size!(usize, isize);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Self {
        text.into_owned().into()
    }
}

impl From<&Name> for Value {
    fn from(name: &Name) -> Self {
        (&**name).into()
    }
}

impl From<Name> for Value {
    fn from(name: Name) -> Self {
        (&name).into()
    }
}

/// `None` is nil.
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

/// A list, of bytes too.
impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(elements: Vec<T>) -> Self {
        elements.into_iter().collect()
    }
}

/// A list, of bytes too.
impl<T: Into<Self>> From<VecDeque<T>> for Value {
    fn from(elements: VecDeque<T>) -> Self {
        elements.into_iter().collect()
    }
}

/// A list, of bytes too.
impl<T: Into<Self>, const LEN: usize> From<[T; LEN]> for Value {
    fn from(elements: [T; LEN]) -> Self {
        elements.into_iter().collect()
    }
}

/// A list, of bytes too.
impl<T: Clone + Into<Self>> From<&[T]> for Value {
    fn from(elements: &[T]) -> Self {
        elements.iter().cloned().collect()
    }
}

/// A list, of bytes too.
impl<T: Clone + Into<Self>> From<&Vec<T>> for Value {
    fn from(elements: &Vec<T>) -> Self {
        elements.as_slice().into()
    }
}

/// A list, of bytes too.
impl<T: Clone + Into<Self>, const LEN: usize> From<&[T; LEN]> for Value {
    fn from(elements: &[T; LEN]) -> Self {
        elements.as_slice().into()
    }
}

/// A list.
impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self::Array(elements.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Self>, V: Into<Self>> From<BTreeMap<K, V>> for Value {
    fn from(entries: BTreeMap<K, V>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// The entries in any order.
impl<K: Into<Self>, V: Into<Self>, S> From<HashMap<K, V, S>> for Value {
    fn from(entries: HashMap<K, V, S>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// Keys that are no strings included.
impl From<&Map> for Value {
    fn from(map: &Map) -> Self {
        Self::Map(map.entries().collect())
    }
}

/// Keys that are no strings included.
impl From<Map> for Value {
    fn from(map: Map) -> Self {
        (&map).into()
    }
}

impl From<&Self> for Value {
    fn from(value: &Self) -> Self {
        value.clone()
    }
}

#[cfg(test)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "what is borrowed converts too")]
mod tests {
    use super::*;
    use crate::map;

    fn is(value: impl Into<Value>, shown: &str) {
        assert_eq!(format!("{:?}", value.into()), shown);
    }

    #[test]
    fn scalars_keep_their_kind() {
        is(true, "true");
        is(-1_i8, "-1");
        is(1_i16, "1");
        is(7, "7");
        is(i64::MIN, "-9223372036854775808");
        is(1_u8, "1");
        is(1_u16, "1");
        is(1_u32, "1");
        is(u64::MAX, "18446744073709551615");
        is(7_usize, "7");
        is(-7_isize, "-7");
        is(0.5, "0.5");
        is(0.5_f32, "0.5_f32");
        is("arm", r#""arm""#);
        is(String::from("arm"), r#""arm""#);
        is(&String::from("arm"), r#""arm""#);
        is(Cow::Borrowed("arm"), r#""arm""#);
        is('a', r#""a""#);
        is(Name::from("wrist"), r#""wrist""#);
        is(None::<f64>, "nil");
        is(Some("arm"), r#""arm""#);
    }

    #[test]
    fn lists_are_lists_and_binary_is_called_so() {
        is(vec![1, 7], "[1, 7]");
        is(vec![1_u8, 7], "[1, 7]");
        is([1_u8, 7], "[1, 7]");
        is(&[1_u8, 7], "[1, 7]");
        is(&[1_u8, 7][..], "[1, 7]");
        is(&vec![1_u8, 7], "[1, 7]");
        is(b"ab", "[97, 98]");
        is(vec![0.5, 1.0], "[0.5, 1.0]");
        is(vec!["a", "b"], r#"["a", "b"]"#);
        is(&["a", "b"], r#"["a", "b"]"#);
        is(["a".to_owned()], r#"["a"]"#);
        is(&["a".to_owned()], r#"["a"]"#);
        is(vec![Some(1), None], "[1, nil]");
        is(vec![vec![1.0], vec![]], "[[1.0], []]");
        is([[1, 2], [3, 4]], "[[1, 2], [3, 4]]");
        is(VecDeque::from([1, 2]), "[1, 2]");
        is((0..3).collect::<Value>(), "[0, 1, 2]");
        is(vec![Value::from(1), "two".into(), Value::Nil], r#"[1, "two", nil]"#);
        is(Value::binary([1, 7]), r#"b"\x01\x07""#);
        is(vec![Value::binary([1])], r#"[b"\x01"]"#);
    }

    #[test]
    fn maps_nest() {
        is(BTreeMap::from([("a", vec![1])]), r#"{"a": [1]}"#);
        is(HashMap::from([(String::from("a"), 1.5)]), r#"{"a": 1.5}"#);
        is(BTreeMap::from([(1, "one")]), r#"{1: "one"}"#);
        is(Map::new().with("b", Map::new().with("c", [1])), r#"{"b": {"c": [1]}}"#);
        is(vec![map! { "name" => "wrist" }], r#"[{"name": "wrist"}]"#);
    }
}
