use super::action_spec::DtypeKind;
use super::dtype::Dtype;
use super::shape::Shape;
use crate::Name;

/// An action that does not fit an [`ActionSpec`](crate::ActionSpec).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// The shape is another.
    #[error("the action has shape {found}, expected {expected}")]
    Shape {
        /// The action's shape.
        found: Shape,
        /// The shapes that fit, in words.
        expected: String,
    },
    /// The elements are of another kind.
    #[error("the action is {found}, expected {expected}")]
    Dtype {
        /// The action's dtype.
        found: Dtype,
        /// The kind that fits.
        expected: DtypeKind,
    },
    /// There are no elements.
    #[error("the action has shape {found} and no elements, expected at least one")]
    Empty {
        /// The action's shape.
        found: Shape,
    },
    /// An element is NaN or infinite, or a number beyond `float32`.
    #[error("element {index} of the action is {found}, expected a finite number")]
    NotFinite {
        /// The element's place, row-major.
        index: usize,
        /// The element, as `float32`, in words.
        found: String,
    },
    /// An element is not within its [bounds](crate::ActionSpec::bounds).
    #[error("element {index} of the action is {found}, expected {low} to {high}")]
    OutOfBounds {
        /// The element's place, row-major; of a single row, its dimension.
        index: usize,
        /// The element, as `float32`, in words.
        found: String,
        /// The smallest number allowed, in words.
        low: String,
        /// The largest number allowed, in words.
        high: String,
    },
    /// An element is further from the one before it than the [largest step](crate::ActionSpec::max_step).
    #[error(
        "element {index} of the action is {found}, expected at most {max} from {from}, where it was"
    )]
    TooFar {
        /// The element's place, row-major; of a single row, its dimension.
        index: usize,
        /// The element, as `float32`, in words.
        found: String,
        /// What it was before: in the last action, in the row before, or as it was measured.
        from: String,
        /// The largest change allowed, in words.
        max: String,
    },
    /// An element of a delta is larger than the [largest step](crate::ActionSpec::max_step).
    #[error("element {index} of the action is a step of {found}, expected one of at most {max}")]
    TooLong {
        /// The element's place, row-major; of a single row, its dimension.
        index: usize,
        /// The element, as `float32`, in words.
        found: String,
        /// The largest step allowed, in words.
        max: String,
    },
    /// Where the robot is cannot be told, from where the first step is to be measured.
    #[error(
        "the action's step cannot be measured: {stream:?} has delivered nothing, expected where the robot is"
    )]
    NotMeasured {
        /// The stream that [was to tell](crate::ActionSpec::measured_by).
        stream: Name,
    },
}
