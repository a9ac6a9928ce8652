use half::f16;
use proptest::prelude::*;

use super::*;
use crate::{Dtype, Element, Shape};

fn any_dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(&Dtype::ALL[..])
}

fn any_shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..5, 0..6)
}

/// Updates the image of camera "cam" with `len` elements of a dtype, as a slice or as a vector.
fn update(sensors: &Sensors, dtype: Dtype, len: usize, owned: bool) -> Result<(), SensorError> {
    fn of<T: Element>(
        sensors: &Sensors,
        len: usize,
        owned: bool,
        one: T,
    ) -> Result<(), SensorError> {
        let elements = vec![one; len];
        if owned {
            sensors.update_image_at("cam", elements, 1.0)
        } else {
            sensors.update_image_at("cam", &elements, 1.0)
        }
    }
    match dtype {
        Dtype::Bool => of(sensors, len, owned, true),
        Dtype::I8 => of(sensors, len, owned, 1_i8),
        Dtype::I16 => of(sensors, len, owned, 1_i16),
        Dtype::I32 => of(sensors, len, owned, 1_i32),
        Dtype::I64 => of(sensors, len, owned, 1_i64),
        Dtype::U8 => of(sensors, len, owned, 1_u8),
        Dtype::U16 => of(sensors, len, owned, 1_u16),
        Dtype::U32 => of(sensors, len, owned, 1_u32),
        Dtype::U64 => of(sensors, len, owned, 1_u64),
        Dtype::F16 => of(sensors, len, owned, f16::ONE),
        Dtype::F32 => of(sensors, len, owned, 1_f32),
        Dtype::F64 => of(sensors, len, owned, 1_f64),
    }
}

proptest! {
    /// Elements are taken exactly when dtype and length fit; otherwise the error says what does.
    #[test]
    fn slices_are_accepted_only_with_the_declared_length(
        (shape, declared) in (any_shape(), any_dtype()),
        (other_len, other_dtype) in (0_usize..40, any_dtype()),
        (fitting_len, fitting_dtype, owned) in any::<(bool, bool, bool)>(),
    ) {
        let config = CameraConfig::new("cam", shape.clone()).image_dtype(declared);
        let sensors = Sensors::new([config], []).unwrap();
        let zeros = cam(&sensors);
        let expected = shape.iter().product();
        let len = if fitting_len { expected } else { other_len };
        let dtype = if fitting_dtype { declared } else { other_dtype };

        match update(&sensors, dtype, len, owned) {
            Ok(()) => {
                prop_assert_eq!((dtype, len), (declared, expected));
                let published = cam(&sensors).image;
                prop_assert_eq!(published.shape(), &Shape::new(&shape));
                prop_assert_eq!(published.dtype(), declared);
                prop_assert_eq!(published.to_f32().into_owned(), vec![1.0; len]);
            }
            Err(SensorError::Dtype { part: Part::Image, found, expected, .. }) => {
                prop_assert_ne!(dtype, declared);
                prop_assert_eq!((found, expected), (dtype, declared));
                prop_assert_eq!(cam(&sensors), zeros);
            }
            Err(SensorError::Length { part: Part::Image, found, expected: needed, .. }) => {
                prop_assert_ne!(len, expected);
                prop_assert_eq!((found, needed), (len, expected));
                prop_assert_eq!(cam(&sensors), zeros);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// An array is taken exactly when dtype and shape are the declared ones.
    #[test]
    fn arrays_are_accepted_only_with_the_declared_shape(
        (shape, declared) in (any_shape(), any_dtype()),
        (other_shape, other_dtype) in (any_shape(), any_dtype()),
        (fitting_shape, fitting_dtype) in any::<(bool, bool)>(),
    ) {
        let config = CameraConfig::new("cam", [1]).depth_of(shape.clone(), declared);
        let sensors = Sensors::new([config], []).unwrap();
        let zeros = cam(&sensors);
        let given = if fitting_shape { shape.clone() } else { other_shape };
        let dtype = if fitting_dtype { declared } else { other_dtype };
        let len = given.iter().product::<usize>() * dtype.size();
        let array = Array::new(dtype, given.clone(), vec![1; len]).unwrap();

        match sensors.update_depth("cam", array.clone()) {
            Ok(()) => {
                prop_assert_eq!((dtype, &given), (declared, &shape));
                prop_assert_eq!(cam(&sensors).depth, Some(array));
            }
            Err(SensorError::Dtype { part: Part::Depth, .. }) => {
                prop_assert_ne!(dtype, declared);
                prop_assert_eq!(cam(&sensors), zeros);
            }
            Err(SensorError::Shape { part: Part::Depth, found, expected, .. }) => {
                prop_assert_ne!(&given, &shape);
                prop_assert_eq!((found, expected), (Shape::new(&given), Shape::new(&shape)));
                prop_assert_eq!(cam(&sensors), zeros);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// Whatever is declared is there from the start, zeroed, or refused; nothing panics.
    #[test]
    fn any_declaration_succeeds_or_is_an_error(
        dims in prop::collection::vec(
            prop_oneof![0_usize..4, (usize::MAX - 8)..=usize::MAX, Just(isize::MAX as usize)],
            0..6,
        ),
        dtype in any_dtype(),
    ) {
        let config = CameraConfig::new("cam", dims.clone()).image_dtype(dtype);
        match Sensors::new([config], []) {
            Ok(sensors) => {
                let image = cam(&sensors).image;
                prop_assert_eq!(image.shape(), &Shape::new(&dims));
                prop_assert!(image.bytes().iter().all(|&byte| byte == 0));
            }
            Err(SensorError::TooLarge { shape, .. }) => {
                prop_assert!(dims.iter().any(|&dim| dim > 4));
                prop_assert_eq!(shape, Shape::new(&dims));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
