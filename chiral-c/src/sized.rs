//! Structs that may grow: each begins with its size, as its caller knows it.

use std::any::type_name;
use std::mem::MaybeUninit;
use std::ptr;

use crate::error::Failure;

/// A struct of the header.
///
/// # Safety
/// It is `repr(C)`, its first field is `size: usize`, and all its bytes being zero is a valid value
/// of it, as are all values that a caller can give to its fields.
pub(crate) unsafe trait Versioned: Copy {
    /// Its size in the first release that had it.
    const OLDEST: usize;
}

macro_rules! sized {
    ($($name:ty),* $(,)?) => {$(
        // SAFETY: the structs of this crate's header are written so: `repr(C)`, `size` first, of
        // numbers, booleans, pointers and optional function pointers.
        unsafe impl crate::sized::Versioned for $name {
            const OLDEST: usize = size_of::<Self>();
        }
    )*};
}
pub(crate) use sized;

/// What all fields are where the caller says nothing.
pub(crate) fn zeroed<T: Versioned>() -> T {
    // SAFETY: `Versioned` says that this is a value.
    let mut value: T = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the first field is the size, and `T` is at least so large.
    unsafe { ptr::from_mut(&mut value).cast::<usize>().write(size_of::<T>()) };
    value
}

/// Reads a struct of a caller, who may know fewer of its fields: those are zero then.
///
/// # Safety
/// The pointer is null, or one to a struct whose first field says how many of its bytes can be read.
pub(crate) unsafe fn read<T: Versioned>(pointer: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_caller(pointer)? };
    let mut value = zeroed::<T>();
    let bytes = pointer.cast::<u8>();
    let known = size.min(size_of::<T>());
    // SAFETY: so many bytes can be read at one end and written at the other; the two are not the
    // same memory; and what a caller can write into the fields is valid.
    unsafe { ptr::copy_nonoverlapping(bytes, ptr::from_mut(&mut value).cast::<u8>(), known) };
    // SAFETY: the first field is the size.
    unsafe { ptr::from_mut(&mut value).cast::<usize>().write(size_of::<T>()) };
    for offset in known..size {
        // SAFETY: it lies within the caller's struct.
        if unsafe { bytes.add(offset).read() } != 0 {
            return Err(Failure::misuse(format_args!(
                "{} has fields that version {} of the library does not know: use a newer library",
                name::<T>(),
                env!("CARGO_PKG_VERSION"),
            )));
        }
    }
    Ok(value)
}

/// As [`read`]; where there is none, all is zero.
///
/// # Safety
/// As there.
pub(crate) unsafe fn read_or_default<T: Versioned>(pointer: *const T) -> Result<T, Failure> {
    if pointer.is_null() {
        return Ok(zeroed());
    }
    // SAFETY: the caller's promise.
    unsafe { read(pointer) }
}

/// Reads an array of structs, of which the first one says how far apart they are.
///
/// # Safety
/// The pointer is null, or one to `len` structs as for [`read`].
pub(crate) unsafe fn read_all<T: Versioned>(
    pointer: *const T,
    len: usize,
) -> Result<Vec<T>, Failure> {
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_caller(pointer)? };
    let mut values = Vec::new();
    for index in 0..len {
        // SAFETY: it lies within the caller's array.
        let element = unsafe { pointer.cast::<u8>().add(index * size) };
        // SAFETY: the caller's promise.
        values.push(unsafe { read(element.cast::<T>())? });
    }
    Ok(values)
}

/// Checks the place for a struct before anything is done that would be lost without it.
///
/// # Safety
/// The pointer is null, or one to a struct whose first field is set.
pub(crate) unsafe fn check_place<T: Versioned>(pointer: *mut T) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe { size_of_caller(pointer) }.map(|_| ())
}

