//! Random bytes that are always the same, so that a finding can be seen again.
//!
//! As with the clock, the C function that is defined here comes before the C library's: also for
//! the crate `getrandom`, which looks it up by its name.

use std::cell::Cell;

use super::clock::is_virtual;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Starts over.
pub fn start() {
    STATE.set(0);
}

/// SplitMix64.
fn next() -> u64 {
    STATE.set(STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
    let mut mixed = STATE.get();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// # Safety
/// As the C library's: `bytes` is valid for `len` writes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    bytes: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if !is_virtual() {
        // SAFETY: the arguments are those of this system call.
        return unsafe { libc::syscall(libc::SYS_getrandom, bytes, len, flags) as libc::ssize_t };
    }
    for at in 0..len {
        // SAFETY: the caller's pointer is valid for `len` writes.
        unsafe { bytes.cast::<u8>().add(at).write(next() as u8) };
    }
    len as libc::ssize_t
}
