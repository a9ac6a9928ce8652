use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::Sensors;
use crate::{Camera, Name};

/// How often a sensor has delivered, and who waits for the next time.
#[derive(Default)]
pub(super) struct Deliveries {
    count: u64,
    waiting: Vec<(Key, Waker)>,
    next_key: Key,
}

/// One that waits.
type Key = u64;

impl Deliveries {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Counts a delivery, and gives those who waited for it: to be woken when the lock is free.
    pub(super) fn add(&mut self) -> Woken {
        self.count += 1;
        Woken(std::mem::take(&mut self.waiting))
    }

    /// Whether there were more than `after` deliveries; else the next one wakes the task.
    pub(super) fn poll(
        &mut self,
        after: u64,
        key: &mut Option<Key>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if self.count > after {
            self.forget(key.take());
            return Poll::Ready(());
        }
        let key = *key.get_or_insert_with(|| {
            self.next_key += 1;
            self.next_key
        });
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => self.waiting.push((key, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// One that waited does so no longer.
    pub(super) fn forget(&mut self, key: Option<Key>) {
        self.waiting.retain(|(waiting, _)| Some(*waiting) != key);
    }
}

/// Those whom a delivery wakes.
#[must_use]
#[derive(Default)]
pub(super) struct Woken(Vec<(Key, Waker)>);

impl Woken {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// The latest frame of one camera.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LatestFrame {
    /// Its number, from 1: how many images the camera had published by then.
    pub number: u64,
    /// Image, depth map, K, T and capture time. No pixel is copied.
    pub camera: Camera,
}

/// The wait for a camera's next frame, made by [`Sensors::next_frame`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextFrame {
    sensors: Sensors,
    index: usize,
    after: u64,
    key: Option<Key>,
}

impl NextFrame {
    pub(super) fn new(sensors: Sensors, index: usize, after: u64) -> Self {
        Self { sensors, index, after, key: None }
    }
}

impl Future for NextFrame {
    type Output = LatestFrame;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LatestFrame> {
        let Self { sensors, index, after, key } = self.get_mut();
        sensors.0.cameras[*index].poll_frame(*after, key, cx)
    }
}

impl Drop for NextFrame {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.sensors.0.cameras[self.index].deliveries(|deliveries| deliveries.forget(self.key));
        }
    }
}

impl fmt::Debug for NextFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextFrame").field("after", &self.after).finish_non_exhaustive()
    }
}

/// The wait until all sensors have delivered, made by [`Sensors::ready`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Ready {
    sensors: Sensors,
    /// The sensor that is waited for: those before it have delivered.
    index: usize,
    key: Option<Key>,
}

impl Ready {
    pub(super) fn new(sensors: Sensors) -> Self {
        Self { sensors, index: 0, key: None }
    }
}

impl Future for Ready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { sensors, index, key } = self.get_mut();
        while let Some(delivered) = sensors.deliveries(*index, |sensor| sensor.poll(0, key, cx)) {
            ready!(delivered);
            *index += 1;
        }
        Poll::Ready(())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.sensors.deliveries(self.index, |sensor| sensor.forget(self.key));
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("missing", &self.sensors.missing()).finish_non_exhaustive()
    }
}

impl Sensors {
    /// Waits for a frame of a camera that is newer than the one numbered `after`, and gives the
    /// latest then; 0 waits for the first. It waits as long as the camera delivers nothing: put
    /// your runtime's timeout around it. Threads wait with `WaitForSensors` of the adapters.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    /// use chiral_proto::{CameraConfig, sensors::Sensors};
    /// # use std::future::Future as _;
    ///
    /// let sensors = Sensors::new([CameraConfig::new("wrist_cam", [2, 2, 3])], [])?;
    /// // What a runtime does with `sensors.next_frame("wrist_cam", 0)?.await`:
    /// let mut context = Context::from_waker(Waker::noop());
    /// let mut next = pin!(sensors.next_frame("wrist_cam", 0)?);
    /// assert!(next.as_mut().poll(&mut context).is_pending());
    ///
    /// sensors.update_image_at("wrist_cam", &[7_u8; 12], 0.02)?;
    /// let Poll::Ready(frame) = next.poll(&mut context) else { panic!("it has come") };
    /// assert_eq!((frame.number, frame.camera.timestamp), (1, 0.02));
    /// # Ok::<(), chiral_proto::sensors::SensorError>(())
    /// ```
    ///
    /// # Errors
    /// When no camera bears the name; the error lists the names that exist.
    pub fn next_frame(&self, camera: &str, after: u64) -> Result<NextFrame, crate::UnknownName> {
        Ok(NextFrame::new(self.clone(), self.index_of_camera(camera)?, after))
    }

    /// Waits until every camera has published an image and every proprioception stream its values,
    /// so that no snapshot shows the zeros with which they begin.
    pub fn ready(&self) -> Ready {
        Ready::new(self.clone())
    }

    /// The sensors that have delivered nothing yet.
    pub fn missing(&self) -> Vec<Name> {
        let cameras = self.0.cameras.iter().map(|slot| &slot.config.name);
        let proprios = self.0.proprios.iter().map(|slot| &slot.config.name);
        let names = cameras.chain(proprios).enumerate();
        let is_missing = |index| self.deliveries(index, |sensor| sensor.count() == 0);
        names
            .filter(|(index, _)| is_missing(*index) == Some(true))
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The deliveries of a sensor, cameras before proprioception streams.
    fn deliveries<T>(&self, index: usize, with: impl FnOnce(&mut Deliveries) -> T) -> Option<T> {
        if let Some(camera) = self.0.cameras.get(index) {
            return Some(camera.deliveries(with));
        }
        let proprio = self.0.proprios.get(index - self.0.cameras.len())?;
        Some(proprio.deliveries(with))
    }
}
