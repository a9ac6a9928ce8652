//! Arrays seen as other crates' types, without a copy where they lie aligned.

#[cfg(any(feature = "ndarray", feature = "image"))]
use super::array::{Array, DtypeMismatch};
#[cfg(any(feature = "ndarray", feature = "image"))]
use super::dtype::Element;

#[cfg(feature = "ndarray")]
impl Array {
    /// The array as one of the `ndarray` crate: borrowed where the elements lie aligned in memory,
    /// copied where they do not.
    ///
    /// ```
    /// use chiral_proto::Array;
    ///
    /// let depth = Array::from_slice([2, 3], &[0.5_f32, 1.0, 1.5, 2.0, 2.5, 3.0])?;
    /// let metres = depth.as_ndarray::<f32>()?;
    /// assert_eq!(metres[[1, 2]], 3.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When `T` is not the element type of the array's dtype.
    pub fn as_ndarray<T: Element>(
        &self,
    ) -> Result<ndarray::CowArray<'_, T, ndarray::IxDyn>, DtypeMismatch> {
        use std::borrow::Cow;

        let shape = ndarray::IxDyn(self.shape());
        let fits = "an array's bytes always fit its shape";
        Ok(match self.as_slice()? {
            Cow::Borrowed(elements) => {
                ndarray::ArrayView::from_shape(shape, elements).expect(fits).into()
            }
            Cow::Owned(elements) => {
                ndarray::Array::from_shape_vec(shape, elements).expect(fits).into()
            }
        })
    }
}

#[cfg(feature = "image")]
impl Array {
    /// The array, `[H, W, C]` or `[H, W]`, as a picture of the `image` crate: borrowed where the
    /// elements lie aligned in memory (`u8` always does), copied where they do not.
    ///
    /// ```
    /// use chiral_proto::Array;
    /// use image::{Luma, Rgb};
    ///
    /// let colour = Array::from_slice([1, 2, 3], &[255_u8, 0, 0, 0, 0, 255])?;
    /// let picture = colour.as_image::<Rgb<u8>>()?;
    /// assert_eq!(picture.dimensions(), (2, 1));
    /// assert_eq!(*picture.get_pixel(1, 0), Rgb([0, 0, 255]));
    /// assert_eq!(
    ///     colour.as_image::<Luma<u8>>().unwrap_err().to_string(),
    ///     "an array of shape [1, 2, 3] is no picture of 1 channel(s): it takes [H, W] or [H, W, 1]"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the pixel type's subpixels are not the array's dtype, or its channels not the shape's.
    pub fn as_image<P>(&self) -> Result<Picture<'_, P>, PictureError>
    where
        P: image::Pixel,
        P::Subpixel: Element,
    {
        let channels = usize::from(P::CHANNEL_COUNT);
        let wrong_shape = || PictureError::Shape { shape: self.shape().clone(), channels };
        let (height, width) = match self.shape()[..] {
            [height, width] if channels == 1 => (height, width),
            [height, width, depth] if depth == channels => (height, width),
            _ => return Err(wrong_shape()),
        };
        let side = |pixels: usize| u32::try_from(pixels).map_err(|_| wrong_shape());
        let elements = self.as_slice::<P::Subpixel>()?;
        image::ImageBuffer::from_raw(side(width)?, side(height)?, elements).ok_or_else(wrong_shape)
    }
}

/// A camera's image, or a depth map, as the `image` crate sees it.
#[cfg(feature = "image")]
pub type Picture<'a, P> =
    image::ImageBuffer<P, std::borrow::Cow<'a, [<P as image::Pixel>::Subpixel]>>;

/// An array that is no picture of the pixel type asked for.
#[cfg(feature = "image")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The subpixels are of another type.
    #[error(transparent)]
    Dtype(#[from] DtypeMismatch),
    /// The shape is another.
    #[error("an array of shape {shape} is no picture of {channels} channel(s): it takes {}[H, W, {channels}]", if *.channels == 1 { "[H, W] or " } else { "" })]
    Shape {
        /// The array's shape.
        shape: super::Shape,
        /// The pixel type's channels.
        channels: usize,
    },
}
