//! Timers. Tokio's own wheel turns once a millisecond, which is half a period at 500 Hz; on Linux
//! a timer of the kernel's takes its place, good to some ten microseconds. What is still seconds
//! away, such as the end of a handshake, needs no descriptor for that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
#[cfg(target_os = "linux")]
use std::time::Duration;
use std::time::Instant;

use chiral_driver::AsyncTimer;
#[cfg(target_os = "linux")]
use kernel::KernelTimer;

/// What is further away than this is left to tokio.
#[cfg(target_os = "linux")]
const LONG: Duration = Duration::from_secs(5);

/// Waits until an instant, and can be set again.
#[derive(Debug)]
pub struct Timer(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(target_os = "linux")]
    Kernel(KernelTimer),
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

impl Timer {
    pub(crate) fn new(at: Instant) -> Self {
        #[cfg(target_os = "linux")]
        if !is_long(at)
            && let Ok(timer) = KernelTimer::new(at)
        {
            return Self(Kind::Kernel(timer));
        }
        // Elsewhere too, and when the process has no descriptor left.
        Self(Kind::Tokio(Box::pin(tokio::time::sleep_until(at.into()))))
    }
}

#[cfg(target_os = "linux")]
fn is_long(at: Instant) -> bool {
    at.saturating_duration_since(Instant::now()) > LONG
}

impl AsyncTimer for Timer {
    fn reset(&mut self, at: Instant) {
        match &mut self.0 {
            #[cfg(target_os = "linux")]
            Kind::Kernel(timer) => {
                if timer.set(at).is_err() {
                    *self = Self(Kind::Tokio(Box::pin(tokio::time::sleep_until(at.into()))));
                }
            }
            #[cfg(target_os = "linux")]
            Kind::Tokio(_) if !is_long(at) => *self = Self::new(at),
            Kind::Tokio(sleep) => sleep.as_mut().reset(at.into()),
        }
    }
}

impl Future for Timer {
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
    use std::task::{Context, Poll, ready};
    use std::time::{Duration, Instant};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timer of the kernel's that goes off once each time it is set.
    #[derive(Debug)]
    pub(super) struct KernelTimer {
        timer: AsyncFd<OwnedFd>,
        at: Instant,
    }

    impl KernelTimer {
        pub(super) fn new(at: Instant) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[allow(
                deprecated,
                reason = "sound for an `OwnedFd`, which stays open and the same; the successor is unsafe for what does not"
            )]
            let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
            let mut timer = Self { timer, at };
            timer.set(at)?;
            Ok(timer)
        }

        /// Sets it for another instant.
        pub(super) fn set(&mut self, at: Instant) -> io::Result<()> {
            // Zero would switch it off.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                },
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.at = at;
            Ok(())
        }

        /// It is readable once it has gone off, and stays so until it is set again: nothing is
        /// read.
        pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
            loop {
                match ready!(self.timer.poll_read_ready(cx)) {
                    // From before it was set again. What it is set for now has not come, so that
                    // nothing else can be cleared.
                    Ok(mut ready) if Instant::now() < self.at => ready.clear_ready(),
                    _ => return Poll::Ready(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timers_never_fire_early_and_past_ones_fire_at_once() {
        for micros in [0, 1, 300, 1_500, 20_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            Timer::new(at).await;
            assert!(Instant::now() >= at, "{micros} µs");
        }
        let past = Instant::now().checked_sub(Duration::from_secs(1)).expect("a second of uptime");
        tokio::time::timeout(Duration::from_secs(5), Timer::new(past)).await.expect("at once");
    }

    #[tokio::test]
    async fn a_reset_timer_fires_at_the_new_instant() {
        let mut timer = Timer::new(Instant::now());
        (&mut timer).await;
        for micros in [2_000, 0, 5_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.reset(at);
            (&mut timer).await;
            assert!(Instant::now() >= at, "{micros} µs");
        }
        timer.reset(Instant::now() + Duration::from_secs(3600));
        timer.reset(Instant::now());
        tokio::time::timeout(Duration::from_secs(5), timer).await.expect("at once");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_what_is_near_takes_a_descriptor() {
        let mut timer = Timer::new(Instant::now() + 2 * LONG);
        assert!(matches!(timer.0, Kind::Tokio(_)), "a handshake's end");
        let at = Instant::now() + Duration::from_millis(2);
        timer.reset(at);
        assert!(matches!(timer.0, Kind::Kernel(_)), "a tick");
        timer.await;
        assert!(Instant::now() >= at);
    }
}
