use std::fmt;

use super::action::Action;
use super::action_kind::{ActionDeclaration, ActionKind};
use super::array::Array;
use super::dtype::Dtype;
use super::shape::Shape;

/// What an action must look like to reach the robot: its shape, the kind of its elements, and that
/// it holds finite numbers.
///
/// A server checks every action against the specification of its
/// [`Config`](crate::server::Config::action_spec) before the robot sees it. What does not fit is
/// not applied; it is counted and told.
///
/// ```
/// use chiral_proto::{Action, ActionError, ActionSpec};
///
/// let arm = ActionSpec::vector(7);
/// assert_eq!(arm.check(&Action::from([0.1; 7])), Ok(()));
/// assert_eq!(
///     arm.check(&Action::from([0.1; 6])).unwrap_err().to_string(),
///     "the action has shape [6], expected [7] or [1, 7]"
/// );
/// assert!(arm.check(&Action::from([f32::NAN; 7])).is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ActionSpec {
    shape: ShapeSpec,
    dtypes: DtypeKind,
    allows_empty: bool,
    allows_non_finite: bool,
    declared: ActionDeclaration,
}

#[derive(Debug, Clone, PartialEq)]
enum ShapeSpec {
    Any,
    Vector(usize),
    Exactly(Shape),
}

/// A kind of element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DtypeKind {
    /// Every dtype.
    Any,
    /// `float16`, `float32` and `float64`.
    Float,
    /// The signed and unsigned integers.
    Integer,
    /// `bool`.
    Bool,
}

impl DtypeKind {
    /// Whether a dtype is of this kind.
    pub fn contains(self, dtype: Dtype) -> bool {
        match self {
            Self::Any => true,
            Self::Float => matches!(dtype, Dtype::F16 | Dtype::F32 | Dtype::F64),
            Self::Bool => dtype == Dtype::Bool,
            Self::Integer => !Self::Float.contains(dtype) && dtype != Dtype::Bool,
        }
    }
}

impl fmt::Display for DtypeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any dtype",
            Self::Float => "float16, float32 or float64",
            Self::Integer => "an integer dtype",
            Self::Bool => "bool",
        })
    }
}

impl ActionSpec {
    /// Any shape with at least one element, of any dtype, finite: what holds for every robot, and
    /// the default.
    pub const fn any() -> Self {
        Self {
            shape: ShapeSpec::Any,
            dtypes: DtypeKind::Any,
            allows_empty: false,
            allows_non_finite: false,
            declared: ActionDeclaration { kind: None, hold: None },
        }
    }

    /// A vector of `len` floats: of shape `[len]`, or `[1, len]` as some policies send it. A
    /// legacy step may also bring `[N, len]`.
    pub fn vector(len: usize) -> Self {
        Self { shape: ShapeSpec::Vector(len), dtypes: DtypeKind::Float, ..Self::any() }
    }

    /// Floats of exactly this shape.
    pub fn shape(shape: impl Into<Shape>) -> Self {
        let shape = ShapeSpec::Exactly(shape.into());
        Self { shape, dtypes: DtypeKind::Float, ..Self::any() }
    }

    /// The specification for elements of another kind.
    #[must_use]
    pub fn dtypes(mut self, kind: DtypeKind) -> Self {
        self.dtypes = kind;
        self
    }

