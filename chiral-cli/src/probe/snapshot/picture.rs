//! Arrays as the samples of a PNG.

use std::borrow::Cow;

use chiral_proto::{Array, Dtype};
use png::{BitDepth, ColorType};

use super::dimensions;

/// What a PNG is made of.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) color: ColorType,
    pub(super) bits: BitDepth,
    /// Row by row; 16-bit samples are big-endian.
    pub(super) samples: Cow<'a, [u8]>,
    /// What the samples mean.
    pub(super) note: String,
}

impl<'a> Picture<'a> {
    /// An image: `uint8` and `uint16` as they are, bool as black and white, and everything else
    /// with its range spread over 8 bits.
    pub(super) fn of_image(image: &'a Array) -> Result<Self, String> {
        let (height, width, channels) = dimensions(image)?;
        let color = match channels {
            1 => ColorType::Grayscale,
            2 => ColorType::GrayscaleAlpha,
            3 => ColorType::Rgb,
            4 => ColorType::Rgba,
            _ => return Err(format!("found {channels} channels, a PNG has 1 to 4")),
        };
        let picture = |bits, samples, note| Self { width, height, color, bits, samples, note };
        let dtype = image.dtype();
        if let Some((bits, samples)) = as_they_are(image) {
            return Ok(picture(bits, samples, format!("{dtype} as it is")));
        }
        let values = image.to_f64();
        let range = Range::of(values.iter().copied().filter(|value| value.is_finite()));
        let samples = values.iter().map(|&value| range.share(value, 255.0) as u8);
        let note = format!("{dtype} {range} as 0 to 255");
        Ok(picture(BitDepth::Eight, samples.collect(), note))
    }

    /// A depth map, in gray: what an image keeps is kept, and everything else with the range of
    /// its depths spread over 1 to 65535. 0 is where there is no depth: what is not finite, or
    /// not above zero.
    pub(super) fn of_depth(depth: &'a Array) -> Result<Self, String> {
        let (height, width, channels) = dimensions(depth)?;
        if channels != 1 {
            return Err(format!("found {channels} channels, a depth map has 1"));
        }
        let color = ColorType::Grayscale;
        let picture = |bits, samples, note| Self { width, height, color, bits, samples, note };
        let dtype = depth.dtype();
        if let Some((bits, samples)) = as_they_are(depth) {
            return Ok(picture(bits, samples, format!("{dtype} as it is")));
        }
        let values = depth.to_f64();
        let is_depth = |value: &f64| value.is_finite() && *value > 0.0;
        let range = Range::of(values.iter().copied().filter(is_depth));
        let sample = |value: &f64| {
            if is_depth(value) { 1 + range.share(*value, 65_534.0) as u16 } else { 0 }
        };
        let samples = values.iter().flat_map(|value| sample(value).to_be_bytes());
        let note = format!("{dtype} {range} as 1 to 65535, 0 where there is none");
        Ok(picture(BitDepth::Sixteen, samples.collect(), note))
    }
}

/// The samples of an array that a PNG can hold without loss.
fn as_they_are(array: &Array) -> Option<(BitDepth, Cow<'_, [u8]>)> {
    let bytes = &array.bytes()[..];
    match array.dtype() {
        Dtype::U8 => Some((BitDepth::Eight, Cow::Borrowed(bytes))),
        Dtype::U16 => {
            let (pairs, _) = bytes.as_chunks::<2>();
            let swapped = pairs.iter().flat_map(|&[low, high]| [high, low]);
            Some((BitDepth::Sixteen, swapped.collect()))
        }
        Dtype::Bool => {
            let black_or_white = |&byte: &u8| if byte == 0 { 0 } else { 255 };
            Some((BitDepth::Eight, bytes.iter().map(black_or_white).collect()))
        }
        _ => None,
    }
}

/// The least and the greatest of some values.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: f64,
    greatest: f64,
}

