use std::borrow::Cow;

use super::action_spec::is_vector;
use super::array::Array;
use super::map::Map;
use super::observation::{Observation, Timestamps};
use super::shape::Shape;
use super::timing::Sent;

/// What the policy tells the robot to do: an array of any shape, usually `float32` of `[D]`, or
/// `[N, D]` for the legacy step.
///
/// It is made with `into()` or `Action::from` of numbers as people have them, `f32` or `f64`, and
/// is `float32` then, the only dtype of actions that every existing peer reads:
///
/// | from | shape |
/// |---|---|
/// | `f32` | `[1]` |
/// | `[f32; D]`, `&[f32; D]`, `&[f32]`, `Vec<f32>`, `&Vec<f32>` | `[D]` |
/// | `[[f32; D]; N]`, `Vec<[f32; D]>` | `[N, D]` |
/// | a nalgebra column vector, such as `SVector<f32, D>` or `DVector<f32>` | `[D]` |
/// | any other nalgebra matrix | `[rows, columns]` |
/// | [`Array`] | as it is, in its dtype |
///
/// `f64` is rounded to the nearest `f32`. An action that is to travel as `float64` is made by
/// [`Action::float64`].
///
/// ```
/// use chiral_proto::Action;
///
/// let action = Action::from(vec![0.1, 0.2, 0.3]);
/// assert_eq!(*action.shape(), [3]);
/// assert_eq!(*action.to_f32(), [0.1, 0.2, 0.3]);
///
/// let joints = nalgebra::SVector::<f64, 7>::repeat(0.5);
/// assert_eq!(*Action::from(joints).shape(), [7]);
/// ```
///
/// Two are equal when they tell the robot the same, decided on the same, whenever they were sent.
#[derive(Debug, Clone)]
pub struct Action {
    /// The action's values.
    pub values: Array,
    /// The camera timestamps of the observation on which the action was decided.
    ///
    /// On the robot's side, what the frame says (empty where it says nothing). On the policy's
    /// side, `None` means: stamp the action when it leaves, with the latest observation.
    pub obs_timestamps: Option<Timestamps>,
    /// The action's number and how long the policy held its observation, on the robot's side;
    /// `None` from a policy that does not say it. On the policy's side the client fills it in when
    /// the action leaves.
    pub sent: Option<Sent>,
    /// On the robot's side: the values are not those that the policy sent, but the nearest that the
    /// robot's [contract](crate::ActionSpec) allows; see [`OnViolation::Clamp`](crate::OnViolation::Clamp).
    /// On the policy's side: the client has clamped it, because the robot would.
    pub clamped: bool,
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        let Self { values, obs_timestamps, sent: _, clamped: _ } = self;
        *values == other.values && *obs_timestamps == other.obs_timestamps
    }
}

impl Action {
    /// An action that will be stamped with the latest observation when it leaves.
    pub fn new(values: Array) -> Self {
        Self { values, obs_timestamps: None, sent: None, clamped: false }
    }

    /// A 1-D action that travels as `float64`. The existing Python peer casts it to `float32`; the
    /// existing C++ peer takes its bytes for `float32` and so reads other numbers.
    pub fn float64(values: impl Into<Vec<f64>>) -> Self {
        Self::new(Array::vector(values.into()))
    }

    /// The action, bound to the observation on which it was decided.
    #[must_use]
    pub fn decided_on(mut self, observation: &Observation) -> Self {
        self.obs_timestamps = Some(observation.camera_timestamps());
        self
    }

    /// The same action in memory of its own: it keeps nothing of the frame that it came in.
    pub(crate) fn compact(&self) -> Self {
        let bytes = bytes::Bytes::copy_from_slice(self.values.bytes());
        let values = Array::new(self.values.dtype(), self.shape().clone(), bytes);
        Self {
            values: values.expect("as many bytes as before"),
            obs_timestamps: self.obs_timestamps.as_ref().map(Timestamps::compact),
            sent: self.sent,
            clamped: self.clamped,
        }
    }

    /// The dimensions of the values.
    pub fn shape(&self) -> &Shape {
        self.values.shape()
    }

    /// The values of a vector of `D` elements, as `f32`, whatever dtype the policy sent: of shape
    /// `[D]`, or `[1, D]` as some policies send it.
    ///
    /// ```
    /// use chiral_proto::Action;
    ///
    /// let [x, y, gripper] = Action::from([0.1, 0.2, 1.0]).to_array()?;
    /// assert_eq!((x, y, gripper), (0.1, 0.2, 1.0));
    ///
    /// let error = Action::from([0.1, 0.2]).to_array::<3>().unwrap_err();
    /// assert_eq!(error.to_string(), "the action has shape [2], expected [3] or [1, 3]");
    /// # Ok::<(), chiral_proto::ActionShapeError>(())
    /// ```
    ///
    /// # Errors
    /// When the shape is another. An [`ActionSpec`](crate::ActionSpec) keeps such actions from the
    /// robot altogether.
    pub fn to_array<const D: usize>(&self) -> Result<[f32; D], ActionShapeError> {
        let wrong_shape = || ActionShapeError { found: self.shape().clone(), expected: D };
        if !is_vector(self.shape(), D) {
            return Err(wrong_shape());
        }
        self.to_f32().as_ref().try_into().map_err(|_| wrong_shape())
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

/// An action that is not the vector that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the action has shape {found}, expected [{expected}] or [1, {expected}]")]
pub struct ActionShapeError {
    /// The action's shape.
    pub found: Shape,
    /// How many elements were asked for.
    pub expected: usize,
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
