use std::fmt;

use std::time::Duration;

use super::action::Action;
use super::action_declaration::ActionDeclaration;
use super::action_error::ActionError;
use super::action_kind::ActionKind;
use super::action_limits::{self, Bounds, ChangeFrom, PerDimension};
use super::array::Array;
use super::contract::{Arming, OnViolation};
use super::dtype::Dtype;
use super::shape::Shape;
use super::value::Value;
use crate::{Name, Rate};

/// What an action must be to reach the robot: its shape, the kind of its elements, and that it holds
/// finite numbers; what the numbers mean, their bounds and largest steps; how often an action is
/// expected, what becomes of one that is not as declared or does not come, and what arms the robot.
///
/// It is the robot's contract with its policies, declared once, as
/// [`Config::action_spec`](crate::server::Config::action_spec). The server checks every action before
/// the robot sees it, and tells the contract in the metadata, so that a policy's client checks too. What
/// breaks it is not applied, or clamped; it is counted and told.
///
/// It is no safety function: keep the emergency stop, and the limits of the robot's own controller.
///
/// ```
/// use chiral_proto::{ActionKind, ActionSpec, Arming, OnViolation, Rate};
///
/// let arm = ActionSpec::vector(7)
///     .kind(ActionKind::Absolute) // radians
///     .bounds([-2.9; 7], [2.9; 7])
///     .max_step(0.05) // the same for every joint
///     .measured_by("joint_pos") // from where the first step is measured
///     .on_violation(OnViolation::Clamp)
///     .rate(Rate::hz(50)?) // holds after 30 ms without an action
///     .stop_after(20) // missed periods
///     .arming(Arming::OnReset);
/// println!("{arm}");
/// # Ok::<(), chiral_proto::BadRate>(())
/// ```
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
    /// The proprioception stream that tells where the robot is.
    measured_by: Option<Name>,
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
    const DECLARED: [(Self, &str); 3] =
        [(Self::Float, "float"), (Self::Integer, "integer"), (Self::Bool, "bool")];

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
            declared: ActionDeclaration::nothing(),
            measured_by: None,
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

    /// The specification with the smallest and the largest number of each dimension, both allowed:
    /// one pair for all, or one for each.
    ///
    /// # Panics
    /// When there are not as many numbers as the action has elements, one of them is not finite, or
    /// the smallest is larger than the largest: the robot must not run without what was meant. For
    /// numbers that are read from somewhere there is [`try_bounds`](Self::try_bounds).
    #[must_use]
    #[track_caller]
    pub fn bounds(self, low: impl Into<PerDimension>, high: impl Into<PerDimension>) -> Self {
        self.try_bounds(low, high).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`bounds`](Self::bounds), for bounds that are not known when the program is written.
    ///
    /// # Errors
    /// Where `bounds` panics.
    pub fn try_bounds(
        mut self,
        low: impl Into<PerDimension>,
        high: impl Into<PerDimension>,
    ) -> Result<Self, BadLimits> {
        let bounds = Bounds::new(low.into(), high.into(), self.row_len());
        self.declared.bounds = Some(bounds.map_err(BadLimits::Bounds)?);
        Ok(self)
    }

    /// The specification with the largest step of each dimension, one for all or one for each, by
    /// which
    /// - an absolute action may differ from the last one that the robot was given, whatever time lies
    ///   between. The first one after the robot was armed, reset or told to hold may differ so much from
    ///   where the robot [is measured](Self::measured_by) to be. Where that is not declared, the first
    ///   one after arming or a reset may be anything within the [bounds](Self::bounds), and the first
    ///   one after a hold is compared with the last before it. So are actions of no declared kind;
    /// - a delta may differ from 0;
    /// - a velocity may differ from the last one that the robot was given; from 0 after it was armed,
    ///   reset or told to hold.
    ///
    /// A difference that comes from the rounding to `float32` alone does not count. Rows of a legacy step
    /// are compared one with the other.
    ///
    /// With [`ActionQueue::Latest`](crate::server::ActionQueue::Latest) an action may find that the one
    /// before it was superseded and never given; then the step is measured from the one before that.
    /// A robot that is too slow for its policy had better clamp.
    ///
    /// # Panics
    /// When there are not as many numbers as the action has elements, one is negative or not finite, or
    /// actions of [any](Self::any) shape are declared. For numbers that are read from somewhere there is
    /// [`try_max_step`](Self::try_max_step).
    #[must_use]
    #[track_caller]
    pub fn max_step(self, max_step: impl Into<PerDimension>) -> Self {
        self.try_max_step(max_step).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`max_step`](Self::max_step), for steps that are not known when the program is written.
    ///
    /// # Errors
    /// Where `max_step` panics.
    pub fn try_max_step(mut self, max_step: impl Into<PerDimension>) -> Result<Self, BadLimits> {
        let checked = match self.row_len() {
            Some(len) => action_limits::max_step(max_step.into(), Some(len)),
            None => Err("expected actions of a declared shape".to_owned()),
        };
        self.declared.max_step = Some(checked.map_err(BadLimits::MaxStep)?);
        Ok(self)
    }

    /// The specification with the proprioception stream that tells where the robot is, in the unit and
    /// the order of an absolute action: from there the first [step](Self::max_step) is measured. While
    /// the stream has delivered nothing, or has another length, that first action is refused.
    #[must_use]
    pub fn measured_by(mut self, stream: impl Into<Name>) -> Self {
        self.measured_by = Some(stream.into());
        self
    }

    /// The specification with how often an action is expected. The robot then holds when periods
    /// [are missed](Self::hold_after), by default at the first.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.declared.rate = Some(rate);
        self.declared.hold_after.get_or_insert(1);
        self
    }

    /// The specification with how many periods in a row are missed when the robot is told to hold:
    /// [`Event::Watchdog`](crate::server::Event::Watchdog). Default: 1. 0 is for never.
    ///
    /// The `n`-th period is missed when `n` and a half periods have passed since the last action: an
    /// action that is late by less than half a period is on time.
    /// [`Config::watchdog`](crate::server::Config::watchdog) says it as a time, and goes before it.
    #[must_use]
    pub fn hold_after(mut self, missed_periods: u32) -> Self {
        self.declared.hold_after = Some(missed_periods);
        self
    }

    /// The specification with how many periods in a row are missed, counted as for
    /// [`hold_after`](Self::hold_after), when the robot is stopped: it takes no action until it is armed
    /// again. Default: never, and so is 0. A robot that has not moved since it was armed or reset is not
    /// stopped: a policy may take its time for the first action. The time of a reset or a legacy step does
    /// not count as silence, which begins when the answer leaves.
    #[must_use]
    pub fn stop_after(mut self, missed_periods: u32) -> Self {
        self.declared.stop_after = Some(missed_periods);
        self
    }

    /// The specification with what becomes of an action that is out of bounds or too large a step.
    /// Default: it is refused.
    #[must_use]
    pub fn on_violation(mut self, on_violation: OnViolation) -> Self {
        self.declared.on_violation = on_violation;
        self
    }

    /// The specification with what arms the robot. Default: a connection.
    #[must_use]
    pub fn arming(mut self, arming: Arming) -> Self {
        self.declared.arming = arming;
        self
    }

    /// The shape that is declared: of one dimension for a [vector](Self::vector); `None` for any.
    pub fn declared_shape(&self) -> Option<Shape> {
        match &self.shape {
            ShapeSpec::Any => None,
            ShapeSpec::Vector(len) => Some((*len).into()),
            ShapeSpec::Exactly(shape) => Some(shape.clone()),
        }
    }

    /// The kind of elements that is declared.
    pub fn declared_dtypes(&self) -> DtypeKind {
        self.dtypes
    }

    /// Whether an action without elements is [let through](Self::allow_empty).
    pub fn allows_empty(&self) -> bool {
        self.allows_empty
    }

    /// Whether NaN and infinities are [let through](Self::allow_non_finite).
    pub fn allows_non_finite(&self) -> bool {
        self.allows_non_finite
    }

    /// What is declared of the actions.
    pub fn declaration(&self) -> &ActionDeclaration {
        &self.declared
    }

    /// The declaration, to be completed by a server's settings or replaced by a client's user.
    pub(crate) fn declaration_mut(&mut self) -> &mut ActionDeclaration {
        &mut self.declared
    }

    /// The proprioception stream that tells where the robot is.
    pub(crate) fn measuring_stream(&self) -> Option<&Name> {
        self.measured_by.as_ref()
    }

    /// How long the robot waits for an action until it holds: by a time that was set, or by its rate.
    pub(crate) fn hold_timeout(&self) -> Option<Duration> {
        self.declared.watchdog.or_else(|| self.timeout(self.declared.hold_after))
    }

    /// How long the robot waits for an action until it stops, by its rate.
    pub(crate) fn stop_timeout(&self) -> Option<Duration> {
        self.timeout(self.declared.stop_after)
    }

    fn timeout(&self, missed_periods: Option<u32>) -> Option<Duration> {
        let periods = missed_periods.filter(|&count| count > 0)?;
        let seconds = (f64::from(periods) + 0.5) / self.declared.rate?.as_hz();
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// How many elements an action, or a row of a step's, has, if that is declared.
    pub(crate) fn row_len(&self) -> Option<usize> {
        match &self.shape {
            ShapeSpec::Any => None,
            ShapeSpec::Vector(len) => Some(*len),
            ShapeSpec::Exactly(shape) => shape.element_count(),
        }
    }

    /// Whether actions of this dtype are let through.
    pub(crate) fn takes(&self, dtype: Dtype) -> bool {
        self.dtypes.contains(dtype)
    }

    /// What is declared of shape and dtype, for the metadata.
    pub(super) fn form(&self) -> Vec<(Value, Value)> {
        let dims = match &self.shape {
            ShapeSpec::Any => None,
            ShapeSpec::Vector(len) => Some(vec![*len]),
            ShapeSpec::Exactly(shape) => Some(shape.to_vec()),
        };
        let dtype = DtypeKind::DECLARED.into_iter().find(|(kind, _)| *kind == self.dtypes);
        let shape = dims.map(|dims| dims.into_iter().map(Value::from).collect());
        let shape = shape.map(|dims| ("shape".into(), Value::Array(dims)));
        let dtype = dtype.map(|(_, name)| ("dtype".into(), name.into()));
        shape.into_iter().chain(dtype).collect()
    }

    /// What an action may be that usually is refused, for the metadata.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = (Value, Value)> + use<> {
        let exceptions = [("empty", self.allows_empty), ("non_finite", self.allows_non_finite)];
        let allowed = exceptions.into_iter().filter(|(_, is_allowed)| *is_allowed);
        allowed.map(|(key, _)| (key.into(), true.into()))
    }

    /// What stands under `action` in the metadata; what is not declared stays as in `unknown`.
    pub(super) fn read(action: &Value, unknown: Self) -> Self {
        let mut spec = unknown;
        let dim = |dim: &Value| usize::try_from(dim.as_u64()?).ok();
        let shape = action["shape"].as_array();
        let shape: Option<Vec<usize>> = shape.and_then(|dims| dims.iter().map(dim).collect());
        if let Some(dims) = shape.filter(|dims| Shape::new(dims).element_count().is_some()) {
            spec.shape = match dims[..] {
                [len] => ShapeSpec::Vector(len),
                _ => ShapeSpec::Exactly(dims.into()),
            };
        }
        spec.allows_empty |= action["empty"].as_bool() == Some(true);
        spec.allows_non_finite |= action["non_finite"].as_bool() == Some(true);
        let dtype = action["dtype"].as_str();
        let known = DtypeKind::DECLARED.into_iter().find(|(_, name)| dtype == Some(name));
        spec.dtypes = known.map_or(spec.dtypes, |(kind, _)| kind);
        spec.declared = ActionDeclaration::read(action, spec.row_len());
        // Its numbers travel without a shape.
        if let (ShapeSpec::Exactly(shape), Some(hold)) = (&spec.shape, &mut spec.declared.hold)
            && let Ok(values) = Array::from_slice(shape.clone(), &hold.to_f32())
        {
            hold.values = values;
        }
        spec
    }

    /// Checks an action as far as that can be done without knowing where the robot is: everything
    /// but the [largest step](Self::max_step) of absolute actions and velocities.
    ///
    /// # Errors
    /// What does not fit, the shape first.
    pub fn check(&self, action: &Action) -> Result<(), ActionError> {
        self.check_form(action, false)?;
        self.check_numbers(&action.values)
    }

    /// Checks the action of a legacy step, which for a vector may be of shape `[N, len]`, as
    /// [`check`](Self::check) does, and the steps between its rows.
    ///
    /// # Errors
    /// What does not fit, the shape first.
    pub fn check_step(&self, action: &Action) -> Result<(), ActionError> {
        self.check_form(action, true)?;
        self.check_numbers(&action.values)?;
        self.check_change(&action.values, ChangeFrom::Unknown)
    }

    /// Checks what no clamping could mend.
    fn check_form(&self, action: &Action, is_step: bool) -> Result<(), ActionError> {
        self.check_shape(action.shape(), is_step)?;
        self.check_elements(&action.values)
    }

    fn check_numbers(&self, values: &Array) -> Result<(), ActionError> {
        if let Some(bounds) = &self.declared.bounds {
            bounds.check(values)?;
        }
        match (&self.declared.max_step, self.declared.kind) {
            (Some(max_step), Some(ActionKind::Delta)) => {
                action_limits::check_size(values, max_step)
            }
            _ => Ok(()),
        }
    }

    fn check_change(&self, values: &Array, from: ChangeFrom<'_>) -> Result<(), ActionError> {
        match self.change_limit() {
            Some((max_step, len)) => action_limits::check_change(values, len, from, max_step),
            None => Ok(()),
        }
    }

    /// The largest change from one action to the next, and the length of a row.
    fn change_limit(&self) -> Option<(&PerDimension, usize)> {
        let max_step = self.declared.max_step.as_ref()?;
        let len = self.row_len().filter(|len| *len > 0)?;
        (self.declared.kind != Some(ActionKind::Delta)).then_some((max_step, len))
    }

    /// Whether steps are measured from the action before.
    pub(crate) fn limits_change(&self) -> bool {
        self.change_limit().is_some()
    }

    /// Checks an action as [`check`](Self::check) does, or as [`check_step`](Self::check_step); clamps
    /// what may be clamped, and gives what was wrong with it.
    ///
    /// # Errors
    /// What does not fit and is not to be clamped.
    pub(crate) fn judge(
        &self,
        action: &mut Action,
        is_step: bool,
    ) -> Result<Option<ActionError>, ActionError> {
        self.check_form(action, is_step)?;
        let Err(error) = self.check_numbers(&action.values) else { return Ok(None) };
        let Self { declared: ActionDeclaration { bounds, max_step, kind, .. }, .. } = self;
        let clamped = |values: &Array| {
            let values = match bounds {
                Some(bounds) => action_limits::clamp_to_bounds(values, bounds)?,
                None => values.clone(),
            };
            match max_step {
                Some(max_step) if *kind == Some(ActionKind::Delta) => {
                    action_limits::clamp_size(&values, max_step)
                }
                _ => Some(values),
            }
        };
        self.clamp(action, error, clamped, |values| self.check_numbers(values))
    }

    /// Checks the change of an action that [`judge`](Self::judge) has let through, and clamps it.
    ///
    /// # Errors
    /// What does not fit and is not to be clamped.
    pub(crate) fn judge_change(
        &self,
        action: &mut Action,
        from: ChangeFrom<'_>,
    ) -> Result<Option<ActionError>, ActionError> {
        let Some((max_step, len)) = self.change_limit() else { return Ok(None) };
        let Err(error) = self.check_change(&action.values, from) else { return Ok(None) };
        let bounds = self.declared.bounds.as_ref();
        self.clamp(
            action,
            error,
            |values| action_limits::clamp_change(values, len, from, max_step, bounds),
            |values| self.check_numbers(values).and_then(|()| self.check_change(values, from)),
        )
    }

    fn clamp(
        &self,
        action: &mut Action,
        error: ActionError,
        clamp: impl FnOnce(&Array) -> Option<Array>,
        check: impl FnOnce(&Array) -> Result<(), ActionError>,
    ) -> Result<Option<ActionError>, ActionError> {
        let is_finite = || action_limits::check_finite(&action.values).is_ok();
        if self.declared.on_violation != OnViolation::Clamp || !is_finite() {
            return Err(error);
        }
        // It may be that nothing at all is allowed, far out of bounds.
        match clamp(&action.values).filter(|values| check(values).is_ok()) {
            Some(values) => {
                (action.values, action.clamped) = (values, true);
                Ok(Some(error))
            }
            None => Err(error),
        }
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
        action_limits::check_finite(values)
    }
}

