//! Waiting for sensors, for threads.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use chiral_proto::sensors::{LatestFrame, Sensors};
use chiral_proto::{Name, UnknownName};

/// Waits for [`Sensors`] in a thread, with a timeout. Tasks await
/// [`Sensors::ready`] and [`Sensors::next_frame`] within their runtime's timeout instead.
///
/// ```
/// use std::time::Duration;
///
/// use chiral_driver::WaitForSensors as _;
/// use chiral_driver::proto::{CameraConfig, sensors::Sensors};
///
/// let sensors = Sensors::new([CameraConfig::new("wrist_cam", [2, 2, 3])], [])?;
/// let camera = sensors.camera("wrist_cam")?;
/// let thread = std::thread::spawn(move || camera.update_image_at(&[7_u8; 12], 0.02));
///
/// sensors.wait_ready(Duration::from_secs(5))?;
/// let first = sensors.wait_next_frame("wrist_cam", 0, Duration::from_secs(5))?;
/// let number = first.expect("it is there").number;
/// // No newer one comes.
/// assert!(sensors.wait_next_frame("wrist_cam", number, Duration::from_millis(1))?.is_none());
/// # thread.join().expect("it does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait WaitForSensors {
    /// Blocks until a frame of a camera is there that is newer than the one numbered `after`, and
    /// gives the latest then; 0 waits for the first. `None` when none has come in time.
    ///
    /// # Errors
    /// When no camera bears the name.
    fn wait_next_frame(
        &self,
        camera: &str,
        after: u64,
        timeout: Duration,
    ) -> Result<Option<LatestFrame>, UnknownName>;

    /// Blocks until every camera has published an image and every proprioception stream its values.
    ///
    /// # Errors
    /// When some have not in time.
    fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady>;
}

impl WaitForSensors for Sensors {
    fn wait_next_frame(
        &self,
        camera: &str,
        after: u64,
        timeout: Duration,
    ) -> Result<Option<LatestFrame>, UnknownName> {
        Ok(wait(self.next_frame(camera, after)?, timeout))
    }

    fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady> {
        wait(self.ready(), timeout)
            .ok_or_else(|| NotReady { missing: self.missing(), waited: timeout })
    }
}

/// Sensors that have delivered nothing in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing has come from {} within {waited:.1?}: are the threads running that publish it?",
    list(missing)
)]
pub struct NotReady {
    /// Their names.
    pub missing: Vec<Name>,
    /// How long was waited.
    pub waited: Duration,
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until the future is ready; `None` when it is not in time.
pub(crate) fn wait<T>(future: impl Future<Output = T>, timeout: Duration) -> Option<T> {
    let deadline = Instant::now().checked_add(timeout);
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use chiral_proto::{CameraConfig, ProprioConfig};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn arm() -> Sensors {
        let camera = CameraConfig::new("wrist_cam", [1, 1, 3]);
        Sensors::new([camera], [ProprioConfig::new("joints", 1)]).unwrap()
    }

    #[test]
    fn a_thread_waits_for_the_next_frame_of_another_one() {
        let sensors = arm();
        let publisher = thread::spawn({
            let camera = sensors.camera("wrist_cam").unwrap();
            move || {
                for frame in 1..=50_u8 {
                    camera.update_image_at(&[frame; 3], frame.into()).unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut seen = 0;
        while seen < 50 {
            let frame = sensors.wait_next_frame("wrist_cam", seen, SOON).unwrap().unwrap();
            assert!(frame.number > seen);
            assert_eq!(u64::from(frame.camera.image.bytes()[0]), frame.number);
            seen = frame.number;
        }
        publisher.join().unwrap();
    }

    #[test]
    fn what_does_not_come_is_told() {
        let sensors = arm();
        let frame = sensors.wait_next_frame("wrist_cam", 0, Duration::from_millis(5));
        assert_eq!(frame.unwrap(), None);
        assert!(sensors.wait_next_frame("wrist", 0, SOON).is_err());
        sensors.update_proprio("joints", &[0.0_f32]).unwrap();
        let error = sensors.wait_ready(Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.missing, ["wrist_cam"]);
        assert!(error.to_string().starts_with("nothing has come from \"wrist_cam\" within 5.0ms"));
        sensors.update_image_at("wrist_cam", &[0_u8; 3], 0.0).unwrap();
        assert_eq!(sensors.wait_ready(Duration::MAX), Ok(()));
    }
}
