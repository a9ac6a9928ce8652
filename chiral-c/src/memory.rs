//! Pointers from C, and pointers for C.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, Failure, chiral_status, guard};

/// A handle or struct that a caller lends.
///
/// # Safety
/// The pointer is null, or aligned and valid for reads for as long as `'a`, in which nobody changes
/// what it points to.
pub(crate) unsafe fn borrow<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| is_null(what))
}

/// As [`borrow`], to be changed.
///
/// # Safety
/// The pointer is null, or aligned and valid for reads and writes for as long as `'a`, in which nobody
/// else uses what it points to.
pub(crate) unsafe fn borrow_mut<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| is_null(what))
}

/// A text that a caller lends.
///
/// # Safety
/// The pointer is null, or one to a text that ends with a zero and stays as it is for as long as
/// `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    // SAFETY: it is not null, and the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| Failure::misuse(format_args!("{what} is no UTF-8: {error}")))
}

/// As [`text`]; `None` for null.
///
/// # Safety
/// As there.
pub(crate) unsafe fn text_or_null<'a>(
    pointer: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { text(pointer, what) }.map(Some)
}

/// A pointer to elements; null where there are none.
pub(crate) fn pointer_or_null<T>(elements: &[T]) -> *const T {
    if elements.is_empty() { ptr::null() } else { elements.as_ptr() }
}

/// Elements that a caller lends. A null pointer to nothing is nothing.
///
/// # Safety
/// The pointer is null, or one to `len` elements that stay as they are for as long as `'a`.
pub(crate) unsafe fn slice<'a, T>(
    pointer: *const T,
    len: usize,
    what: &str,
) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer, len, what)?;
    // SAFETY: it is aligned, not null and of a possible length, and the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Places for elements, which a caller may not have initialised. A null pointer to nothing is nothing.
///
/// # Safety
/// The pointer is null, or one to `len` places that are valid for writes, and that nobody else uses for
/// as long as `'a`.
pub(crate) unsafe fn places<'a, T>(
    pointer: *mut T,
    len: usize,
    what: &str,
) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(pointer, len, what)?;
    // SAFETY: as in `slice`; nothing is asked of what the places hold.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// Elements in places, all of this value.
pub(crate) fn fill<T: Copy>(places: &mut [MaybeUninit<T>], value: T) -> &mut [T] {
    places.fill(MaybeUninit::new(value));
    let pointer = places.as_mut_ptr().cast();
    // SAFETY: each place has just been initialised; the elements are borrowed as the places are.
    unsafe { std::slice::from_raw_parts_mut(pointer, places.len()) }
}

fn check<T>(pointer: *const T, len: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    if !pointer.is_aligned() {
        return Err(Failure::misuse(format_args!("{what} is not aligned to its elements")));
    }
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Failure::misuse(format_args!("{what} cannot have {len} elements"))),
    }
}

/// Checks the place for a result before anything is done that would be lost without it.
///
/// # Safety
/// The pointer is null, or aligned and valid for writes for as long as `'a`, in which nobody else uses
/// it.
pub(crate) unsafe fn place<'a, T>(
    pointer: *mut *mut T,
    what: &str,
) -> Result<&'a mut *mut T, Failure> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    // SAFETY: it is not null, and the rest is the caller's promise. What the place held may not have
    // been initialised, so it is written before there is a reference to it.
    unsafe {
        pointer.write(ptr::null_mut());
        Ok(&mut *pointer)
    }
}

/// Runs the body of a function of the header that writes a handle to a place of its caller's:
/// `CHIRAL_NOTHING` where the body has none to give.
///
/// # Safety
/// As for [`place`].
pub(crate) unsafe fn give_out<T, R: Into<Option<T>>>(
    pointer: *mut *mut T,
    what: &str,
    body: impl FnOnce() -> Result<R, Failure>,
) -> chiral_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { place(pointer, what)? };
        let Some(value) = body()?.into() else { return Ok(CHIRAL_NOTHING) };
        *place = give(value);
        Ok(CHIRAL_OK)
    })
}

/// Gives a value out as a handle.
pub(crate) fn give<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Takes a handle back; `None` for null.
///
/// # Safety
/// The pointer is null, or one that [`give`] has made, which was not taken back before and which
/// nobody uses any more.
pub(crate) unsafe fn take<T>(pointer: *mut T) -> Option<Box<T>> {
    // SAFETY: it is not null, and the rest is the caller's promise.
    (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
}

/// Drops a handle; does nothing for null.
///
/// # Safety
/// As for [`take`].
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take(pointer) });
        Ok(CHIRAL_OK)
    });
}

fn is_null(what: &str) -> Failure {
    Failure::misuse(format_args!("{what} is a null pointer"))
}
