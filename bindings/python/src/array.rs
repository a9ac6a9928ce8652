//! NumPy arrays over memory of ours, and copies of it; what is read from NumPy arrays.

use std::ptr::{self, NonNull};

use chiral_blocking::proto::bytes::Bytes;
use chiral_blocking::proto::{Array, Dtype, Shape};
use numpy::npyffi::{
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_TYPES, NpyTypes,
    PY_ARRAY_API, get_type_object, npy_intp,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods as _, PyUntypedArray, PyUntypedArrayMethods as _};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

#[cfg(target_endian = "big")]
compile_error!("arrays travel little-endian and are viewed where they lie");

/// A copy that is longer lets other threads of the interpreter run meanwhile.
const LONG_COPY: usize = 64 << 10;

/// Loads NumPy's C interface, so that no later call has to, in which an interrupt could come.
pub(crate) fn load_numpy(py: Python<'_>) -> PyResult<()> {
    py.import("numpy")?;
    // SAFETY: it asks for a type object of NumPy, which is there now.
    unsafe { get_type_object(py, NpyTypes::PyArray_Type) };
    let _ = numpy::dtype::<f64>(py);
    Ok(())
}

fn descr(py: Python<'_>, dtype: Dtype) -> Bound<'_, PyArrayDescr> {
    match dtype {
        Dtype::Bool => numpy::dtype::<bool>(py),
        Dtype::I8 => numpy::dtype::<i8>(py),
        Dtype::I16 => numpy::dtype::<i16>(py),
        Dtype::I32 => numpy::dtype::<i32>(py),
        Dtype::I64 => numpy::dtype::<i64>(py),
        Dtype::U8 => numpy::dtype::<u8>(py),
        Dtype::U16 => numpy::dtype::<u16>(py),
        Dtype::U32 => numpy::dtype::<u32>(py),
        Dtype::U64 => numpy::dtype::<u64>(py),
        Dtype::F32 => numpy::dtype::<f32>(py),
        Dtype::F64 => numpy::dtype::<f64>(py),
        _ => {
            // SAFETY: NumPy gives a new reference to the descriptor of a builtin type.
            unsafe {
                let half = PY_ARRAY_API.PyArray_DescrFromType(py, NPY_TYPES::NPY_HALF as i32);
                Bound::from_owned_ptr(py, half.cast()).cast_into_unchecked()
            }
        }
    }
}

/// Whose memory an array is.
pub(crate) enum Memory<'a, 'py> {
    /// NumPy's own, new and not initialised.
    New,
    /// That at a pointer, kept by an object for as long as it lives.
    Kept { data: NonNull<u8>, writable: bool, by: &'a Bound<'py, PyAny> },
}

fn new_array<'py>(
    py: Python<'py>,
    dtype: Dtype,
    shape: &[usize],
    memory: &Memory<'_, 'py>,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let mut dims: Vec<npy_intp> = shape.iter().map(|&dim| dim as npy_intp).collect();
    let (data, flags) = match memory {
        Memory::New => (ptr::null_mut(), 0),
        Memory::Kept { data, writable, .. } => {
            let mut flags = NPY_ARRAY_C_CONTIGUOUS;
            // NumPy believes this without a look.
            if data.addr().get() % dtype.size() == 0 {
                flags |= NPY_ARRAY_ALIGNED;
            }
            if *writable {
                flags |= NPY_ARRAY_WRITEABLE;
            }
            (data.as_ptr().cast(), flags)
        }
    };
    // SAFETY: type and descriptor are NumPy's; `dims` has as many elements as said. The memory, if it
    // is not NumPy's own, has the bytes of dtype and shape (the caller has it from an `Array`, or
    // from a buffer, of these), and the base object set below keeps it. NumPy takes over the
    // reference to the descriptor, and that to the base even when it fails.
    unsafe {
        let kind = get_type_object(py, NpyTypes::PyArray_Type);
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            kind,
            descr(py, dtype).into_dtype_ptr(),
            dims.len() as i32,
            dims.as_mut_ptr(),
            ptr::null_mut(),
            data,
            flags,
            ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if let Memory::Kept { by, .. } = memory {
            let base = (*by).clone().into_ptr();
            if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), base) < 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(array.cast_into_unchecked())
    }
}

