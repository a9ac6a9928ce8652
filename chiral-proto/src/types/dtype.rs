use std::fmt;
use std::str::FromStr;

use half::f16;

/// The element type of an [`Array`](crate::Array), named as numpy's `dtype.name` names it.
///
/// Elements travel little-endian.
///
/// # What the existing peers read
/// This project reads every dtype everywhere. The existing peers do not, and the C++ one does not
/// notice: it reads the bytes as the dtype that it expects, so another one gives wrong numbers, and
/// a length that does not divide crashes it.
///
/// | | Python peer | C++ peer |
/// |---|---|---|
/// | actions | any dtype, cast to `float32` | `float32` only |
/// | images | any dtype | `uint8` only |
/// | depth maps | any dtype | `float32` only |
/// | proprioception | any dtype; sends `float32` only | `float32` only |
///
/// So for a robot that they are to use: `uint8` images, and `float32` for all else, which are the
/// defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// `bool`: one byte, 0 is false.
    Bool,
    /// `int8`.
    I8,
    /// `int16`.
    I16,
    /// `int32`.
    I32,
    /// `int64`.
    I64,
    /// `uint8`: the default of images.
    U8,
    /// `uint16`: often depth in millimetres.
    U16,
    /// `uint32`.
    U32,
    /// `uint64`.
    U64,
    /// `float16`.
    F16,
    /// `float32`: the default of depth maps (metres), proprioception and actions.
    F32,
    /// `float64`. Actions made from `f64` travel as [`F32`](Self::F32) unless asked otherwise.
    F64,
}

impl Dtype {
    /// Every dtype of the protocol.
    pub const ALL: [Self; 12] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// The name on the wire, numpy's `dtype.name`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// The dtype of the name, if it is one of the protocol's.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype name that the protocol does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown dtype {0:?}: expected bool, int8..int64, uint8..uint64, float16, float32 or float64"
)]
pub struct UnknownDtype(String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or_else(|| UnknownDtype(name.to_owned()))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is the element of one [`Dtype`]: the integers, `f32`, `f64`,
/// [`half::f16`] and `bool`.
///
/// Sealed: the protocol's element types are fixed.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + fmt::Debug + 'static {
    /// The dtype of which this is the element.
    const DTYPE: Dtype;

    /// Borrows the elements from little-endian bytes, if the bytes can be read where they are:
    /// aligned, and in the host's byte order.
    #[doc(hidden)]
    fn borrow(bytes: &[u8]) -> Option<&[Self]>;

    /// The bytes of the elements, if they can be sent where they are.
    #[doc(hidden)]
    fn as_bytes(elements: &[Self]) -> Option<&[u8]>;

    /// Reads one element; `bytes` is exactly one element long.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;

    /// Appends one element.
    #[doc(hidden)]
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! pod_element {
    ($($ty:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const DTYPE: Dtype = Dtype::$dtype;

            fn borrow(bytes: &[u8]) -> Option<&[Self]> {
                if cfg!(target_endian = "little") { bytemuck::try_cast_slice(bytes).ok() } else { None }
            }

            fn as_bytes(elements: &[Self]) -> Option<&[u8]> {
                cfg!(target_endian = "little").then(|| bytemuck::cast_slice(elements))
            }

            fn read(bytes: &[u8]) -> Self {
                let mut element = [0; size_of::<Self>()];
                element.copy_from_slice(bytes);
                Self::from_le_bytes(element)
            }

            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

pod_element! {
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f16 => F16, f32 => F32, f64 => F64,
}

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: Dtype = Dtype::Bool;

    // A peer's byte may be neither 0 nor 1, so a `bool` is always read, never borrowed.
    fn borrow(_: &[u8]) -> Option<&[Self]> {
        None
    }

    fn as_bytes(elements: &[Self]) -> Option<&[u8]> {
        Some(bytemuck::cast_slice(elements))
    }

    fn read(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(self.into());
    }
}
