use std::fmt;

use super::action_error::ActionError;
use super::array::Array;
use super::dtype::Dtype;

/// One number for every dimension of an action, or one for each, as `float32`: what a robot reads.
///
/// It is made with `into()` of an `f32` or `f64`, or of an array, a slice or a `Vec` of them.
#[derive(Debug, Clone, PartialEq)]
pub struct PerDimension(Vec<f32>);

impl PerDimension {
    /// One number for all dimensions, or one for each.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The number for a dimension, from 0; `None` when there are not so many.
    pub fn get(&self, dimension: usize) -> Option<f32> {
        self.0.get(if self.0.len() == 1 { 0 } else { dimension }).copied()
    }

    /// The number for an element, row-major, of an action with one or more rows.
    fn of_element(&self, index: usize) -> f32 {
        match self.0[..] {
            [only] => only,
            _ => self.0[index % self.0.len()],
        }
    }
}

/// A number, or a list of them.
impl fmt::Display for PerDimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0[..] {
            [only] => only.fmt(f),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for PerDimension {
            fn from(number: $number) -> Self {
                Self(vec![number as f32])
            }
        }

        impl From<&[$number]> for PerDimension {
            fn from(numbers: &[$number]) -> Self {
                Self(numbers.iter().map(|&number| number as f32).collect())
            }
        }

        impl From<Vec<$number>> for PerDimension {
            fn from(numbers: Vec<$number>) -> Self {
                numbers[..].into()
            }
        }

        impl<const D: usize> From<[$number; D]> for PerDimension {
            fn from(numbers: [$number; D]) -> Self {
                numbers[..].into()
            }
        }
    )*};
}

from_numbers!(f32, f64);

/// The smallest and the largest number that an action may have in each dimension.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// The smallest.
    pub low: PerDimension,
    /// The largest.
    pub high: PerDimension,
}

impl Bounds {
    /// Bounds for actions of `len` elements, or of any number of them.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(super) fn new(
        low: PerDimension,
        high: PerDimension,
        len: Option<usize>,
    ) -> Result<Self, String> {
        check_len("lower bounds", &low, len)?;
        check_len("upper bounds", &high, len)?;
        let len = low.0.len().max(high.0.len());
        for index in 0..len {
            let (low, high) = (low.of_element(index), high.of_element(index));
            if !low.is_finite() || !high.is_finite() || low > high {
                return Err(format!(
                    "dimension {index} has bounds from {low} to {high}, expected two finite \
                     numbers, the lower one first"
                ));
            }
        }
        Ok(Self { low, high })
    }

    /// Checks the numbers of an action.
    pub(super) fn check(&self, values: &Array) -> Result<(), ActionError> {
        try_each(values, |index, value| {
            let (low, high) = (self.low.of_element(index), self.high.of_element(index));
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(ActionError::OutOfBounds {
                index,
                found: value.to_string(),
                low: low.to_string(),
                high: high.to_string(),
            })
        })
    }

    fn clamp(&self, index: usize, value: f32) -> f32 {
        value.clamp(self.low.of_element(index), self.high.of_element(index))
    }
}

/// The largest change of each dimension.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn max_step(max_step: PerDimension, len: Option<usize>) -> Result<PerDimension, String> {
    check_len("largest steps", &max_step, len)?;
    match max_step.0.iter().position(|step| !step.is_finite() || *step < 0.0) {
        None => Ok(max_step),
        Some(index) => Err(format!(
            "dimension {index} has {} for its largest step, expected a finite number, 0 or more",
            max_step.0[index]
        )),
    }
}

/// `len` numbers, or a single one; only that where the number of elements is not known.
fn check_len(what: &str, numbers: &PerDimension, len: Option<usize>) -> Result<(), String> {
    let found = numbers.0.len();
    if found == 1 || (found > 0 && len == Some(found)) {
        return Ok(());
    }
    Err(match len {
        Some(len) => format!("found {found} {what}, expected {len} or a single one"),
        None => format!("found {found} {what}, expected a single one for actions of any shape"),
    })
}

