//! Timers. Tokio's own wheel turns once a millisecond, which is half a period at 500 Hz; on Linux
//! a timer of the kernel's takes its place, good to some ten microseconds.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

#[cfg(target_os = "linux")]
use kernel::Timer;

/// Waits until an instant.
#[derive(Debug)]
pub struct Sleep(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(target_os = "linux")]
    Kernel(Timer),
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

impl Sleep {
    pub(crate) fn until(at: Instant) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = Timer::set(at) {
            return Self(Kind::Kernel(timer));
        }
        // Elsewhere, and when the process has no descriptor left.
        Self(Kind::Tokio(Box::pin(tokio::time::sleep_until(at.into()))))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            #[cfg(target_os = "linux")]
            Kind::Kernel(timer) => timer.poll(cx),
            Kind::Tokio(sleep) => sleep.as_mut().poll(cx),
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll};
    use std::time::{Duration, Instant};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timer of the kernel's that goes off once.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn set(at: Instant) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // Zero would switch it off.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                },
            };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
            #[allow(
                deprecated,
                reason = "sound for an `OwnedFd`, which stays open and the same; the successor is unsafe for what does not"
            )]
            let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// It is readable once it has gone off, and stays so: nothing is read.
        pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.0.poll_read_ready(cx).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn timers_never_fire_early_and_past_ones_fire_at_once() {
        for micros in [0, 1, 300, 1_500, 20_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            Sleep::until(at).await;
            assert!(Instant::now() >= at, "{micros} µs");
        }
        let past = Instant::now().checked_sub(Duration::from_secs(1)).expect("a second of uptime");
        tokio::time::timeout(Duration::from_secs(5), Sleep::until(past)).await.expect("at once");
    }
}
