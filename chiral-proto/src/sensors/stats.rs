use std::fmt;
use std::time::Duration;

use crate::Name;

/// What is known of one camera: how old its latest image is, and whether more are to be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraStats {
    /// The camera's name.
    pub name: Name,
    /// Where it stands.
    pub state: CameraState,
    /// How many images were published.
    pub images: u64,
    /// The time since the latest image was published, by the sensors' clock; `None` before the
    /// first, or without a clock.
    pub age: Option<Duration>,
    /// How many snapshots showed an image that an earlier snapshot had shown already, or the zeros
    /// that a camera begins with.
    pub repeated: u64,
    /// How many snapshots found its image over
    /// [`CameraConfig::max_age`](crate::CameraConfig::max_age), whatever became of it.
    pub stale: u64,
}

/// Where a camera stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CameraState {
    /// It has not published an image yet.
    Waiting,
    /// Its latest image is young enough.
    Live,
    /// Its latest image, or the zeros before the first, are over
    /// [`CameraConfig::max_age`](crate::CameraConfig::max_age).
    Stale,
    /// Every [`CameraWriter`](super::CameraWriter) that had published an image was dropped, as when
    /// the camera's thread ends: no more images are to be expected.
    Stopped,
}

impl fmt::Display for CameraState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for the first image",
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Stopped => "stopped",
        })
    }
}

/// One line, for a log or a terminal.
impl fmt::Display for CameraStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}, {} images", &*self.name, self.state, self.images)?;
        if let Some(age) = self.age {
            write!(f, ", the latest {age:.1?} ago")?;
        }
        if self.repeated > 0 {
            write!(f, ", shown again {} times", self.repeated)?;
        }
        if self.stale > 0 {
            write!(f, ", found stale {} times", self.stale)?;
        }
        Ok(())
    }
}
