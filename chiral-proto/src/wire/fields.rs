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
        let mut next = 0;
        for _ in 0..reader.map_len("")? {
            let key_offset = reader.offset();
            let key = reader.try_string("")?;
            match key {
                Some(_) => reader.count(1, "", limits, budget)?,
                None => reader.skip("", limits, 2, budget)?,
            }
            // Peers write keys in a fixed order: the next one is likely where the last one ended.
            let known = key.and_then(|key| {
                (next..N).chain(0..next).find(|&index| names[index].as_bytes() == key)
            });
            next = known.map_or(next, |index| index + 1);
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

    /// The field of one of the names.
    pub(super) fn field(&self, name: &'static str) -> Field<'a> {
        let index = self.names.iter().position(|known| *known == name);
        self.at(index.expect("asked only for names that were scanned for"))
    }

    /// Every field, in the order of the names: for maps of which a frame has many.
    pub(super) fn all(&self) -> [Field<'a>; N] {
        std::array::from_fn(|index| self.at(index))
    }

    fn at(&self, index: usize) -> Field<'a> {
        Field { name: self.names[index], map: self.map.clone(), value: self.values[index] }
    }

    /// The value of a key that the map must have.
    pub(super) fn required(&self, name: &'static str) -> Result<Reader<'a>, WireError> {
        self.field(name).required()
    }

    /// The value of a key that the map may leave out; nil stands for no value.
    pub(super) fn present(&self, name: &'static str) -> Option<Reader<'a>> {
        self.field(name).present()
    }
}

/// A key of the protocol and its value in one map, if it has one there.
///
/// What a value means that is missing, or not quite of the kind, is decided here and in
/// [`Reader`]'s `float` and `truth`, for all messages alike; the module's documentation has the
/// table.
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    map: Reader<'a>,
    value: Option<usize>,
}

impl<'a> Field<'a> {
    /// The value, which the map must have.
    pub(super) fn required(&self) -> Result<Reader<'a>, WireError> {
        self.optional().ok_or_else(|| {
            WireError::at(ErrorKind::MissingField, self.name, self.map.offset())
                .found("no such key in the map")
                .expected("the key")
        })
    }

    /// A number: 0 where it is missing.
    pub(super) fn number_or_zero(&self) -> Result<f64, WireError> {
        self.present().map_or(Ok(0.0), |mut reader| reader.float(self.name))
    }

    /// A truth value: false where it is missing.
    pub(super) fn flag(&self) -> Result<bool, WireError> {
        self.present().map_or(Ok(false), |mut reader| reader.truth(self.name))
    }

    /// The value, which the map may leave out; nil stands for no value.
    pub(super) fn present(&self) -> Option<Reader<'a>> {
        self.optional().filter(|reader| !reader.clone().nil(self.name).unwrap_or(false))
    }

    fn optional(&self) -> Option<Reader<'a>> {
        self.value.map(|at| self.map.seek(at))
    }
}
