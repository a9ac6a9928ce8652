//! A virtual clock behind `std::time::Instant`.
//!
//! The driver reads `Instant::now()` itself. On Linux that is the C function `clock_gettime`, and
//! the one that is defined here comes before the C library's. It answers with the virtual time while
//! a target runs, and asks the kernel otherwise: libFuzzer's own clock is another one
//! (`CLOCK_REALTIME`).

use std::cell::Cell;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
compile_error!("the driver's fuzz targets replace the clock of Linux");

/// Where the virtual time begins; far enough from 0 for a driver that subtracts.
const START: Duration = Duration::from_secs(1_000_000);

thread_local! {
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Whether this thread has a virtual clock.
pub(super) fn is_virtual() -> bool {
    NOW.get().is_some()
}

/// The virtual clock of this thread. When it is dropped, the time is the kernel's again.
pub struct Clock(());

impl Clock {
    /// Starts it, always at the same time.
    pub fn start() -> Self {
        NOW.set(Some(START));
        Self(())
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        NOW.set(NOW.get().map(|now| now + time));
    }

    /// How much time has passed.
    pub fn elapsed(&self) -> Duration {
        NOW.get().map_or(Duration::ZERO, |now| now - START)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        NOW.set(None);
    }
}

/// # Safety
/// As the C library's: `time` is valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    if clock == libc::CLOCK_MONOTONIC
        && let Some(now) = NOW.get()
    {
        let tv_sec = now.as_secs() as libc::time_t;
        let tv_nsec = now.subsec_nanos().into();
        // SAFETY: the caller's pointer is valid.
        unsafe { time.write(libc::timespec { tv_sec, tv_nsec }) };
        return 0;
    }
    // SAFETY: the arguments are those of this system call.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}
