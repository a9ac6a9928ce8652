use std::fmt;
use std::time::Duration;

use crate::{Dtype, Name, Shape, UnknownName};

/// One of the buffers that [`Sensors`](super::Sensors) owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The image of a camera.
    Image,
    /// The depth map of a camera.
    Depth,
    /// The values of a proprioception stream.
    Proprio,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the image of camera",
            Self::Depth => "the depth map of camera",
            Self::Proprio => "proprio",
        })
    }
}

/// A declaration or an update that [`Sensors`](super::Sensors) refuses. After a refused update
/// everything is as it was: the old frame stays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SensorError {
    /// No sensor bears the name.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),

    /// A declared buffer is larger than any memory.
    #[error(
        "{part} {name:?} would be {dtype} of shape {shape}, more than memory can hold: declare smaller dimensions"
    )]
    TooLarge {
        /// The buffer.
        part: Part,
        /// The sensor's name.
        name: Name,
        /// The declared element type.
        dtype: Dtype,
        /// The declared shape.
        shape: Shape,
    },

    /// There is no memory for another frame.
    #[error(
        "there is no memory for {part} {name:?}, {bytes} bytes: let go of older observations, or give the source of the sensors' memory more"
    )]
    NoMemory {
        /// The buffer.
        part: Part,
        /// The sensor's name.
        name: Name,
        /// Bytes of a frame.
        bytes: usize,
    },

    /// A camera was declared with a maximal age, and the sensors have no clock to tell it by.
    #[error(
        "camera {name:?} has a `max_age`, and the sensors have no clock: build them with `Sensors::with_clock`, or declare the camera without"
    )]
    NoClockForAge {
        /// The camera's name.
        name: Name,
    },

    /// The elements are of another type than declared.
    #[error(
        "{part} {name:?} takes {expected}, found {found}: convert the elements (raw bytes: wrap them in an `Array` of {expected}), or declare the sensor as {found}"
    )]
    Dtype {
        /// The buffer.
        part: Part,
        /// The sensor's name.
        name: Name,
        /// The element type that came.
        found: Dtype,
        /// The declared element type.
        expected: Dtype,
    },

    /// There are more or fewer elements than the declared shape has.
    #[error(
        "{part} {name:?} takes {expected} elements, shape {shape}, found {found}: give one whole frame, row-major"
    )]
    Length {
        /// The buffer.
        part: Part,
        /// The sensor's name.
        name: Name,
        /// How many elements came.
        found: usize,
        /// How many elements the declared shape has.
        expected: usize,
        /// The declared shape.
        shape: Shape,
    },

    /// An array of another shape than declared was handed over.
    #[error(
        "{part} {name:?} has shape {expected}, found an array of shape {found}: reshape the array, or declare the sensor with its shape"
    )]
    Shape {
        /// The buffer.
        part: Part,
        /// The sensor's name.
        name: Name,
        /// The array's shape.
        found: Shape,
        /// The declared shape.
        expected: Shape,
    },

    /// A depth map for a camera that was declared without one.
    #[error(
        "camera {name:?} has no depth map to write: declare it with `CameraConfig::depth`, or leave the depth out"
    )]
    NoDepth {
        /// The camera's name.
        name: Name,
    },

    /// An image came without its capture time, and the sensors have no clock to take it from.
    #[error(
        "the image of camera {name:?} came without a capture time, and the sensors have no clock: give the time (`update_image_at`, `CameraFrame::captured_at`), or build them with `Sensors::with_clock`"
    )]
    NoClock {
        /// The camera's name.
        name: Name,
    },
}

/// A camera whose latest image is too old, and which was declared to
/// [fail](crate::WhenStale::Fail) then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "camera {name:?} has published no image for {age:.1?}, over the {max_age:.1?} of its `max_age`"
)]
pub struct StaleCamera {
    /// The camera's name.
    pub name: Name,
    /// The time since its latest image was published, or since the sensors were made.
    pub age: Duration,
    /// The age allowed.
    pub max_age: Duration,
}
