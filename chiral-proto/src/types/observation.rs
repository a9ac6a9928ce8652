use std::ops::Index;

use std::time::{Duration, Instant};

use super::camera::Camera;
use super::map::Map;
use super::name::{Name, UnknownName};
use super::proprio::Proprio;
use super::timing::{Age, Arrival, Timing};
use crate::timeline::Stamp;
use crate::wire::timing;

/// What the robot senses at one moment: all cameras, then all proprioception streams, in the order
/// in which the robot declared them.
///
/// `observation["wrist_cam"]` is the camera of that name and panics, naming the cameras there are,
/// when there is none; [`camera`](Self::camera) returns the same as an error.
///
/// Equality is of what was observed, whenever it arrived.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// A time chosen by the robot's application, in seconds.
    pub timestamp: f64,
    /// The cameras, in declaration order.
    pub cameras: Vec<Camera>,
    /// The proprioception streams, in declaration order.
    pub proprios: Vec<Proprio>,
    /// Whatever else the robot has to say. Under the key `chiral`, what [`timing`](Self::timing)
    /// reads.
    pub extra: Map,
    /// When it came, on the policy's side; `None` on the robot's.
    pub arrival: Option<Arrival>,
    /// Where in the timeline it was taken, on the policy's side.
    pub stamp: Stamp,
}

impl PartialEq for Observation {
    fn eq(&self, other: &Self) -> bool {
        let Self { timestamp, cameras, proprios, extra, arrival: _, stamp: _ } = self;
        *timestamp == other.timestamp
            && *cameras == other.cameras
            && *proprios == other.proprios
            && *extra == other.extra
    }
}

impl Observation {
    /// The camera of a name. Where two cameras bear it, the first.
    ///
    /// # Errors
    /// When no camera bears it; the error lists the names that exist.
    pub fn camera(&self, name: &str) -> Result<&Camera, UnknownName> {
        let found = self.cameras.iter().find(|camera| camera.name == *name);
        found.ok_or_else(|| {
            UnknownName::new("camera", name, self.cameras.iter().map(|camera| &camera.name))
        })
    }

    /// The proprioception stream of a name. Where two streams bear it, the first.
    ///
    /// # Errors
    /// When no stream bears it; the error lists the names that exist.
    pub fn proprio(&self, name: &str) -> Result<&Proprio, UnknownName> {
        let found = self.proprios.iter().find(|proprio| proprio.name == *name);
        found.ok_or_else(|| {
            UnknownName::new("proprio", name, self.proprios.iter().map(|proprio| &proprio.name))
        })
    }

    /// The capture time of each camera, by its name.
    pub fn camera_timestamps(&self) -> Timestamps {
        let cameras = self.cameras.iter().map(|camera| (camera.name.clone(), camera.timestamp));
        let snap = timing::read_snap(&self.extra);
        let received = self.arrival.map(|arrival| arrival.received);
        Timestamps { snap, received, ..cameras.collect() }
    }

    /// What the robot says of time, if it knows the timing extension and the client
    /// [uses](crate::client::Config::timing) it, as it does by default.
    pub fn timing(&self) -> Option<Timing> {
        timing::read(&self.extra, self.cameras.len())
    }

    /// How old the observation is at `now`, on the policy's side: how old its oldest image is, of
    /// the cameras whose age the robot tells. Where it tells none, the time since the observation
    /// was taken. `None` for an observation that did not come over a connection.
    pub fn age(&self, now: Instant) -> Option<Age> {
        let ages = self.timing().map(|timing| timing.ages).unwrap_or_default();
        self.age_since(ages.into_iter().flatten().max().unwrap_or_default(), now)
    }

    /// How old the image of a camera is at `now`, on the policy's side; `None` when the robot does
    /// not tell.
    ///
    /// # Errors
    /// When no camera bears the name; the error lists the names that exist.
    pub fn camera_age(&self, name: &str, now: Instant) -> Result<Option<Age>, UnknownName> {
        self.camera(name)?;
        let index = self.cameras.iter().position(|camera| camera.name == *name);
        let age = |timing: Timing| *timing.ages.get(index?)?;
        let age = self.timing().and_then(age);
        Ok(age.and_then(|age| self.age_since(age, now)))
    }

    /// The age at `now` of what was this old when the observation was taken.
    fn age_since(&self, age: Duration, now: Instant) -> Option<Age> {
        let Arrival { requested, received } = self.arrival?;
        let since = |instant| age.saturating_add(now.saturating_duration_since(instant));
        Some(Age { at_least: since(received), at_most: requested.map(since) })
    }
}

/// The camera of a name.
///
/// # Panics
/// When no camera bears it, with the list of names that exist.
impl Index<&str> for Observation {
    type Output = Camera;

