//! Actions from what people have.

use std::borrow::Cow;

use nalgebra::{Dim, Matrix, RawStorage, U1};

use super::action::Action;
use super::array::Array;
use super::shape::Shape;

/// A `float32` action of the values in their order.
fn action(shape: impl Into<Shape>, values: Vec<f32>) -> Action {
    Action::new(Array::from_vec(shape, values).expect("as many values as the shape says"))
}

macro_rules! from_floats {
    ($float:ty, $to_f32:expr) => {
        /// Of shape `[1]`.
        impl From<$float> for Action {
            fn from(value: $float) -> Self {
                [value].into()
            }
        }

        /// Of shape `[D]`.
        impl From<&[$float]> for Action {
            fn from(values: &[$float]) -> Self {
                action(values.len(), values.iter().copied().map($to_f32).collect())
            }
        }

        /// Of shape `[D]`.
        impl From<Vec<$float>> for Action {
            fn from(values: Vec<$float>) -> Self {
                action(values.len(), values.into_iter().map($to_f32).collect())
            }
        }

        /// Of shape `[D]`.
        impl From<&Vec<$float>> for Action {
            fn from(values: &Vec<$float>) -> Self {
                values.as_slice().into()
            }
        }

        /// Of shape `[D]`.
        impl<const D: usize> From<[$float; D]> for Action {
            fn from(values: [$float; D]) -> Self {
                values.as_slice().into()
            }
        }

        /// Of shape `[D]`.
        impl<const D: usize> From<&[$float; D]> for Action {
            fn from(values: &[$float; D]) -> Self {
                values.as_slice().into()
            }
        }

        /// Of shape `[N, D]`.
        impl<const N: usize, const D: usize> From<[[$float; D]; N]> for Action {
            fn from(rows: [[$float; D]; N]) -> Self {
                action([N, D], rows.as_flattened().iter().copied().map($to_f32).collect())
            }
        }

        /// Of shape `[N, D]`.
        impl<const D: usize> From<Vec<[$float; D]>> for Action {
            fn from(rows: Vec<[$float; D]>) -> Self {
                let shape = [rows.len(), D];
                action(shape, rows.as_flattened().iter().copied().map($to_f32).collect())
            }
        }

        /// Of shape `[N, D]`.
        impl<const D: usize> From<&[[$float; D]]> for Action {
            fn from(rows: &[[$float; D]]) -> Self {
                let values = rows.as_flattened().iter().copied().map($to_f32);
                action([rows.len(), D], values.collect())
            }
        }

        /// Of shape `[D]`: what an array's views are, such as those of a proprioception stream.
        impl From<Cow<'_, [$float]>> for Action {
            fn from(values: Cow<'_, [$float]>) -> Self {
                (&*values).into()
            }
        }

        /// Of shape `[D]`.
        impl FromIterator<$float> for Action {
            fn from_iter<I: IntoIterator<Item = $float>>(values: I) -> Self {
                values.into_iter().collect::<Vec<_>>().into()
            }
        }

        /// Of the array's shape.
        #[cfg(feature = "ndarray")]
        impl<S: ndarray::Data<Elem = $float>, D: ndarray::Dimension>
            From<&ndarray::ArrayBase<S, D, $float>> for Action
        {
            fn from(array: &ndarray::ArrayBase<S, D, $float>) -> Self {
                action(Shape::new(array.shape()), array.iter().copied().map($to_f32).collect())
            }
        }

        /// Of the array's shape.
        #[cfg(feature = "ndarray")]
        impl<S: ndarray::Data<Elem = $float>, D: ndarray::Dimension>
            From<ndarray::ArrayBase<S, D, $float>> for Action
        {
            fn from(array: ndarray::ArrayBase<S, D, $float>) -> Self {
                (&array).into()
            }
        }

        /// Of shape `[D]` from a column vector, else of shape `[rows, columns]`.
        impl<R: Dim, C: Dim, S: RawStorage<$float, R, C>> From<Matrix<$float, R, C, S>> for Action {
            fn from(matrix: Matrix<$float, R, C, S>) -> Self {
                Self::from(&matrix)
            }
        }

        /// Of shape `[D]` from a column vector, else of shape `[rows, columns]`.
        impl<R: Dim, C: Dim, S: RawStorage<$float, R, C>> From<&Matrix<$float, R, C, S>>
            for Action
        {
            fn from(matrix: &Matrix<$float, R, C, S>) -> Self {
                let (rows, columns) = matrix.shape();
                let places =
                    (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
                let values = places.map(|place| $to_f32(matrix[place])).collect();
                if C::try_to_usize() == U1::try_to_usize() {
                    action(rows, values)
                } else {
                    action([rows, columns], values)
                }
            }
        }
    };
}

from_floats!(f32, |value: f32| value);
from_floats!(f64, |value: f64| value as f32);

#[cfg(test)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "what is borrowed converts too")]
mod tests {
    use super::*;
    use crate::Dtype;
    use nalgebra::{Matrix2x3, RowVector3, SVector, Vector3};