    /// The specification that lets an action without elements through.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.allows_empty = true;
        self
    }

    /// The specification that lets NaN, infinities and numbers beyond `float32` through.
    #[must_use]
    pub fn allow_non_finite(mut self) -> Self {
        self.allows_non_finite = true;
        self
    }

    /// The specification that says what the actions mean. A server tells it to the policy, in the
    /// metadata under the key `chiral`: so the policy's client knows what it may send when the policy
    /// is late.
    ///
    /// ```
    /// use chiral_proto::{ActionKind, ActionSpec};
    ///
    /// let arm = ActionSpec::vector(7).kind(ActionKind::Velocity).hold([0.0; 7]);
    /// assert_eq!(arm.declaration().kind, Some(ActionKind::Velocity));
    /// ```
    #[must_use]
    pub fn kind(mut self, kind: ActionKind) -> Self {
        self.declared.kind = Some(kind);
        self
    }

    /// The specification with an action that makes the robot stay where it is, such as zeros for
    /// velocities; it travels as a vector of numbers. A server tells it to the policy, as it does the
    /// [`kind`](Self::kind).
    #[must_use]
    pub fn hold(mut self, action: impl Into<Action>) -> Self {
        self.declared.hold = Some(action.into());
        self
    }

    /// What is declared of the actions.
    pub fn declaration(&self) -> &ActionDeclaration {
        &self.declared
    }

    /// Checks an action.
    ///
    /// # Errors
    /// What does not fit, the shape first.
    pub fn check(&self, action: &Action) -> Result<(), ActionError> {
        self.check_shape(action.shape(), false)?;
        self.check_elements(&action.values)
    }

    /// Checks the action of a legacy step, which for a vector may be of shape `[N, len]`.
    ///
    /// # Errors
    /// What does not fit, the shape first.
    pub fn check_step(&self, action: &Action) -> Result<(), ActionError> {
        self.check_shape(action.shape(), true)?;
        self.check_elements(&action.values)
    }

    fn check_shape(&self, found: &Shape, is_step: bool) -> Result<(), ActionError> {
        let fits = match &self.shape {
            ShapeSpec::Any => true,
            ShapeSpec::Vector(len) => match found[..] {
                [_, inner] if is_step => inner == *len,
                _ => is_vector(found, *len),
            },
            ShapeSpec::Exactly(shape) => found == shape,
        };
        if fits {
            return Ok(());
        }
        let expected = match &self.shape {
            ShapeSpec::Vector(len) if is_step => format!("[{len}] or [N, {len}]"),
            ShapeSpec::Vector(len) => format!("[{len}] or [1, {len}]"),
            ShapeSpec::Exactly(shape) => shape.to_string(),
            ShapeSpec::Any => unreachable!("any shape fits"),
        };
        Err(ActionError::Shape { found: found.clone(), expected })
    }

    fn check_elements(&self, values: &Array) -> Result<(), ActionError> {
        if !self.dtypes.contains(values.dtype()) {
            return Err(ActionError::Dtype { found: values.dtype(), expected: self.dtypes });
        }
        if values.is_empty() && !self.allows_empty {
            return Err(ActionError::Empty { found: values.shape().clone() });
        }
        if self.allows_non_finite || !DtypeKind::Float.contains(values.dtype()) {
            return Ok(());
        }
        // Robots read `float32`; what is finite must be so for them.
        let as_f32 = values.to_f32();
        match as_f32.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ActionError::NotFinite { index, found: as_f32[index].to_string() }),
            None => Ok(()),
        }
    }
}

impl Default for ActionSpec {
    fn default() -> Self {
        Self::any()
    }
}

/// Whether a shape is that of a vector of `len` elements: `[len]`, `[1, len]`, or a scalar's for
/// one element.
pub(super) fn is_vector(shape: &Shape, len: usize) -> bool {
    match shape[..] {
        [] => len == 1,
        [only] => only == len,
        [rows, only] => rows == 1 && only == len,
        _ => false,
    }
}