/// One line for each thing that is declared.
impl fmt::Display for ActionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let declared = &self.declared;
        match &self.shape {
            ShapeSpec::Any => f.write_str("actions of any shape")?,
            ShapeSpec::Vector(len) => write!(f, "actions of shape [{len}]")?,
            ShapeSpec::Exactly(shape) => write!(f, "actions of shape {shape}")?,
        }
        write!(f, ", {}", self.dtypes)?;
        if let Some(kind) = declared.kind {
            write!(f, ", {kind}")?;
        }
        if let Some(Bounds { low, high, .. }) = &declared.bounds {
            write!(f, "\nfrom {low} to {high}")?;
        }
        if let Some(max_step) = &declared.max_step {
            write!(f, "\nin steps of at most {max_step}")?;
        }
        if declared.bounds.is_some() || declared.max_step.is_some() {
            f.write_str(match declared.on_violation {
                OnViolation::Refuse => "\nrefused if not so",
                OnViolation::Clamp => "\nclamped if not so",
            })?;
        }
        if let Some(rate) = declared.rate {
            write!(f, "\nexpected at {rate}")?;
        }
        if let Some(timeout) = self.hold_timeout() {
            write!(f, "\nholds after {timeout:.0?} without one")?;
        }
        if let Some(timeout) = self.stop_timeout() {
            write!(f, "\nstops after {timeout:.0?} without one")?;
        }
        if let Some(age) = declared.max_obs_age {
            write!(f, "\ndecided on an observation of at most {age:.1?}")?;
        }
        f.write_str(match declared.arming {
            Arming::OnConnect => "\narmed by a connection",
            Arming::OnReset => "\narmed by a reset",
            Arming::Manual => "\narmed by its own program alone",
        })
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