/// Calls a function with each element, row-major, as a robot reads it; of `float32` and `float64`, the
/// usual dtypes of an action, without an allocation.
pub(super) fn try_each<E>(
    values: &Array,
    mut check: impl FnMut(usize, f32) -> Result<(), E>,
) -> Result<(), E> {
    let mut check = |(index, value)| check(index, value);
    match values.dtype() {
        Dtype::F32 => {
            let (elements, _) = values.bytes().as_chunks();
            elements.iter().map(|&bytes| f32::from_le_bytes(bytes)).enumerate().try_for_each(check)
        }
        Dtype::F64 => {
            let (elements, _) = values.bytes().as_chunks();
            let elements = elements.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32);
            elements.enumerate().try_for_each(check)
        }
        _ => values.to_f32().iter().copied().enumerate().try_for_each(&mut check),
    }
}

/// What a change is measured from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChangeFrom<'a> {
    /// Nothing is known to measure it from: the first row may be anything.
    Unknown,
    /// Standing still, which is 0 in every dimension.
    Rest,
    /// These numbers.
    Values(&'a [f32]),
}

impl ChangeFrom<'_> {
    fn get(self, index: usize) -> Option<f32> {
        match self {
            Self::Unknown => None,
            Self::Rest => Some(0.0),
            Self::Values(values) => Some(values[index % values.len()]),
        }
    }
}

/// Whether two numbers are further apart than allowed, or cannot be compared. What the rounding to
/// `float32` alone brings about does not count.
fn is_too_far(value: f32, from: f32, max: f32) -> bool {
    let rounding = 2.0 * f64::from(f32::EPSILON) * f64::from(value.abs().max(from.abs()));
    let change = (f64::from(value) - f64::from(from)).abs();
    // From NaN or an infinity, which a sensor may tell, nothing is near.
    !change.is_finite() || change > f64::from(max) + rounding
}

/// Checks the change of every element from the one before it: of the first row from `from`, of
/// another from the row before. All rows have `len` elements.
pub(super) fn check_change(
    values: &Array,
    len: usize,
    from: ChangeFrom<'_>,
    max_step: &PerDimension,
) -> Result<(), ActionError> {
    // One row, the usual case, needs no memory of the one before.
    let mut before = if values.len() > len { vec![0.0; len] } else { Vec::new() };
    try_each(values, |index, value| {
        let from = if index < len { from.get(index) } else { Some(before[index % len]) };
        if let Some(before) = before.get_mut(index % len) {
            *before = value;
        }
        let Some(from) = from else { return Ok(()) };
        let max = max_step.of_element(index);
        if !is_too_far(value, from, max) {
            return Ok(());
        }
        Err(ActionError::TooFar {
            index,
            found: value.to_string(),
            from: from.to_string(),
            max: max.to_string(),
        })
    })
}

/// Checks that all elements are finite. Robots read `float32`: what is finite must be so for them.
pub(super) fn check_finite(values: &Array) -> Result<(), ActionError> {
    try_each(values, |index, value| {
        if value.is_finite() {
            return Ok(());
        }
        Err(ActionError::NotFinite { index, found: value.to_string() })
    })
}

/// Checks that no element is larger than its largest step, of actions that are changes themselves.
pub(super) fn check_size(values: &Array, max_step: &PerDimension) -> Result<(), ActionError> {
    try_each(values, |index, value| {
        let max = max_step.of_element(index);
        if value.abs() <= max {
            return Ok(());
        }
        Err(ActionError::TooLong { index, found: value.to_string(), max: max.to_string() })
    })
}

/// The numbers brought within the bounds.
pub(super) fn clamp_to_bounds(values: &Array, bounds: &Bounds) -> Option<Array> {
    map(values, |index, value| bounds.clamp(index, value))
}

