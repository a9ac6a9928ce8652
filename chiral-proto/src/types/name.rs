use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// The name of a camera or of a proprioception stream: an immutable string that is cheap to clone.
///
/// Dereferences to `str`. A decoded name shares its frame's header, a few kilobytes; it never
/// keeps the frame's pixels alive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Bytes);

impl Name {
    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked at construction")
    }

    /// A name that shares the bytes, which the caller has found to be UTF-8.
    pub(crate) fn from_checked(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

// As `str` hashes, so that a map keyed by `Name` can be asked with a `&str`.
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(Bytes::from_static(name.as_bytes()))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&String> for Name {
    fn from(name: &String) -> Self {
        name.clone().into()
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A look-up by a name that nothing bears; it lists the names that exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is called {asked:?}; there {}", listing(.existing))]
pub struct UnknownName {
    what: &'static str,
    asked: String,
    existing: Vec<Name>,
}

impl UnknownName {
    pub(crate) fn new<'a>(
        what: &'static str,
        asked: &str,
        existing: impl Iterator<Item = &'a Name>,
    ) -> Self {
        Self { what, asked: asked.to_owned(), existing: existing.cloned().collect() }
    }

    /// The name that was asked for.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// The names that exist, in their order.
    pub fn existing(&self) -> &[Name] {
        &self.existing
    }
}

fn listing(names: &[Name]) -> String {
    match names {
        [] => "are none at all".to_owned(),
        [only] => format!("is {only:?}"),
        _ => {
            format!("are {}", names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", "))
        }
    }
}