/// An array over memory that an object keeps. The memory has the bytes of dtype and shape.
pub(crate) fn view<'py>(
    dtype: Dtype,
    shape: &[usize],
    data: NonNull<u8>,
    writable: bool,
    by: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let memory = Memory::Kept { data, writable, by };
    Ok(new_array(by.py(), dtype, shape, &memory)?.into_any())
}

/// An array of NumPy's own with the same elements.
pub(crate) fn copy<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    let new = new_array(py, array.dtype(), array.shape(), &Memory::New)?;
    let (source, target) = (array.bytes(), data_of(&new));
    if array.dtype() == Dtype::Bool {
        // A peer's byte may be neither 0 nor 1, which NumPy does not expect.
        for (index, byte) in source.iter().enumerate() {
            // SAFETY: the new array has as many bytes, and nobody else has it.
            unsafe { target.add(index).write(u8::from(*byte != 0)) };
        }
    } else {
        copy_bytes(py, source.as_ptr(), target, source.len());
    }
    Ok(new.into_any())
}

/// An array of zeros of NumPy's own, and where its elements are.
pub(crate) fn zeros<'py>(
    py: Python<'py>,
    dtype: Dtype,
    shape: &[usize],
) -> PyResult<(Bound<'py, PyAny>, NonNull<u8>, usize)> {
    let new = new_array(py, dtype, shape, &Memory::New)?;
    let len = shape.iter().product::<usize>() * dtype.size();
    let data = data_of(&new);
    // SAFETY: the new array has as many bytes, and nobody else has it.
    unsafe { data.write_bytes(0, len) };
    let data = NonNull::new(data).unwrap_or(NonNull::dangling());
    Ok((new.into_any(), data, len))
}

/// `[rows, columns]` of float64, row-major.
#[expect(clippy::cast_ptr_alignment, reason = "NumPy aligns its own memory")]
pub(crate) fn matrix<const LEN: usize>(
    py: Python<'_>,
    shape: [usize; 2],
    elements: [f64; LEN],
) -> PyResult<Bound<'_, PyAny>> {
    assert_eq!(shape[0] * shape[1], LEN, "as many elements as the shape has");
    let new = new_array(py, Dtype::F64, &shape, &Memory::New)?;
    // SAFETY: a new array of `LEN` float64, aligned as NumPy aligns its own.
    unsafe { data_of(&new).cast::<f64>().copy_from_nonoverlapping(elements.as_ptr(), LEN) };
    Ok(new.into_any())
}

/// Copies bytes from or into memory of an array. What is long is copied without the interpreter's
/// lock; both memories are kept by the caller's references meanwhile.
pub(crate) fn copy_bytes(py: Python<'_>, from: *const u8, to: *mut u8, len: usize) {
    struct Pointers(*const u8, *mut u8);
    // SAFETY: they are used by one thread, during the call.
    unsafe impl Send for Pointers {}
    impl Pointers {
        fn copy(self, len: usize) {
            // SAFETY: the callers give two pieces of memory of this length that do not overlap: one
            // of them is new, or a buffer that only they have.
            unsafe { ptr::copy_nonoverlapping(self.0, self.1, len) };
        }
    }
    let pointers = Pointers(from, to);
    if len > LONG_COPY { py.detach(move || pointers.copy(len)) } else { pointers.copy(len) }
}

pub(crate) fn data_of(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: it is an array.
    unsafe { (*array.as_array_ptr()).fields.data.cast() }
}

/// The elements of a NumPy array as they lie in memory, contiguous and in native byte order.
pub(crate) struct Elements<'py> {
    pub(crate) array: Bound<'py, PyUntypedArray>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Shape,
}

