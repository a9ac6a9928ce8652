use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::dtype::{Dtype, Element};
use super::shape::Shape;

/// An n-dimensional array as it travels: a dtype, a shape and the elements' bytes, row-major and
/// little-endian.
///
/// Cloning is cheap, the bytes are shared. The length of the bytes always fits dtype and shape.
///
/// ```
/// use chiral_proto::{Array, Dtype};
///
/// let image = Array::from_slice([2, 2, 3], &[0_u8; 12])?;
/// assert_eq!(image.dtype(), Dtype::U8);
/// assert_eq!(*image.shape(), [2, 2, 3]);
/// assert_eq!(image.as_slice::<u8>()?.len(), 12);
///
/// let error = image.as_slice::<f32>().unwrap_err();
/// assert_eq!(error.to_string(), "the array is uint8 and was read as float32: read it as u8, or convert it with `to_f32`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Array {
    dtype: Dtype,
    shape: Shape,
    bytes: Bytes,
}

impl Array {
    /// An array over bytes that are already little-endian and row-major; nothing is copied.
    ///
    /// # Errors
    /// When the length of `bytes` is not the shape's element count times the dtype's size.
    pub fn new(
        dtype: Dtype,
        shape: impl Into<Shape>,
        bytes: impl Into<Bytes>,
    ) -> Result<Self, SizeMismatch> {
        let (shape, bytes) = (shape.into(), bytes.into());
        let expected = byte_len(dtype, &shape);
        if expected == Some(bytes.len()) {
            Ok(Self { dtype, shape, bytes })
        } else {
            Err(SizeMismatch { dtype, shape, found: bytes.len(), expected })
        }
    }

    /// An array with a copy of the elements.
    ///
    /// # Errors
    /// When the number of elements is not the shape's.
    pub fn from_slice<T: Element>(
        shape: impl Into<Shape>,
        elements: &[T],
    ) -> Result<Self, SizeMismatch> {
        let bytes = match T::as_bytes(elements) {
            Some(bytes) => Bytes::copy_from_slice(bytes),
            None => little_endian(elements),
        };
        Self::new(T::DTYPE, shape, bytes)
    }

    /// An array that takes the vector over; on a little-endian host nothing is copied.
    ///
    /// # Errors
    /// When the number of elements is not the shape's.
    pub fn from_vec<T: Element>(
        shape: impl Into<Shape>,
        elements: Vec<T>,
    ) -> Result<Self, SizeMismatch> {
        struct Elements<T>(Vec<T>);
        impl<T: Element> AsRef<[u8]> for Elements<T> {
            fn as_ref(&self) -> &[u8] {
                T::as_bytes(&self.0).expect("checked before the vector is wrapped")
            }
        }

        let bytes = if T::as_bytes(&elements).is_some() {
            Bytes::from_owner(Elements(elements))
        } else {
            little_endian(&elements)
        };
        Self::new(T::DTYPE, shape, bytes)
    }

    /// A 1-D array that takes the vector over.
    pub fn vector<T: Element>(elements: Vec<T>) -> Self {
        Self::from_vec(elements.len(), elements).expect("the shape is the vector's length")
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// When the size overflows `usize`.
    pub fn zeros(dtype: Dtype, shape: impl Into<Shape>) -> Result<Self, SizeMismatch> {
        let shape = shape.into();
        match byte_len(dtype, &shape) {
            Some(len) => Ok(Self { dtype, shape, bytes: vec![0; len].into() }),
            None => Err(SizeMismatch { dtype, shape, found: 0, expected: None }),
        }
    }

    /// The elements' type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements' bytes: row-major, little-endian. Cloning them copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements, borrowed where they lie aligned in memory and copied where they do not.
    ///
    /// Frames read by this project's WebSocket session lie aligned whenever the sender laid them
    /// out so; bool elements are always copied, because a peer's byte need not be 0 or 1.
    ///
    /// # Errors
    /// When `T` is not the element type of the array's dtype.
    pub fn as_slice<T: Element>(&self) -> Result<Cow<'_, [T]>, DtypeMismatch> {
        if T::DTYPE != self.dtype {
            return Err(DtypeMismatch { array: self.dtype, asked: T::DTYPE });
        }
        Ok(match T::borrow(&self.bytes) {
            Some(elements) => Cow::Borrowed(elements),
            None => Cow::Owned(self.bytes.chunks_exact(size_of::<T>()).map(T::read).collect()),
        })
    }