/// Limits that cannot be those of an [`ActionSpec`]'s actions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLimits {
    /// The [bounds](ActionSpec::bounds), and what is wrong with them.
    #[error("the bounds: {0}")]
    Bounds(String),
    /// The [largest step](ActionSpec::max_step), and what is wrong with it.
    #[error("the largest step: {0}")]
    MaxStep(String),
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

    fn arm() -> ActionSpec {
        ActionSpec::vector(2).bounds([-1.0, -2.0], [1.0, 2.0])
    }

    fn bits(action: &Action) -> Vec<u32> {
        action.to_f32().iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn an_element_out_of_bounds_is_named_with_its_bounds() {
        for fits in [[-1.0, 2.0], [1.0, -2.0], [0.0, 0.0]] {
            assert_eq!(arm().check(&Action::from(fits)), Ok(()));
        }
        assert_eq!(
            arm().check(&Action::from([0.5, -2.5])).unwrap_err().to_string(),
            "element 1 of the action is -2.5, expected -2 to 2"
        );
        assert!(arm().check(&Action::float64([0.5, 2.5])).is_err());
        assert_eq!(
            arm().bounds(-0.1, 0.1).check(&Action::float64([0.1, -0.1])),
            Ok(()),
            "bounds are compared as robots read numbers, as float32"
        );
        let rows = Array::from_slice([2, 2], &[0.0_f32, 0.0, 0.0, 3.0]).unwrap();
        let error = arm().check_step(&Action::new(rows)).unwrap_err();
        assert!(matches!(error, ActionError::OutOfBounds { index: 3, .. }), "{error}");
        assert!(ActionSpec::any().bounds(-1.0, 1.0).check(&values(&[0.5_f32, 1.5])).is_err());
    }

    #[test]
    fn an_action_out_of_bounds_is_clamped_and_marked() {
        let spec = arm().on_violation(OnViolation::Clamp);
        for (action, expected) in [
            (Action::from([3.0, -3.0]), Action::from([1.0, -2.0])),
            (Action::float64([3.0, 0.5]), Action::float64([1.0, 0.5])),
        ] {
            let mut clamped = action.clone();
            let error = spec.judge(&mut clamped, false).unwrap();
            assert!(matches!(error, Some(ActionError::OutOfBounds { index: 0, .. })));
            assert_eq!((&clamped, clamped.clamped), (&expected, true));
        }
        let mut fits = Action::from([0.5, 0.5]);
        assert_eq!((spec.judge(&mut fits, false), fits.clamped), (Ok(None), false));
        for bad in [
            Action::from([f32::NAN, 0.0]),
            Action::from([f32::INFINITY, 0.0]),
            values(&[f16::from_f32(3.0), f16::ZERO]),
            Action::from([3.0]),
        ] {
            let mut judged = bad.clone();
            assert!(spec.judge(&mut judged, false).is_err(), "{bad:?}");
            assert_eq!((bits(&judged), judged.clamped), (bits(&bad), false));
        }
    }

    #[test]
    fn a_step_is_measured_as_the_kind_of_the_action_asks_for() {
        let delta = ActionSpec::vector(2).kind(ActionKind::Delta).max_step([0.5, 0.25]);
        assert_eq!(delta.check(&Action::from([-0.5, 0.25])), Ok(()));
        assert_eq!(
            delta.check(&Action::from([0.0, -0.5])).unwrap_err().to_string(),
            "element 1 of the action is a step of -0.5, expected one of at most 0.25"
        );
        assert!(!delta.limits_change());

        let absolute = ActionSpec::vector(2).max_step(0.5);
        assert_eq!(absolute.check(&Action::from([9.0, -9.0])), Ok(()), "from where is not known");
        let from = [1.0, 2.0];
        let judge = |spec: &ActionSpec, action: [f32; 2]| {
            let mut action = Action::from(action);
            let judged = spec.judge_change(&mut action, ChangeFrom::Values(&from));
            (judged, action)
        };
        assert_eq!(judge(&absolute, [1.5, 1.5]).0, Ok(None));
        assert_eq!(
            judge(&absolute, [1.5, 2.75]).0.unwrap_err().to_string(),
            "element 1 of the action is 2.75, expected at most 0.5 from 2, where it was"
        );
        let clamping = absolute.on_violation(OnViolation::Clamp).bounds(-9.0, 2.25);
        let (judged, action) = judge(&clamping, [0.0, 2.75]);
        assert!(matches!(judged, Ok(Some(ActionError::TooFar { index: 0, .. }))));
        assert_eq!((action.clone(), action.clamped), (Action::from([0.5, 2.25]), true));
        let out = clamping.bounds(-9.0, 0.25);
        assert!(judge(&out, [0.0, 0.0]).0.is_err(), "nothing within the bounds is near enough");
        let mut action = Action::from([0.0, 0.0]);
        assert!(out.judge_change(&mut action, ChangeFrom::Values(&[f32::NAN; 2])).is_err());
    }

    #[test]
    fn rows_of_a_step_are_compared_with_one_another() {
        let spec = ActionSpec::vector(1).max_step(0.5);
        let rows = |rows: &[f32]| Action::new(Array::from_slice([rows.len(), 1], rows).unwrap());
        assert_eq!(spec.check_step(&rows(&[7.0, 7.5, 7.0])), Ok(()));
        let error = spec.check_step(&rows(&[7.0, 7.5, 6.5])).unwrap_err();
        assert!(matches!(error, ActionError::TooFar { index: 2, .. }), "{error}");
        let clamping = spec.on_violation(OnViolation::Clamp);
        let mut action = rows(&[7.0, 9.0, 9.0]);
        clamping.judge_change(&mut action, ChangeFrom::Rest).unwrap();
        assert_eq!(*action.to_f32(), [0.5, 1.0, 1.5]);
    }

    #[test]
    #[should_panic(expected = "the bounds: found 6 lower bounds, expected 7 or a single one")]
    fn a_robot_does_not_run_with_bounds_of_another_length() {
        let _ = ActionSpec::vector(7).bounds([-1.0; 6], 1.0);
    }

    #[test]
    fn what_is_declared_is_read_and_limits_that_do_not_fit_are_errors() {
        let spec = ActionSpec::shape([2, 3]).dtypes(DtypeKind::Integer).allow_empty();
        assert_eq!(spec.declared_shape(), Some(Shape::from([2, 3])));
        assert_eq!((spec.declared_dtypes(), spec.allows_empty()), (DtypeKind::Integer, true));
        assert!(!spec.allows_non_finite() && ActionSpec::any().declared_shape().is_none());
        assert_eq!(ActionSpec::vector(7).declared_shape(), Some(Shape::from(7)));
        for bad in [
            arm().try_bounds([-1.0; 3], 1.0),
            arm().try_bounds(1.0, -1.0),
            arm().try_max_step(f64::NAN),
            ActionSpec::any().try_max_step(0.1),
        ] {
            let error = bad.unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn limits_that_were_read_from_somewhere_are_an_error_and_no_panic() {
        let arm = ActionSpec::vector(7);
        let text = |limits: Result<ActionSpec, BadLimits>| limits.unwrap_err().to_string();
        assert_eq!(
            text(arm.clone().try_bounds(1.0, f64::INFINITY)),
            "the bounds: dimension 0 has bounds from 1 to inf, expected two finite numbers, the lower \
             one first"
        );
        assert_eq!(
            text(arm.clone().try_max_step([0.1; 6])),
            "the largest step: found 6 largest steps, expected 7 or a single one"
        );
        assert_eq!(
            arm.clone().try_bounds(-1.0, 1.0).and_then(|arm| arm.try_max_step(0.1)),
            Ok(arm.bounds(-1.0, 1.0).max_step(0.1))
        );
    }

    #[test]
    #[should_panic(expected = "the largest step: expected actions of a declared shape")]
    fn a_largest_step_needs_a_shape() {
        let _ = ActionSpec::any().max_step(0.1);
    }

    #[test]
    fn a_period_counts_as_missed_half_a_period_later() {
        let spec = ActionSpec::vector(7).rate(Rate::hz(50).unwrap()).stop_after(20);
        assert_eq!(spec.hold_timeout(), Some(Duration::from_millis(30)));
        assert_eq!(spec.stop_timeout(), Some(Duration::from_millis(410)));
        assert_eq!(spec.hold_after(0).hold_timeout(), None);
        assert_eq!(ActionSpec::vector(7).hold_after(3).hold_timeout(), None, "there is no rate");
    }

    #[test]
    fn what_is_not_finite_is_not_clamped_though_it_is_let_through_otherwise() {
        let spec = ActionSpec::vector(1)
            .kind(ActionKind::Velocity)
            .bounds(-1.0, 1.0)
            .max_step(0.1)
            .allow_non_finite()
            .on_violation(OnViolation::Clamp);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut action = Action::from(value);
            assert!(spec.judge(&mut action, false).is_err(), "{value}");
            assert!(spec.judge_change(&mut action, ChangeFrom::Values(&[0.5])).is_err(), "{value}");
        }
        let mut action = Action::from(0.9);
        assert!(spec.judge_change(&mut action, ChangeFrom::Values(&[0.5])).unwrap().is_some());
        assert_eq!(action.to_f32()[0].to_bits(), 0.6_f32.to_bits());
    }

    #[test]
    fn a_hold_action_arrives_in_the_declared_shape() {
        let hold = Action::from(Array::from_slice([2, 2], &[0.0_f32, 1.0, 2.0, 3.0]).unwrap());
        let spec = ActionSpec::shape([2, 2]).hold(hold.clone());
        let read = ActionSpec::of_metadata(&spec.to_metadata());
        assert_eq!(read.declaration().hold, Some(hold.clone()));
        assert_eq!(read.check(&hold), Ok(()));
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
