//! Free-form maps: metadata, `info`, `extra`.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use chiral_blocking::proto::{Map, Value};

use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, Failure, c_text, chiral_status, guard, guard_or};
use crate::memory;

/// A free-form map from names to values: metadata, `info` and `extra`.
///
/// Its values are read and written as texts, or all of it as JSON. One thread at a time.
#[derive(Default)]
pub struct chiral_map {
    pub(crate) map: Map,
    /// Made when they are asked for.
    entries: OnceLock<Vec<(String, String)>>,
    json: OnceLock<CString>,
}

impl From<Map> for chiral_map {
    fn from(map: Map) -> Self {
        Self { map, ..Self::default() }
    }
}

impl chiral_map {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut map = std::mem::take(&mut self.map);
        map.insert(key, value);
        *self = map.into();
    }

    fn entries(&self) -> &[(String, String)] {
        self.entries.get_or_init(|| {
            self.map
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => (key, text),
                    other => (key, text_of(&other)),
                })
                .collect()
        })
    }
}

/// What is no text, as one: as JSON where that can say it.
fn text_of(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// A new, empty map.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_map_new() -> *mut chiral_map {
    memory::give(chiral_map::default())
}

/// Frees a map, and all texts that were read from it. Does nothing to a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_free(map: *mut chiral_map) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(map) };
}

/// Sets the value of a key to a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_set(
    map: *mut chiral_map,
    key: *const c_char,
    value: *const c_char,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let map = unsafe { memory::borrow_mut(map, "map")? };
        // SAFETY: as the header asks of callers.
        let key = unsafe { memory::text(key, "key")? };
        // SAFETY: as the header asks of callers.
        map.set(key, unsafe { memory::text(value, "value")? });
        Ok(CHIRAL_OK)
    })
}

/// Sets the value of a key to what a JSON text says: `50`, `true`, `[1, 7]`, `{"force": 12.5}`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_set_json(
    map: *mut chiral_map,
    key: *const c_char,
    json: *const c_char,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let map = unsafe { memory::borrow_mut(map, "map")? };
        // SAFETY: as the header asks of callers.
        let key = unsafe { memory::text(key, "key")? };
        // SAFETY: as the header asks of callers.
        let json = unsafe { memory::text(json, "json")? };
        let value: Value = serde_json::from_str(json).map_err(|error| {
            Failure::misuse(format_args!("the value of {key:?} is no JSON: {error}"))
        })?;
        map.set(key, value);
        Ok(CHIRAL_OK)
    })
}

/// Removes a key and its value; does nothing where there is no such key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_remove(
    map: *mut chiral_map,
    key: *const c_char,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let map = unsafe { memory::borrow_mut(map, "map")? };
        // SAFETY: as the header asks of callers.
        let key = unsafe { memory::text(key, "key")? };
        if map.map.get(key).is_some() {
            *map = map.map.iter().filter(|(found, _)| found != key).collect::<Map>().into();
        }
        Ok(CHIRAL_OK)
    })
}

/// An entry of a map, counted from 0, in their order: its key and its value as a text. What is not
/// a text is given as JSON. `CHIRAL_NOTHING` when there are not so many. The texts are valid until
/// the map is changed or freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_entry(
    map: *const chiral_map,
    index: usize,
    key: *mut *const c_char,
    key_len: *mut usize,
    value: *mut *const c_char,
    value_len: *mut usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let map = unsafe { memory::borrow(map, "map")? };
        let Some((found_key, found_value)) = map.entries().get(index) else {
            return Ok(CHIRAL_NOTHING);
        };
        // SAFETY: as the header asks of callers.
        *unsafe { memory::borrow_mut(key, "key")? } = found_key.as_ptr().cast();
        // SAFETY: as the header asks of callers.
        *unsafe { memory::borrow_mut(key_len, "key_len")? } = found_key.len();
        // SAFETY: as the header asks of callers.
        *unsafe { memory::borrow_mut(value, "value")? } = found_value.as_ptr().cast();
        // SAFETY: as the header asks of callers.
        *unsafe { memory::borrow_mut(value_len, "value_len")? } = found_value.len();
        Ok(CHIRAL_OK)
    })
}

/// All of a map as JSON; null when JSON cannot say it. Valid until the map is changed or freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_map_json(map: *const chiral_map) -> *const c_char {
    guard_or(std::ptr::null(), || {
        // SAFETY: as the header asks of callers.
        let map = unsafe { memory::borrow(map, "map")? };
        if let Some(json) = map.json.get() {
            return Ok(json.as_ptr());
        }
        let json = serde_json::to_string(&Value::from(map.map.clone())).map_err(|error| {
            Failure::misuse(format_args!("the map cannot be written as JSON: {error}"))
        })?;
        Ok(map.json.get_or_init(|| c_text(&json)).as_ptr())
    })
}