    fn is(action: impl Into<Action>, shape: &[usize], values: &[f32]) {
        let action = action.into();
        assert_eq!(action.values.dtype(), Dtype::F32);
        assert_eq!((&action.shape()[..], &*action.to_f32()), (shape, values));
        assert_eq!(action.obs_timestamps, None);
    }

    #[test]
    fn f32_and_f64_values_become_float32() {
        is(0.5_f32, &[1], &[0.5]);
        is(0.5_f64, &[1], &[0.5]);
        is([0.5_f32, 1.0], &[2], &[0.5, 1.0]);
        is([0.1_f64, 1.0], &[2], &[0.1, 1.0]);
        is(&[0.5_f32, 1.0], &[2], &[0.5, 1.0]);
        is(&[0.1_f64, 1.0], &[2], &[0.1, 1.0]);
        is(&[0.5_f32, 1.0][..], &[2], &[0.5, 1.0]);
        is(&[0.1_f64, 1.0][..], &[2], &[0.1, 1.0]);
        is(vec![0.5_f32, 1.0], &[2], &[0.5, 1.0]);
        is(vec![0.1_f64, 1.0], &[2], &[0.1, 1.0]);
        is(&vec![0.5_f32, 1.0], &[2], &[0.5, 1.0]);
        is(&vec![0.1_f64, 1.0], &[2], &[0.1, 1.0]);
        is(Vec::<f64>::new(), &[0], &[]);
        is((0..3).map(|joint| joint as f32).collect::<Action>(), &[3], &[0.0, 1.0, 2.0]);
        is([0.1_f64, 1.0].into_iter().collect::<Action>(), &[2], &[0.1, 1.0]);
        let observed = Array::vector(vec![0.5_f32, 1.0]);
        is(observed.to_f32(), &[2], &[0.5, 1.0]);
        // Without a type, as in every example.
        is([0.1, 0.2], &[2], &[0.1, 0.2]);
        is(vec![0.1, 0.2], &[2], &[0.1, 0.2]);
    }

    #[test]
    fn rows_become_a_matrix() {
        is([[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        is([[1.0_f64, 2.0, 3.0]], &[1, 3], &[1.0, 2.0, 3.0]);
        is(vec![[1.0_f32, 2.0], [3.0, 4.0]], &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        is(Vec::<[f64; 7]>::new(), &[0, 7], &[]);
        is(&[[1.0_f32, 2.0], [3.0, 4.0]][1..], &[1, 2], &[3.0, 4.0]);
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarrays_keep_their_shape_whatever_their_layout() {
        let rows = ndarray::arr2(&[[1.0_f64, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        is(&rows, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        is(rows.t(), &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        is(rows.row(1), &[3], &[4.0, 5.0, 6.0]);
        is(ndarray::arr1(&[0.5_f32]), &[1], &[0.5]);
    }

    #[test]
    fn nalgebra_vectors_and_matrices_convert_row_major() {
        is(Vector3::new(1.0_f32, 2.0, 3.0), &[3], &[1.0, 2.0, 3.0]);
        is(SVector::<f64, 2>::new(1.0, 2.0), &[2], &[1.0, 2.0]);
        is(&Vector3::new(1.0_f32, 2.0, 3.0), &[3], &[1.0, 2.0, 3.0]);
        is(Vector3::new(1.0_f64, 2.0, 3.0).rows(1, 2), &[2], &[2.0, 3.0]);
        is(RowVector3::new(1.0_f32, 2.0, 3.0), &[1, 3], &[1.0, 2.0, 3.0]);
        let matrix = Matrix2x3::new(1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0);
        is(matrix, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        is(matrix.column(1), &[2], &[2.0, 5.0]);
        is(matrix.row(1), &[1, 3], &[4.0, 5.0, 6.0]);
        is(matrix.columns(1, 1), &[2, 1], &[2.0, 5.0]);
    }

    #[test]
    fn float64_is_sent_when_requested() {
        for action in [Action::float64([0.1, 0.2]), Array::vector(vec![0.1, 0.2]).into()] {
            assert_eq!(action.values.dtype(), Dtype::F64);
            assert_eq!(*action.values.to_f64(), [0.1, 0.2]);
        }
    }

    #[test]
    fn to_array_needs_exactly_one_row() {
        assert_eq!(Action::from([1.0, 2.0]).to_array(), Ok([1.0, 2.0]));
        assert_eq!(Action::from([[1.0, 2.0]]).to_array(), Ok([1.0, 2.0]));
        assert_eq!(Action::float64([1.0, 2.0]).to_array(), Ok([1.0, 2.0]));
        let scalar = Array::from_slice([], &[3_i32]).unwrap();
        assert_eq!(Action::new(scalar).to_array(), Ok([3.0]));
        assert!(Action::from([1.0, 2.0]).to_array::<3>().is_err());
        assert!(Action::from([[1.0], [2.0]]).to_array::<2>().is_err());
        assert_eq!(Action::from(Vec::<f32>::new()).to_array::<0>(), Ok([]));
    }
}
