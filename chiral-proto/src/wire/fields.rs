use super::error::{ErrorKind, WireError};
use super::limits::Limits;
use super::reader::Reader;

/// Where the known keys of a map have their values. Keys may come in any order; unknown ones are
/// passed over.
pub(super) struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<usize>; N],
    map: Reader<'a>,
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Finds the values of `names` in the map at which `reader` stands, and checks the whole map's
    /// structure on the way. `reader` then stands behind the map.
    pub(super) fn scan(
        reader: &mut Reader<'a>,
        names: &'static [&'static str; N],
        limits: &Limits,
        budget: &mut usize,
    ) -> Result<Self, WireError> {
        let map = reader.clone();
        let mut values = [None; N];
        for _ in 0..reader.map_len("")? {
            let key_offset = reader.offset();
            let mut at_key = reader.clone();
            reader.skip("", limits, 2, budget)?;
            let key = at_key.try_string("")?;
            let known = key.and_then(|key| names.iter().position(|name| name.as_bytes() == key));
            let name = known.map_or("", |index| names[index]);
            if let Some(index) = known
                && values[index].replace(reader.position()).is_some()
            {
                return Err(WireError::at(ErrorKind::DuplicateField, name, key_offset)
                    .found("the key a second time")
                    .expected("every key once"));
            }
            reader.skip(name, limits, 2, budget)?;
        }
        Ok(Self { names, values, map })
    }

    /// As [`scan`](Self::scan), of a map inside one that was scanned: its values are counted.
    pub(super) fn rescan(
        reader: &mut Reader<'a>,
        names: &'static [&'static str; N],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let mut counted = usize::MAX;
        Self::scan(reader, names, limits, &mut counted)
    }

    /// The value of a key that the map must have.
    pub(super) fn required(&self, name: &'static str) -> Result<Reader<'a>, WireError> {
        self.optional(name).ok_or_else(|| {
            WireError::at(ErrorKind::MissingField, name, self.map.offset())
                .found("no such key in the map")
                .expected("the key")
        })
    }

    /// The value of a key that the map may leave out.
    pub(super) fn optional(&self, name: &'static str) -> Option<Reader<'a>> {
        let index = self.names.iter().position(|known| *known == name);
        let index = index.expect("asked only for names that were scanned for");
        self.values[index].map(|at| self.map.seek(at))
    }

    /// As [`optional`](Self::optional), with nil standing for no value.
    pub(super) fn present(&self, name: &'static str) -> Option<Reader<'a>> {
        self.optional(name).filter(|reader| !reader.clone().nil(name).unwrap_or(false))
    }
}
