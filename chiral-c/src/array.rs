//! Arrays as C sees them.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use chiral_blocking::proto::bytes::Bytes;
use chiral_blocking::proto::pool::BufferPool;
use chiral_blocking::proto::sensors::Reading;
use chiral_blocking::proto::{Array, Dtype, Shape};

use crate::error::{Failure, guard_or};
use crate::observation::chiral_observation;
use crate::sized::{self, sized};

/// The type of an array's elements: one of `CHIRAL_UINT8`, `CHIRAL_FLOAT32` and so on. Zero, where
/// something is declared, is the usual one: `CHIRAL_UINT8` of images, else `CHIRAL_FLOAT32`.
pub type chiral_dtype = i32;

/// `bool`: one byte, 0 is false.
pub const CHIRAL_BOOL: chiral_dtype = 1;
/// `int8_t`.
pub const CHIRAL_INT8: chiral_dtype = 2;
/// `int16_t`.
pub const CHIRAL_INT16: chiral_dtype = 3;
/// `int32_t`.
pub const CHIRAL_INT32: chiral_dtype = 4;
/// `int64_t`.
pub const CHIRAL_INT64: chiral_dtype = 5;
/// `uint8_t`.
pub const CHIRAL_UINT8: chiral_dtype = 6;
/// `uint16_t`.
pub const CHIRAL_UINT16: chiral_dtype = 7;
/// `uint32_t`.
pub const CHIRAL_UINT32: chiral_dtype = 8;
/// `uint64_t`.
pub const CHIRAL_UINT64: chiral_dtype = 9;
/// Half precision.
pub const CHIRAL_FLOAT16: chiral_dtype = 10;
/// `float`.
pub const CHIRAL_FLOAT32: chiral_dtype = 11;
/// `double`.
pub const CHIRAL_FLOAT64: chiral_dtype = 12;

/// All dtypes, their numbers and their names.
const DTYPES: [(chiral_dtype, Dtype, &CStr); 12] = [
    (CHIRAL_BOOL, Dtype::Bool, c"bool"),
    (CHIRAL_INT8, Dtype::I8, c"int8"),
    (CHIRAL_INT16, Dtype::I16, c"int16"),
    (CHIRAL_INT32, Dtype::I32, c"int32"),
    (CHIRAL_INT64, Dtype::I64, c"int64"),
    (CHIRAL_UINT8, Dtype::U8, c"uint8"),
    (CHIRAL_UINT16, Dtype::U16, c"uint16"),
    (CHIRAL_UINT32, Dtype::U32, c"uint32"),
    (CHIRAL_UINT64, Dtype::U64, c"uint64"),
    (CHIRAL_FLOAT16, Dtype::F16, c"float16"),
    (CHIRAL_FLOAT32, Dtype::F32, c"float32"),
    (CHIRAL_FLOAT64, Dtype::F64, c"float64"),
];

/// The dtype of a number; `None` for zero.
pub(crate) fn dtype_of(number: chiral_dtype) -> Result<Option<Dtype>, Failure> {
    if number == 0 {
        return Ok(None);
    }
    let found = DTYPES.into_iter().find(|(known, ..)| *known == number);
    let (_, dtype, _) =
        found.ok_or_else(|| Failure::misuse(format_args!("{number} is no dtype")))?;
    Ok(Some(dtype))
}

pub(crate) fn number_of(dtype: Dtype) -> chiral_dtype {
    let found = DTYPES.into_iter().find(|(_, known, _)| *known == dtype);
    found.map_or(0, |(number, ..)| number)
}

/// The name of a dtype, such as `uint8`; null where there is none. Valid for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_dtype_name(dtype: chiral_dtype) -> *const c_char {
    let found = DTYPES.into_iter().find(|(known, ..)| *known == dtype);
    found.map_or(ptr::null(), |(.., name)| name.as_ptr())
}

/// The dtype of a name, such as `uint8`; 0 where there is none. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_dtype_from_name(name: *const c_char) -> chiral_dtype {
    guard_or(0, || {
        // SAFETY: as the header asks of callers.
        let name = unsafe { crate::memory::text(name, "name")? };
        Ok(Dtype::from_name(name).map_or(0, number_of))
    })
}

/// Elements of one type, row-major and in the byte order of the machine.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_array {
    /// `sizeof(chiral_array)`.
    pub size: usize,
    /// What its elements are.
    pub dtype: chiral_dtype,
    /// The elements, aligned to their size.
    pub data: *const c_void,
    /// How many bytes they take.
    pub len: usize,
    /// Its dimensions, outermost first: height, width and channels of an image.
    pub shape: *const usize,
    /// How many dimensions there are.
    pub rank: usize,
    /// The observation to which the data belong, or null. Where an array is put into another
    /// observation, data that belong to one are shared, and others copied.
    pub owner: *const chiral_observation,
}

sized!(chiral_array);

impl chiral_array {
    /// A view of an array, for as long as that stays.
    pub(crate) fn of(array: &Array, owner: *const chiral_observation) -> Self {
        Self {
            dtype: number_of(array.dtype()),
            data: array.bytes().as_ptr().cast(),
            len: array.bytes().len(),
            shape: array.shape().as_ptr(),
            rank: array.shape().len(),
            owner,
            ..sized::zeroed()
        }
    }

    /// The array, shared with its owner or copied.
    ///
    /// # Safety
    /// Its pointers are valid.
    pub(crate) unsafe fn to_array(self, usual: Dtype, what: &str) -> Result<Array, Failure> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { crate::memory::slice(self.data.cast::<u8>(), self.len, what)? };
        // SAFETY: the caller's promise.
        let shape = unsafe { crate::memory::slice(self.shape, self.rank, "shape")? };
        // SAFETY: the caller's promise.
        let owner = unsafe { self.owner.as_ref() };
        let dtype = dtype_of(self.dtype)?.unwrap_or(usual);
        let shared = owner.and_then(|owner| owner.share(bytes));
        let bytes = shared.unwrap_or_else(|| aligned_copy(bytes));
        Array::new(dtype, shape, bytes)
            .map_err(|error| Failure::misuse(format_args!("{what}: {error}")))
    }
}

/// A copy that is aligned for every dtype.
pub(crate) fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut copy = BufferPool::new(0).take(bytes.len());
    copy[..bytes.len()].copy_from_slice(bytes);
    copy.freeze(0..bytes.len())
}

/// Whether the elements can be read where they are.
pub(crate) fn is_aligned(array: &Array) -> bool {
    array.bytes().as_ptr().addr().is_multiple_of(array.dtype().size())
}

/// Bytes of a sensor, as elements of its dtype.
pub(crate) fn reading<'a>(
    dtype: Dtype,
    shape: &Shape,
    bytes: &'a [u8],
) -> Result<Reading<'a>, Failure> {
    macro_rules! cast {
        ($($dtype:ident => $element:ty),*) => {
            match dtype {
                $(Dtype::$dtype => {
                    bytemuck::try_cast_slice::<u8, $element>(bytes).ok().map(Reading::from)
                })*
                _ => None,
            }
        };
    }
    let elements = cast!(
        I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32, U64 => u64,
        F16 => half::f16, F32 => f32, F64 => f64
    );
    if let Some(elements) = elements {
        return Ok(elements);
    }
    // Not aligned, or of bytes that may be no `bool`.
    let array = Array::new(dtype, shape.clone(), Bytes::copy_from_slice(bytes));
    Ok(array.map_err(Failure::sensor)?.into())
}
