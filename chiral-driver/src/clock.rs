/// Seconds of the host's monotonic clock: what a robot stamps its camera frames with.
///
/// On Unix this is `CLOCK_MONOTONIC`: every process on the host reads the same clock, so that
/// stamps of one can be subtracted from those of another. On Linux it is also Python's
/// `time.monotonic()`. Elsewhere it counts from its first use in this process, and only stamps of
/// this process can be compared.
///
/// It never goes back, and resolves better than a microsecond for a century after boot.
/// Stamps of different hosts have nothing to do with each other.
///
/// ```
/// use chiral_driver::monotonic_seconds;
/// use chiral_proto::{CameraConfig, sensors::Sensors};
///
/// let wrist = CameraConfig::new("wrist_cam", [2, 2, 3]);
/// let sensors = Sensors::with_clock([wrist], [], monotonic_seconds)?;
/// let before = monotonic_seconds();
/// sensors.update_image("wrist_cam", &[0_u8; 12])?;
/// assert!(sensors.snapshot_now()["wrist_cam"].timestamp >= before);
/// # Ok::<(), chiral_proto::sensors::SensorError>(())
/// ```
#[cfg(unix)]
pub fn monotonic_seconds() -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// Seconds of a monotonic clock that counts from its first use in this process: what a robot
/// stamps its camera frames with.
#[cfg(not(unix))]
pub fn monotonic_seconds() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_clock_advances_like_instant() {
        const ROUNDING: f64 = 1e-6;
        let outer = Instant::now();
        let start = monotonic_seconds();
        let inner = Instant::now();
        while inner.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let at_least = inner.elapsed().as_secs_f64();
        let elapsed = monotonic_seconds() - start;
        let at_most = outer.elapsed().as_secs_f64();
        assert!(at_least - ROUNDING <= elapsed, "{elapsed} s, at least {at_least} passed");
        assert!(elapsed <= at_most + ROUNDING, "{elapsed} s, at most {at_most} passed");
    }

    #[test]
    fn all_threads_share_one_clock() {
        let before = monotonic_seconds();
        let elsewhere = std::thread::spawn(monotonic_seconds).join().expect("it does not panic");
        assert!((before..=monotonic_seconds()).contains(&elsewhere));
    }
}
