use super::array::Array;
use super::dtype::Dtype;
use super::name::Name;

/// A proprioception stream as declared to [`Sensors`](crate::sensors::Sensors): joint positions,
/// a gripper width, a force-torque reading: any 1-D vector.
#[derive(Debug, Clone, PartialEq)]
pub struct ProprioConfig {
    /// The name by which a policy looks the stream up.
    pub name: Name,
    /// How many elements the vector has.
    pub len: usize,
    /// The element type; `float32` unless set.
    pub dtype: Dtype,
}

impl ProprioConfig {
    /// A `float32` stream of `len` elements.
    pub fn new(name: impl Into<Name>, len: usize) -> Self {
        Self { name: name.into(), len, dtype: Dtype::F32 }
    }

    /// The stream with another element type.
    #[must_use]
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }
}

/// One proprioception stream of an [`Observation`](crate::Observation).
#[derive(Debug, Clone, PartialEq)]
pub struct Proprio {
    /// The stream's name.
    pub name: Name,
    /// The values, 1-D.
    pub values: Array,
}