impl Range {
    /// Of nothing it is empty: the least is above the greatest.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let empty = Self { least: f64::INFINITY, greatest: f64::NEG_INFINITY };
        values.fold(empty, |range, value| Self {
            least: range.least.min(value),
            greatest: range.greatest.max(value),
        })
    }

    /// Where a value lies in the range, from 0 to `full`, rounded; 0 for what is not a number.
    fn share(&self, value: f64, full: f64) -> f64 {
        // By halves: the distance of two finite numbers may be infinite.
        let length = self.greatest / 2.0 - self.least / 2.0;
        let share = (value / 2.0 - self.least / 2.0) / length;
        if share.is_nan() { 0.0 } else { (share.clamp(0.0, 1.0) * full).round() }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.least > self.greatest {
            f.write_str("(nothing)")
        } else {
            write!(f, "{:?} to {:?}", self.least, self.greatest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image<T: chiral_proto::Element>(shape: &[usize], values: &[T]) -> Array {
        Array::from_slice(shape, values).unwrap()
    }

    #[test]
    fn eight_and_sixteen_bit_images_are_saved_unchanged() {
        let bytes = image(&[1, 2, 3], &[1_u8, 2, 3, 4, 5, 6]);
        let picture = Picture::of_image(&bytes).unwrap();
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!((picture.color, picture.bits), (ColorType::Rgb, BitDepth::Eight));
        assert_eq!(*picture.samples, [1, 2, 3, 4, 5, 6]);

        let words = image(&[2, 1], &[0x0102_u16, 0xff00]);
        for picture in [Picture::of_image(&words), Picture::of_depth(&words)] {
            let picture = picture.unwrap();
            assert_eq!((picture.color, picture.bits), (ColorType::Grayscale, BitDepth::Sixteen));
            assert_eq!(*picture.samples, [1, 2, 0xff, 0]);
        }
    }

    #[test]
    fn other_images_are_scaled_to_their_value_range() {
        let floats = image(&[1, 5], &[-1.0_f32, 0.0, 1.0, f32::NAN, f32::INFINITY]);
        let picture = Picture::of_image(&floats).unwrap();
        assert_eq!(*picture.samples, [0, 128, 255, 0, 255]);
        assert_eq!(picture.note, "float32 -1.0 to 1.0 as 0 to 255");

        let bools = Picture::of_image(&image(&[1, 2], &[false, true])).unwrap().samples.to_vec();
        assert_eq!(bools, [0, 255]);
        let wide = image(&[1, 3], &[f64::MIN, 0.0, f64::MAX]);
        assert_eq!(*Picture::of_image(&wide).unwrap().samples, [0, 128, 255]);
        let flat = image(&[1, 2], &[7_i64, 7]);
        assert_eq!(*Picture::of_image(&flat).unwrap().samples, [0, 0]);
    }

    #[test]
    fn depth_values_are_recoverable_and_missing_depth_is_zero() {
        let metres = [0.5_f32, 2.0, 4.5, 0.0, -1.0, f32::NAN, f32::INFINITY];
        let map = image(&[1, 7, 1], &metres);
        let picture = Picture::of_depth(&map).unwrap();
        assert_eq!(picture.bits, BitDepth::Sixteen);
        assert_eq!(picture.note, "float32 0.5 to 4.5 as 1 to 65535, 0 where there is none");
        let (pairs, _) = picture.samples.as_chunks();
        let samples: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        assert_eq!(samples[3..], [0; 4]);
        for (sample, metres) in samples.iter().zip(&metres[..3]) {
            let read = 0.5 + f32::from(sample - 1) / 65_534.0 * 4.0;
            assert!((read - metres).abs() < 1e-4, "{read} for {metres}");
        }
        let none = image(&[1, 1], &[0.0_f32]);
        assert_eq!(*Picture::of_depth(&none).unwrap().samples, [0, 0]);
    }

    #[test]
    fn arrays_that_are_not_images_are_rejected_with_a_reason() {
        for (shape, fault) in [
            (&[][..], "found shape [], expected [H, W]"),
            (&[6][..], "found shape [6], expected [H, W]"),
            (&[0, 5, 3][..], "no PNG has these sides"),
            (&[1, 1, 5][..], "found 5 channels"),
            (&[1, 1, 0][..], "found 0 channels"),
            (&[1, 1, 1, 1][..], "expected [H, W]"),
        ] {
            let array = Array::zeros(Dtype::U8, shape).unwrap();
            let error = Picture::of_image(&array).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
        let rgb = Array::zeros(Dtype::F32, [1, 1, 3]).unwrap();
        assert!(Picture::of_depth(&rgb).unwrap_err().contains("a depth map has 1"));
    }
}