    /// The elements as `f32`, whatever the dtype: borrowed if they are `float32` and aligned,
    /// else converted. Integers and `float64` round to the nearest `f32`; true is 1, false is 0.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self.as_slice() {
            Ok(elements) => elements,
            Err(_) => Cow::Owned(self.convert(|value| value as f32, |value| value as f32)),
        }
    }

    /// Writes the elements as [`to_f32`](Self::to_f32) gives them to `out`, without an allocation,
    /// and returns how many there are: as many as fit, when `out` is shorter.
    pub fn copy_to_f32(&self, out: &mut [f32]) -> usize {
        let mut count = 0;
        let put = |value: f32| {
            if let Some(place) = out.get_mut(count) {
                *place = value;
                count += 1;
            }
        };
        self.for_each(|value| value as f32, |value| value as f32, put);
        count
    }

    /// The elements as `f64`, whatever the dtype: borrowed if they are `float64` and aligned,
    /// else converted. 64-bit integers round to the nearest `f64`; true is 1, false is 0.
    pub fn to_f64(&self) -> Cow<'_, [f64]> {
        match self.as_slice() {
            Ok(elements) => elements,
            Err(_) => Cow::Owned(self.convert(|value| value, |value| value as f64)),
        }
    }

    // 64-bit integers have a way of their own: through f64 they would round twice.
    fn convert<T>(&self, float: impl Fn(f64) -> T, wide: impl Fn(i128) -> T) -> Vec<T> {
        let mut converted = Vec::with_capacity(self.len());
        self.for_each(float, wide, |value| converted.push(value));
        converted
    }

    fn for_each<T>(&self, float: impl Fn(f64) -> T, wide: impl Fn(i128) -> T, put: impl FnMut(T)) {
        fn read<E: Element>(bytes: &[u8]) -> impl Iterator<Item = E> {
            bytes.chunks_exact(size_of::<E>()).map(E::read)
        }
        let bytes = &self.bytes[..];
        match self.dtype {
            Dtype::Bool => read::<bool>(bytes).map(|b| float(f64::from(u8::from(b)))).for_each(put),
            Dtype::I8 => read::<i8>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::I16 => read::<i16>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::I32 => read::<i32>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::I64 => read::<i64>(bytes).map(|v| wide(v.into())).for_each(put),
            Dtype::U8 => read::<u8>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::U16 => read::<u16>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::U32 => read::<u32>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::U64 => read::<u64>(bytes).map(|v| wide(v.into())).for_each(put),
            Dtype::F16 => read::<half::f16>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::F32 => read::<f32>(bytes).map(|v| float(v.into())).for_each(put),
            Dtype::F64 => read::<f64>(bytes).map(float).for_each(put),
        }
    }
}

/// Shows dtype and shape, not the elements: a camera image would fill the screen.
impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({}{})", self.dtype, self.shape)
    }
}

/// Bytes of an array, or `None` when that overflows `usize`.
pub(crate) fn byte_len(dtype: Dtype, shape: &Shape) -> Option<usize> {
    // As NumPy and ndarray do: an empty array's other dimensions must fit the memory, too.
    let others = shape.iter().filter(|dim| **dim != 0);
    let len = others.copied().try_fold(dtype.size(), usize::checked_mul)?;
    let fits = isize::try_from(len).is_ok();
    fits.then(|| if shape.contains(&0) { 0 } else { len })
}

fn little_endian<T: Element>(elements: &[T]) -> Bytes {
    let mut bytes = Vec::with_capacity(size_of_val(elements));
    for &element in elements {
        element.write(&mut bytes);
    }
    bytes.into()
}

/// Bytes whose length does not fit the dtype and shape that they were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dtype} of shape {shape} takes {} bytes, found {found}: give as many elements as the shape has", expected_bytes(*.expected))]
pub struct SizeMismatch {
    /// The dtype.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Shape,
    /// The bytes that were there.
    pub found: usize,
    /// The bytes that dtype and shape need; `None` when that overflows `usize`.
    pub expected: Option<usize>,
}