/// An action that does not fit an [`ActionSpec`].
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn of(shape: &[usize]) -> Action {
        let len = shape.iter().product();
        Action::new(Array::from_vec(Shape::new(shape), vec![0.5_f32; len]).unwrap())
    }

    fn values<T: crate::Element>(values: &[T]) -> Action {
        Action::new(Array::from_slice(values.len(), values).unwrap())
    }

    #[test]
    fn a_vector_is_accepted_as_a_single_row() {
        let spec = ActionSpec::vector(7);
        for shape in [&[7][..], &[1, 7]] {
            assert_eq!(spec.check(&of(shape)), Ok(()), "{shape:?}");
        }
        for shape in [&[6][..], &[8], &[2, 7], &[7, 1], &[1, 1, 7], &[], &[0]] {
            assert!(matches!(spec.check(&of(shape)), Err(ActionError::Shape { .. })), "{shape:?}");
        }
        assert_eq!(ActionSpec::vector(1).check(&of(&[])), Ok(()), "a scalar is one element");
    }

    #[test]
    fn a_step_accepts_several_rows() {
        let spec = ActionSpec::vector(7);
        for shape in [&[7][..], &[1, 7], &[3, 7]] {
            assert_eq!(spec.check_step(&of(shape)), Ok(()), "{shape:?}");
        }
        assert_eq!(
            spec.check_step(&of(&[3, 6])).unwrap_err().to_string(),
            "the action has shape [3, 6], expected [7] or [N, 7]"
        );
        assert!(matches!(spec.check_step(&of(&[0, 7])), Err(ActionError::Empty { .. })));
    }

    #[test]
    fn an_exact_shape_must_match() {
        let spec = ActionSpec::shape([2, 3]);
        assert_eq!(spec.check(&of(&[2, 3])), Ok(()));
        assert_eq!(
            spec.check(&of(&[6])).unwrap_err().to_string(),
            "the action has shape [6], expected [2, 3]"
        );
    }

    #[test]
    fn the_dtype_must_be_of_the_declared_kind() {
        let spec = ActionSpec::vector(1);
        assert_eq!(spec.check(&values(&[1_f64])), Ok(()));
        assert_eq!(spec.check(&values(&[f16::ONE])), Ok(()));
        assert_eq!(
            spec.check(&values(&[1_i32])).unwrap_err().to_string(),
            "the action is int32, expected float16, float32 or float64"
        );
        assert_eq!(spec.clone().dtypes(DtypeKind::Integer).check(&values(&[1_u8])), Ok(()));
        assert_eq!(spec.clone().dtypes(DtypeKind::Bool).check(&values(&[true])), Ok(()));
        assert!(spec.dtypes(DtypeKind::Integer).check(&values(&[true])).is_err());
        for dtype in Dtype::ALL {
            let kinds = [DtypeKind::Float, DtypeKind::Integer, DtypeKind::Bool];
            let of = kinds.into_iter().filter(|kind| kind.contains(dtype)).count();
            assert_eq!((of, DtypeKind::Any.contains(dtype)), (1, true), "{dtype}");
        }
    }

    #[test]
    fn undeclared_actions_must_be_finite_and_not_empty() {
        let spec = ActionSpec::default();
        for shape in [&[][..], &[1], &[599], &[3, 4], &[1, 2, 3, 4, 5]] {
            assert_eq!(spec.check(&of(shape)), Ok(()), "{shape:?}");
        }
        for shape in [&[0][..], &[0, 7], &[7, 0]] {
            assert!(matches!(spec.check(&of(shape)), Err(ActionError::Empty { .. })), "{shape:?}");
        }
        assert_eq!(spec.clone().allow_empty().check(&of(&[0])), Ok(()));
        assert_eq!(
            spec.check(&values(&[0.0_f32, f32::NAN])).unwrap_err().to_string(),
            "element 1 of the action is NaN, expected a finite number"
        );
        for action in [
            values(&[f32::INFINITY]),
            values(&[f32::NEG_INFINITY]),
            values(&[f64::NAN]),
            values(&[1e300_f64]),
            values(&[f16::NAN]),
            values(&[f16::INFINITY]),
        ] {
            assert!(matches!(spec.check(&action), Err(ActionError::NotFinite { .. })));
            assert!(spec.check_step(&action).is_err());
            assert_eq!(spec.clone().allow_non_finite().check(&action), Ok(()));
        }
    }
}