impl<'py> Elements<'py> {
    /// Whatever `np.asarray` takes, converted to a dtype if one is given, copied only if it must be.
    pub(crate) fn of(object: &Bound<'py, PyAny>, dtype: Option<Dtype>) -> PyResult<Self> {
        let array = match object.cast::<PyUntypedArray>() {
            Ok(array) if is_plain(array, dtype) => array.clone(),
            _ => {
                let numpy = object.py().import("numpy")?;
                let array = numpy.call_method1(
                    "asarray",
                    (object, dtype.map(|dtype| descr(object.py(), dtype)), "C"),
                )?;
                let array = array.cast_into::<PyUntypedArray>()?;
                if array.dtype().is_native_byteorder() == Some(false) {
                    let native = array.dtype().call_method1("newbyteorder", ("=",))?;
                    array.call_method1("astype", (native,))?.cast_into()?
                } else {
                    array
                }
            }
        };
        let dtype = dtype_of(&array)?;
        let shape = Shape::new(array.shape());
        Ok(Self { array, dtype, shape })
    }

    pub(crate) fn data(&self) -> *const u8 {
        data_of(&self.array)
    }

    pub(crate) fn len(&self) -> usize {
        self.array.len() * self.dtype.size()
    }

    /// A copy, as an array of ours.
    pub(crate) fn to_array(&self, py: Python<'_>) -> Array {
        let mut bytes = Vec::<u8>::with_capacity(self.len());
        copy_bytes(py, self.data(), bytes.as_mut_ptr(), self.len());
        // SAFETY: as many bytes were written.
        unsafe { bytes.set_len(self.len()) };
        self.array_of(bytes.into())
    }

    /// These bytes, which have the length of this, as an array of its dtype and shape.
    pub(crate) fn array_of(&self, bytes: Bytes) -> Array {
        Array::new(self.dtype, self.shape.clone(), bytes).expect("the length is the array's")
    }
}

/// Whether an array can be read as it is.
pub(crate) fn is_plain(array: &Bound<'_, PyUntypedArray>, dtype: Option<Dtype>) -> bool {
    array.is_c_contiguous()
        // Single bytes have no order.
        && array.dtype().is_native_byteorder() != Some(false)
        && dtype.is_none_or(|dtype| dtype_of(array).is_ok_and(|found| found == dtype))
}

pub(crate) fn dtype_of(array: &Bound<'_, PyUntypedArray>) -> PyResult<Dtype> {
    let descr = array.dtype();
    let found = match (descr.kind(), descr.itemsize()) {
        (b'b', _) => Some(Dtype::Bool),
        (b'i', 1) => Some(Dtype::I8),
        (b'i', 2) => Some(Dtype::I16),
        (b'i', 4) => Some(Dtype::I32),
        (b'i', 8) => Some(Dtype::I64),
        (b'u', 1) => Some(Dtype::U8),
        (b'u', 2) => Some(Dtype::U16),
        (b'u', 4) => Some(Dtype::U32),
        (b'u', 8) => Some(Dtype::U64),
        (b'f', 2) => Some(Dtype::F16),
        (b'f', 4) => Some(Dtype::F32),
        (b'f', 8) => Some(Dtype::F64),
        _ => None,
    };
    found.ok_or_else(|| {
        PyTypeError::new_err(format!(
            "found an array of {descr}, expected bool, int8..int64, uint8..uint64, float16, float32 or \
             float64: convert it with `astype`"
        ))
    })
}

/// A dtype as people write it: `np.float32`, `"float32"`, `np.dtype(...)`.
pub(crate) fn dtype_from(object: &Bound<'_, PyAny>) -> PyResult<Dtype> {
    let descr = PyArrayDescr::new(object.py(), object.clone())?;
    let name = descr.getattr("name")?.cast_into::<PyString>()?;
    let name = name.to_cow()?;
    name.parse().map_err(|error| PyTypeError::new_err(format!("{error}")))
}

pub(crate) fn float64s<const LEN: usize>(
    object: &Bound<'_, PyAny>,
    what: &str,
) -> PyResult<[f64; LEN]> {
    let elements = Elements::of(object, Some(Dtype::F64))?;
    if elements.array.len() != LEN {
        let side = LEN.isqrt();
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "found {what} of shape {}, expected [{side}, {side}]",
            elements.shape
        )));
    }
    let mut found = [0.0; LEN];
    // SAFETY: `LEN` contiguous float64 of an array that is kept; unaligned ones are read bytewise.
    unsafe { ptr::copy_nonoverlapping(elements.data(), found.as_mut_ptr().cast(), LEN * 8) };
    Ok(found)
}