/// The numbers brought within a largest size.
pub(super) fn clamp_size(values: &Array, max_step: &PerDimension) -> Option<Array> {
    map(values, |index, value| {
        let max = max_step.of_element(index);
        value.clamp(-max, max)
    })
}

/// The numbers brought within the largest change from those before them.
pub(super) fn clamp_change(
    values: &Array,
    len: usize,
    from: ChangeFrom<'_>,
    max_step: &PerDimension,
    bounds: Option<&Bounds>,
) -> Option<Array> {
    let mut before = vec![0.0; len];
    map(values, |index, value| {
        let from = if index < len { from.get(index) } else { Some(before[index % len]) };
        let nearest = from.map_or(value, |from| {
            let (from, max) = (f64::from(from), f64::from(max_step.of_element(index)));
            // Not `clamp`, which panics on NaN; a change from NaN is found too far afterwards.
            f64::from(value).max(from - max).min(from + max) as f32
        });
        let nearest = bounds.map_or(nearest, |bounds| bounds.clamp(index, nearest));
        before[index % len] = nearest;
        nearest
    })
}

/// The array with each element changed; `None` where a changed number could not be told in the
/// array's dtype.
fn map(values: &Array, mut change: impl FnMut(usize, f32) -> f32) -> Option<Array> {
    let changed = values.to_f32().iter().enumerate().map(|(i, &v)| change(i, v)).collect();
    let changed: Vec<f32> = changed;
    let shape = values.shape().clone();
    let array = match values.dtype() {
        Dtype::F32 => Array::from_vec(shape, changed),
        Dtype::F64 => Array::from_vec(shape, changed.into_iter().map(f64::from).collect()),
        _ => return None,
    };
    Some(array.expect("as many elements as before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_stands_for_all_dimensions() {
        let one = PerDimension::from(0.5);
        assert_eq!((one.get(0), one.get(6)), (Some(0.5), Some(0.5)));
        let each = PerDimension::from([1.0, 2.0]);
        assert_eq!((each.get(1), each.get(2)), (Some(2.0), None));
        assert_eq!(each.of_element(3).to_bits(), 2_f32.to_bits(), "of the second row");
        assert_eq!(format!("{one}, {each}"), "0.5, [1.0, 2.0]");
    }

    #[test]
    fn rounding_alone_is_no_change() {
        let mut target = 0.1_f32;
        for _ in 0..1000 {
            let next = target + 0.05;
            assert!(!is_too_far(next, target, 0.05), "{next} from {target}");
            target = next;
        }
        assert!(is_too_far(0.151, 0.1, 0.05));
        assert!(is_too_far(0.1, f32::NAN, 0.05) && is_too_far(0.1, f32::INFINITY, 0.05));
        assert!(!is_too_far(0.1, 0.1, 0.0));
    }

    #[test]
    fn limits_that_cannot_be_meant_are_errors() {
        let bounds = |low: &[f32], high: &[f32], len| Bounds::new(low.into(), high.into(), len);
        assert!(bounds(&[-1.0; 7], &[1.0], Some(7)).is_ok());
        assert_eq!(
            bounds(&[-1.0; 6], &[1.0; 7], Some(7)).unwrap_err(),
            "found 6 lower bounds, expected 7 or a single one"
        );
        assert!(bounds(&[-1.0; 7], &[1.0; 7], None).is_err());
        for (low, high) in [(1.0, -1.0), (f32::NAN, 1.0), (-1.0, f32::INFINITY)] {
            assert!(
                bounds(&[0.0, low], &[0.0, high], Some(2)).unwrap_err().contains("dimension 1")
            );
        }
        assert!(
            max_step([0.1, -0.1].into(), Some(2)).unwrap_err().contains("dimension 1 has -0.1")
        );
        assert!(max_step(f32::NAN.into(), None).is_err());
    }
}
