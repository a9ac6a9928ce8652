use half::f16;

use super::options::{FollowOptions, Merge, Weights};
use crate::types::{DtypeKind, Shape};
use crate::{Action, Array, Dtype};

/// Rows that cannot be averaged as was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A weight that is none.
    #[error("a weight of {found} was given, expected one from 0 to 1")]
    Weight {
        /// What was given, in words.
        found: String,
    },
    /// The decay of an ensemble is not finite.
    #[error("the weights' decay `m` is {found}, expected a finite number")]
    Decay {
        /// What was given, in words.
        found: String,
    },
    /// A dimension that the actions do not have.
    #[error("dimension {dimension} is to be averaged, but the actions have {len}")]
    Dimension {
        /// What was given.
        dimension: usize,
        /// How many there are.
        len: usize,
    },
    /// The rows are no floats.
    #[error("the rows are {found}, and only floats are averaged: use `Merge::Replace`")]
    Dtype {
        /// What was found.
        found: Dtype,
    },
    /// The new row has another shape than the old one.
    #[error("a row of shape {new} cannot be averaged with one of shape {old}")]
    Shape {
        /// The planned row's shape.
        old: Shape,
        /// The new row's shape.
        new: Shape,
    },
}

/// How rows that both plans have are averaged: weights, and which dimensions.
pub(super) struct Averaging<'a> {
    weights: Rule,
    averaged: Option<&'a [usize]>,
}

enum Rule {
    Constant(f64),
    Crossfade(usize),
    Ensemble(f64),
}

impl<'a> Averaging<'a> {
    /// The averaging that the options ask for, if they do.
    pub(super) fn of(options: &'a FollowOptions) -> Result<Option<Self>, MergeError> {
        let weights = match options.merge {
            Merge::Blend(Weights::Constant(weight)) if (0.0..=1.0).contains(&weight) => {
                Rule::Constant(weight)
            }
            Merge::Blend(Weights::Constant(weight)) => {
                return Err(MergeError::Weight { found: weight.to_string() });
            }
            Merge::Blend(Weights::Crossfade(len)) => Rule::Crossfade(len),
            Merge::TemporalEnsemble { m } if m.is_finite() => Rule::Ensemble(m),
            Merge::TemporalEnsemble { m } => {
                return Err(MergeError::Decay { found: m.to_string() });
            }
            Merge::Replace | Merge::KeepFirst(_) | Merge::Append => return Ok(None),
        };
        Ok(Some(Self { weights, averaged: options.averaged.as_deref() }))
    }

    /// Whether two rows can be averaged.
    pub(super) fn check(&self, old: &Action, new: &Action) -> Result<(), MergeError> {
        for row in [old, new] {
            if !DtypeKind::Float.contains(row.values.dtype()) {
                return Err(MergeError::Dtype { found: row.values.dtype() });
            }
        }
        if old.shape() != new.shape() {
            return Err(MergeError::Shape { old: old.shape().clone(), new: new.shape().clone() });
        }
        let len = dimensions(new);
        let mut averaged = self.averaged.unwrap_or_default().iter().copied();
        match averaged.find(|&dimension| dimension >= len) {
            Some(dimension) => Err(MergeError::Dimension { dimension, len }),
            None => Ok(()),
        }
    }

    /// The weight of the new row for the `j`-th step that both plan, of which `plans` were averaged
    /// before, and how many it is of then.
    pub(super) fn weight(&self, j: usize, plans: u32) -> (f64, u32) {
        match self.weights {
            Rule::Constant(weight) => (weight, 1),
            Rule::Crossfade(len) if j < len => ((j + 1) as f64 / (len + 1) as f64, 1),
            Rule::Crossfade(_) => (1.0, 1),
            Rule::Ensemble(m) => {
                // The share of the last in exp(-m·0) + … + exp(-m·plans), a geometric series.
                let plans = plans.saturating_add(1);
                let sum = (m * f64::from(plans)).exp_m1();
                let weight = match m {
                    0.0 => 1.0 / f64::from(plans),
                    _ if sum.is_finite() => m.exp_m1() / sum,
                    _ => 0.0,
                };
                (weight, plans)
            }
        }
    }