fn expected_bytes(expected: Option<usize>) -> String {
    expected.map_or_else(|| "more than a memory's worth of".to_owned(), |bytes| bytes.to_string())
}

/// A typed view was asked of an array of another dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the array is {array} and was read as {asked}: read it as {}, or convert it with `to_f32`", rust_name(*.array))]
pub struct DtypeMismatch {
    /// The array's dtype.
    pub array: Dtype,
    /// The dtype of the view that was asked for.
    pub asked: Dtype,
}

fn rust_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "bool",
        Dtype::I8 => "i8",
        Dtype::I16 => "i16",
        Dtype::I32 => "i32",
        Dtype::I64 => "i64",
        Dtype::U8 => "u8",
        Dtype::U16 => "u16",
        Dtype::U32 => "u32",
        Dtype::U64 => "u64",
        Dtype::F16 => "f16",
        Dtype::F32 => "f32",
        Dtype::F64 => "f64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn a_view_borrows_when_aligned_and_copies_when_not() {
        let values = [1.5_f32, -2.0, f32::MAX];
        let aligned = Array::from_vec(3, values.to_vec()).unwrap();
        assert!(matches!(aligned.as_slice::<f32>().unwrap(), Cow::Borrowed(v) if v == values));

        let mut shifted = vec![0_u8];
        shifted.extend_from_slice(aligned.bytes());
        let both = [0, 1, 2, 3].map(|start| {
            let mut bytes = vec![0; start];
            bytes.extend_from_slice(aligned.bytes());
            let array = Array::new(Dtype::F32, 3, Bytes::from(bytes).slice(start..)).unwrap();
            let view = array.as_slice::<f32>().unwrap();
            assert_eq!(*view, values);
            matches!(view, Cow::Borrowed(_))
        });
        assert_eq!(both.iter().filter(|&&borrowed| borrowed).count(), 1);
    }

    #[test]
    fn every_dtype_converts_to_f32() {
        let one_and_zero: [Array; 12] = [
            Array::vector(vec![true, false]),
            Array::vector(vec![1_i8, 0]),
            Array::vector(vec![1_i16, 0]),
            Array::vector(vec![1_i32, 0]),
            Array::vector(vec![1_i64, 0]),
            Array::vector(vec![1_u8, 0]),
            Array::vector(vec![1_u16, 0]),
            Array::vector(vec![1_u32, 0]),
            Array::vector(vec![1_u64, 0]),
            Array::vector(vec![f16::ONE, f16::ZERO]),
            Array::vector(vec![1_f32, 0.0]),
            Array::vector(vec![1_f64, 0.0]),
        ];
        for (array, dtype) in one_and_zero.iter().zip(Dtype::ALL) {
            assert_eq!(array.dtype(), dtype);
            assert_eq!(*array.to_f32(), [1.0, 0.0], "{dtype}");
            assert_eq!(*array.to_f64(), [1.0, 0.0], "{dtype}");
            let mut three = [7.0; 3];
            assert_eq!((array.copy_to_f32(&mut three), three), (2, [1.0, 0.0, 7.0]), "{dtype}");
            assert_eq!(array.copy_to_f32(&mut three[..1]), 1, "{dtype}");
        }
    }

    #[test]
    fn wide_integers_are_rounded_only_once() {
        // Through f64 this would round down to 2^60 + 2^36, then up again: twice wrong.
        let value = (1_i64 << 60) + (1 << 36) + 1;
        assert_eq!(*Array::vector(vec![value]).to_f32(), [value as f32]);
    }

    #[test]
    fn a_size_mismatch_error_states_the_expected_size() {
        let error = Array::new(Dtype::F32, [2, 3], vec![0; 20]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "float32 of shape [2, 3] takes 24 bytes, found 20: give as many elements as the shape has"
        );
        assert!(Array::new(Dtype::F64, [usize::MAX, 3], vec![]).is_err());
        assert!(Array::zeros(Dtype::F64, [usize::MAX / 2]).is_err());
        // Neither NumPy nor ndarray has an array of such a shape.
        assert!(Array::new(Dtype::U8, [0, 1 << 40, 1 << 40], vec![]).is_err());
        assert!(Array::new(Dtype::U8, [0, 480, 640], vec![]).is_ok());
    }
}