/// Writes a struct of a caller, who may know fewer of its fields, or more: these become zero.
///
/// # Safety
/// The pointer is null, or one to a struct whose first field says how many of its bytes can be
/// written.
pub(crate) unsafe fn write<T: Versioned>(pointer: *mut T, value: &T) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_caller(pointer)? };
    let known = size.min(size_of::<T>()) - size_of::<usize>();
    // SAFETY: it lies behind the first field of either.
    let (from, to) = unsafe {
        let from = ptr::from_ref(value).cast::<u8>().add(size_of::<usize>());
        (from, pointer.cast::<u8>().add(size_of::<usize>()))
    };
    // SAFETY: so many bytes can be read at one end and written at the other; the two are not the
    // same memory.
    unsafe { ptr::copy_nonoverlapping(from, to, known) };
    let rest = size - size_of::<usize>() - known;
    // SAFETY: these are the other bytes of the caller's struct.
    unsafe { to.add(known).write_bytes(0, rest) };
    Ok(())
}

/// # Safety
/// The pointer is null, or one to a struct whose first field can be read.
unsafe fn size_of_caller<T: Versioned>(pointer: *const T) -> Result<usize, Failure> {
    if pointer.is_null() {
        return Err(Failure::misuse(format_args!("{} is a null pointer", name::<T>())));
    }
    if !pointer.is_aligned() {
        return Err(Failure::misuse(format_args!("{} is not aligned", name::<T>())));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < T::OLDEST || !size.is_multiple_of(align_of::<T>()) || size > 1 << 16 {
        return Err(Failure::misuse(format_args!(
            "{0}.size is {size}, expected at least {1}: set it to `sizeof({0})`",
            name::<T>(),
            T::OLDEST
        )));
    }
    Ok(size)
}

fn name<T>() -> &'static str {
    type_name::<T>().rsplit("::").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct point {
        size: usize,
        x: f64,
        y: f64,
    }

    // SAFETY: it is written so.
    unsafe impl Versioned for point {
        const OLDEST: usize = 16;
    }

    /// The same, as a caller of another version knows it.
    #[repr(C)]
    struct Newer {
        size: usize,
        x: f64,
        y: f64,
        z: f64,
    }

    fn read_text<T>(caller: &T) -> Result<point, String> {
        // SAFETY: a struct with its size.
        unsafe { read(ptr::from_ref(caller).cast::<point>()) }.map_err(|failure| {
            failure.tell();
            // SAFETY: it is a text.
            unsafe { std::ffi::CStr::from_ptr(crate::chiral_last_error()) }
                .to_str()
                .expect("UTF-8")
                .to_owned()
        })
    }

    #[test]
    fn callers_of_older_and_newer_versions_are_understood() {
        let old = [16_usize, 1.5_f64.to_bits() as usize, 7];
        assert_eq!(read_text(&old), Ok(point { size: 24, x: 1.5, y: 0.0 }));
        let same = point { size: 24, x: 1.5, y: 2.5 };
        assert_eq!(read_text(&same), Ok(same));
        let mut newer = Newer { size: 32, x: 1.5, y: 2.5, z: 0.0 };
        assert_eq!(read_text(&newer), Ok(same));
        newer.z = 3.5;
        assert!(read_text(&newer).unwrap_err().contains("use a newer library"));
        for size in [0, 8, 25, 1 << 20] {
            let error = read_text(&point { size, x: 0.0, y: 0.0 }).unwrap_err();
            assert!(error.ends_with("set it to `sizeof(point)`"), "{error}");
        }
    }

    #[test]
    fn nothing_is_written_beyond_what_the_caller_knows() {
        let value = point { size: 24, x: 1.5, y: 2.5 };
        let mut old = [16_usize, 0, 7];
        // SAFETY: a struct with its size.
        unsafe { write(old.as_mut_ptr().cast::<point>(), &value) }.expect("it is proper");
        assert_eq!(old, [16, 1.5_f64.to_bits() as usize, 7]);
        let mut newer = Newer { size: 32, x: 0.0, y: 0.0, z: 9.0 };
        // SAFETY: a struct with its size.
        unsafe { write(ptr::from_mut(&mut newer).cast::<point>(), &value) }.expect("it is proper");
        assert_eq!((newer.size, newer.y.to_bits(), newer.z.to_bits()), (32, 2.5_f64.to_bits(), 0));
    }
}