    /// `(1 - w) * old + w * new`, for rows that were checked.
    pub(super) fn average(&self, old: &Action, new: &Action, weight: f64) -> Array {
        let Some(averaged) = self.averaged else {
            return mix(&old.values, &new.values, weight, |_| true);
        };
        let len = dimensions(new);
        let mut mask = vec![false; len];
        averaged.iter().for_each(|&dimension| mask[dimension] = true);
        mix(&old.values, &new.values, weight, |index| mask[index % len])
    }
}

/// The length of the last axis; one of a scalar.
fn dimensions(action: &Action) -> usize {
    action.shape().last().copied().unwrap_or(1)
}

/// `(1 - w) * old + w * new` where `averages` says so, else the new element: in the new array's
/// dtype, of arrays of floats of one shape. An element that is not finite makes none that was: then
/// the new element is taken as it is.
pub(crate) fn mix(
    old: &Array,
    new: &Array,
    weight: f64,
    averages: impl Fn(usize) -> bool,
) -> Array {
    let mixed = |index: usize, old: f64, new: f64| {
        let is_mixed = averages(index) && old.is_finite() && new.is_finite();
        is_mixed.then_some((1.0 - weight) * old + weight * new)
    };
    macro_rules! mix {
        ($old:expr, $new:expr, $round:expr) => {{
            let (old, elements) = ($old, $new);
            let pairs = old.iter().zip(elements.iter()).enumerate();
            let mix = |(index, (&old, &new))| {
                mixed(index, f64::from(old), f64::from(new)).map_or(new, $round)
            };
            Array::from_vec(new.shape().clone(), pairs.map(mix).collect())
        }};
    }
    let array = match new.dtype() {
        Dtype::F64 => mix!(old.to_f64(), new.to_f64(), |value| value),
        Dtype::F16 => mix!(old.to_f32(), new.as_slice::<f16>().unwrap_or_default(), f16::from_f64),
        _ => mix!(old.to_f32(), new.to_f32(), |value| value as f32),
    };
    array.expect("as many elements as the new row has")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(merge: Merge, steps: usize) -> Vec<f64> {
        let options = FollowOptions::new().merge(merge);
        let averaging = Averaging::of(&options).unwrap().unwrap();
        (0..steps).map(|j| averaging.weight(j, 1).0).collect()
    }

    #[test]
    fn a_crossfade_rises_evenly_to_one() {
        assert_eq!(weights(Merge::Blend(Weights::Crossfade(3)), 5), [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(weights(Merge::Blend(Weights::Constant(0.7)), 2), [0.7, 0.7]);
        assert_eq!(weights(Merge::Blend(Weights::Crossfade(0)), 1), [1.0]);
    }

    /// As the paper defines it: all predictions of one step at once.
    fn ensemble_at_once(predictions: &[f64], m: f64) -> f64 {
        let weights: Vec<_> = (0..predictions.len()).map(|i| (-m * i as f64).exp()).collect();
        let sum: f64 = predictions.iter().zip(&weights).map(|(a, w)| a * w).sum();
        sum / weights.iter().sum::<f64>()
    }

    #[test]
    fn an_ensemble_grown_one_by_one_is_the_weighted_mean_of_all() {
        let predictions = [0.3, -0.2, 0.9, 0.1, 0.7, 0.7, -1.0];
        for m in [0.01, 0.0, 1.0, -0.5, 20.0, 1e-12] {
            let options = FollowOptions::new().merge(Merge::TemporalEnsemble { m });
            let averaging = Averaging::of(&options).unwrap().unwrap();
            let (mut mean, mut plans) = (Action::float64([predictions[0]]), 1);
            for (seen, &new) in predictions.iter().enumerate().skip(1) {
                let (weight, now) = averaging.weight(0, plans);
                mean = averaging.average(&mean, &Action::float64([new]), weight).into();
                plans = now;
                let expected = ensemble_at_once(&predictions[..=seen], m);
                assert!((mean.values.to_f64()[0] - expected).abs() < 1e-12, "m = {m}");
            }
        }
        for (m, weight) in [(1e300, 0.0), (-1e300, 1.0)] {
            assert_eq!(weights(Merge::TemporalEnsemble { m }, 1), [weight], "m = {m}");
        }
    }

    fn average(old: &Action, new: &Action, options: &FollowOptions) -> Result<Action, MergeError> {
        let averaging = Averaging::of(options)?.expect("they average");
        averaging.check(old, new)?;
        let (weight, _) = averaging.weight(0, 1);
        Ok(averaging.average(old, new, weight).into())
    }

    fn half() -> FollowOptions {
        FollowOptions::new().merge(Merge::Blend(Weights::Constant(0.5)))
    }

    #[test]
    fn only_the_dimensions_named_are_averaged() {
        let (old, new) = (Action::from([[0.0, 0.0, 0.0]]), Action::from([[1.0, 2.0, 1.0]]));
        let mixed = average(&old, &new, &half().average_only([0, 1])).unwrap();
        assert_eq!(mixed, Action::from([[0.5, 1.0, 1.0]]));
        assert_eq!(average(&old, &new, &half().average_only([])).unwrap(), new);
        assert_eq!(
            average(&old, &new, &half().average_only([3])).unwrap_err().to_string(),
            "dimension 3 is to be averaged, but the actions have 3"
        );
    }

    #[test]
    fn an_element_that_is_not_finite_goes_through_and_makes_no_other() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let mixed = average(&[nan, inf, 1.0, 2.0].into(), &[1.0, 2.0, inf, nan].into(), &half());
        let mixed = mixed.unwrap().to_array::<4>().unwrap();
        assert_eq!(mixed[..3], [1.0, 2.0, inf]);
        assert!(mixed[3].is_nan());
    }

    #[test]
    fn the_largest_numbers_are_averaged_without_overflow() {
        let large = Action::float64([f64::MAX, f64::MIN]);
        assert_eq!(average(&large, &large, &half()).unwrap(), large);
    }

    #[test]
    fn floats_of_any_width_are_averaged_in_the_new_ones() {
        let of = |values: Array| Action::new(values);
        let floats = [
            of(Array::vector(vec![f16::from_f32(1.0)])),
            Action::from([1.0]),
            Action::float64([1.0]),
        ];
        for old in &floats {
            for new in &floats {
                let mixed = average(old, new, &half()).unwrap();
                assert_eq!((mixed.values.dtype(), mixed.to_f32()[0]), (new.values.dtype(), 1.0));
            }
        }
        let whole = of(Array::vector(vec![1_i32]));
        for (old, new) in [(&whole, &floats[1]), (&floats[1], &whole)] {
            let error = average(old, new, &half()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the rows are int32, and only floats are averaged: use `Merge::Replace`"
            );
        }
        assert_eq!(
            average(&[1.0].into(), &[[1.0]].into(), &half()).unwrap_err().to_string(),
            "a row of shape [1, 1] cannot be averaged with one of shape [1]"
        );
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        for weight in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let options = FollowOptions::new().merge(Merge::Blend(Weights::Constant(weight)));
            assert!(matches!(Averaging::of(&options), Err(MergeError::Weight { .. })));
        }
        for m in [f64::NAN, f64::INFINITY] {
            let options = FollowOptions::new().merge(Merge::TemporalEnsemble { m });
            assert!(matches!(Averaging::of(&options), Err(MergeError::Decay { .. })));
        }
    }
}
