use std::borrow::Cow;

use super::array::Array;
use super::observation::{Observation, Timestamps};
use super::shape::Shape;
use super::value::Map;

/// What the policy tells the robot to do: an array of any shape, usually `float32` of `[D]`, or
/// `[N, D]` for the legacy step.
///
/// ```
/// use chiral_proto::Action;
///
/// let action = Action::from(vec![0.1, 0.2, 0.3]);
/// assert_eq!(*action.values.shape(), [3]);
/// assert_eq!(*action.to_f32(), [0.1, 0.2, 0.3]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// The action's values.
    pub values: Array,
    /// The camera timestamps of the observation on which the action was decided.
    ///
    /// On the robot's side, what the frame says (empty where it says nothing). On the policy's
    /// side, `None` means: stamp the action when it leaves, with the latest observation.
    pub obs_timestamps: Option<Timestamps>,
}

impl Action {
    /// An action that will be stamped with the latest observation when it leaves.
    pub fn new(values: Array) -> Self {
        Self { values, obs_timestamps: None }
    }

    /// The action, bound to the observation on which it was decided.
    #[must_use]
    pub fn decided_on(mut self, observation: &Observation) -> Self {
        self.obs_timestamps = Some(observation.camera_timestamps());
        self
    }

    /// The dimensions of the values.
    pub fn shape(&self) -> &Shape {
        self.values.shape()
    }

    /// The values as `f32`, whatever dtype the policy sent; row-major.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        self.values.to_f32()
    }
}

impl From<Array> for Action {
    fn from(values: Array) -> Self {
        Self::new(values)
    }
}

/// A 1-D `float32` action.
impl From<Vec<f32>> for Action {
    fn from(values: Vec<f32>) -> Self {
        Self::new(Array::vector(values))
    }
}

/// A 1-D `float32` action.
impl From<&[f32]> for Action {
    fn from(values: &[f32]) -> Self {
        values.to_vec().into()
    }
}

/// A 1-D `float32` action.
impl<const DIM: usize> From<[f32; DIM]> for Action {
    fn from(values: [f32; DIM]) -> Self {
        values.to_vec().into()
    }
}

/// What a reset of the robot gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResetResult {
    /// The observation after the reset.
    pub observation: Observation,
    /// Whatever the robot says about it.
    pub info: Map,
}

/// What a legacy step gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepResult {
    /// The observation after the step.
    pub observation: Observation,
    /// The reward of the step.
    pub reward: f64,
    /// Whether the episode has ended by itself.
    pub terminated: bool,
    /// Whether the episode was cut short.
    pub truncated: bool,
    /// Whatever the robot says about it.
    pub info: Map,
}