    fn index(&self, name: &str) -> &Camera {
        self.camera(name).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Capture times by camera name: what an action was decided on.
///
/// Cloning is cheap, so that every action of a chunk carries it. Two are equal when the capture
/// times are.
#[derive(Debug, Clone)]
pub struct Timestamps {
    cameras: std::sync::Arc<[(Name, f64)]>,
    /// When the robot took the observation, as it [says](Timing::snap) itself.
    pub(crate) snap: Option<Duration>,
    /// When the policy had received the observation.
    pub(crate) received: Option<Instant>,
}

impl PartialEq for Timestamps {
    fn eq(&self, other: &Self) -> bool {
        self.cameras == other.cameras
    }
}

impl Timestamps {
    /// The capture time of a camera, in monotonic seconds of the robot's clock.
    pub fn get(&self, camera: &str) -> Option<f64> {
        self.iter().find(|(name, _)| **name == *camera).map(|(_, timestamp)| timestamp)
    }

    /// The capture times, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, f64)> {
        self.cameras.iter().map(|(name, timestamp)| (name, *timestamp))
    }

    /// When the robot took the observation, as it [says](Timing::snap) itself: the time since the
    /// connection began. `None` where it does not say so.
    pub fn snap(&self) -> Option<Duration> {
        self.snap
    }

    /// The same, of an observation that the robot took then.
    #[must_use]
    pub fn with_snap(self, snap: Option<Duration>) -> Self {
        Self { snap, ..self }
    }

    /// How many cameras there are.
    pub fn len(&self) -> usize {
        self.cameras.len()
    }

    /// Whether there are no cameras.
    pub fn is_empty(&self) -> bool {
        self.cameras.is_empty()
    }

    /// The same in memory of its own: decoded names share the header that they came in.
    pub(crate) fn compact(&self) -> Self {
        let text: String = self.cameras.iter().map(|(name, _)| name.as_str()).collect();
        let text = bytes::Bytes::from(text);
        let mut start = 0;
        let compacted = self.cameras.iter().map(|(name, timestamp)| {
            let end = start + name.len();
            let name = Name::from_checked(text.slice(start..end));
            start = end;
            (name, *timestamp)
        });
        Self { cameras: compacted.collect(), ..*self }
    }
}

/// Where a name comes twice, its first time counts: it is the camera that a look-up finds.
impl<N: Into<Name>> FromIterator<(N, f64)> for Timestamps {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(timestamps: I) -> Self {
        let timestamps = timestamps.into_iter();
        let mut kept: Vec<(Name, f64)> = Vec::with_capacity(timestamps.size_hint().0);
        for (name, timestamp) in timestamps {
            let name = name.into();
            if !kept.iter().any(|(earlier, _)| *earlier == name) {
                kept.push((name, timestamp));
            }
        }
        Self { cameras: kept.into(), snap: None, received: None }
    }
}

impl Default for Timestamps {
    fn default() -> Self {
        Self { cameras: [].into(), snap: None, received: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Array;
    use nalgebra::{Matrix3, Matrix4};

    fn seen_by(names: &[&'static str]) -> Observation {
        let cameras = names.iter().zip(1_u8..).map(|(&name, n)| Camera {
            name: name.into(),
            timestamp: f64::from(n),
            intrinsics: Matrix3::identity(),
            extrinsics: Matrix4::identity(),
            image: Array::vector(vec![n]),
            depth: None,
        });
        Observation { cameras: cameras.collect(), ..Observation::default() }
    }

    #[test]
    fn lookup_finds_the_first_duplicate_and_errors_list_the_names() {
        let observation = seen_by(&["left", "right", "left"]);
        assert_eq!(observation["left"].image.bytes()[..], [1]);
        assert_eq!(
            observation.camera("top").unwrap_err().to_string(),
            r#"no camera is called "top"; there are "left", "right", "left""#
        );
        assert_eq!(
            observation.proprio("q").unwrap_err().to_string(),
            r#"no proprio is called "q"; there are none at all"#
        );
    }

    #[test]
    #[should_panic(expected = r#"no camera is called "top"; there is "left""#)]
    fn indexing_an_unknown_camera_panics_with_the_names() {
        let _ = &seen_by(&["left"])["top"];
    }

    #[test]
    fn timestamps_keep_the_first_of_duplicate_cameras() {
        let timestamps = seen_by(&["left", "right", "left"]).camera_timestamps();
        assert_eq!(timestamps, [("left", 1.0), ("right", 2.0)].into_iter().collect());
        assert_eq!(timestamps.get("left"), Some(1.0));
        assert_eq!(timestamps.get("top"), None);
    }
}
