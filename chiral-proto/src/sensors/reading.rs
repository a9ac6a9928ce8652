use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use bytes::Bytes;

use crate::pool::Buffer;
use crate::{Array, Dtype, Element, Shape};

/// What a sensor has read: the elements of one image, depth map or proprioception vector,
/// row-major.
///
/// It is made with `into()` by every update, and what it is made *from* says what happens to the
/// elements:
///
/// | from | the elements are |
/// |---|---|
/// | `&[T]`, `&[T; N]`, `&Vec<T>` | copied, into a recycled buffer |
/// | `Vec<T>` | taken over, not copied |
/// | [`Array`] | taken over, not copied; its shape must be the declared one |
/// | [`SensorBuffer<T>`], [`UntypedBuffer`] | already where they belong |
///
/// `T` is any [`Element`] and must be the element of the declared dtype. Raw bytes of another
/// dtype than `uint8` say what they are as an `Array`: `Array::new(Dtype::F32, [480, 640], bytes)`.
pub struct Reading<'a> {
    pub(super) dtype: Dtype,
    /// Where the reading has a shape of its own.
    pub(super) shape: Option<Shape>,
    pub(super) elements: Elements<'a>,
}

pub(super) enum Elements<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Reading<'_> {
    pub(super) fn byte_len(&self) -> usize {
        match &self.elements {
            Elements::Borrowed(bytes) => bytes.len(),
            Elements::Owned(bytes) => bytes.len(),
        }
    }

    fn owned(array: &Array, shape: Option<Shape>) -> Self {
        Self { dtype: array.dtype(), shape, elements: Elements::Owned(array.bytes().clone()) }
    }
}

impl<'a, T: Element> From<&'a [T]> for Reading<'a> {
    fn from(elements: &'a [T]) -> Self {
        match T::as_bytes(elements) {
            Some(bytes) => {
                Self { dtype: T::DTYPE, shape: None, elements: Elements::Borrowed(bytes) }
            }
            // Another byte order: the conversion is the copy.
            None => elements.to_vec().into(),
        }
    }
}

impl<'a, T: Element, const LEN: usize> From<&'a [T; LEN]> for Reading<'a> {
    fn from(elements: &'a [T; LEN]) -> Self {
        elements.as_slice().into()
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for Reading<'a> {
    fn from(elements: &'a Vec<T>) -> Self {
        elements.as_slice().into()
    }
}

impl<T: Element> From<Vec<T>> for Reading<'_> {
    fn from(elements: Vec<T>) -> Self {
        Self::owned(&Array::vector(elements), None)
    }
}

impl From<Array> for Reading<'_> {
    fn from(array: Array) -> Self {
        Self::owned(&array, Some(array.shape().clone()))
    }
}

impl<T: Element + Pod> From<SensorBuffer<T>> for Reading<'_> {
    fn from(buffer: SensorBuffer<T>) -> Self {
        Self { dtype: T::DTYPE, shape: None, elements: Elements::Owned(buffer.freeze()) }
    }
}

impl From<UntypedBuffer> for Reading<'_> {
    fn from(buffer: UntypedBuffer) -> Self {
        buffer.into_array().into()
    }
}

/// Shows dtype and size, not the elements.
impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.elements {
            Elements::Borrowed(_) => "borrowed",
            Elements::Owned(_) => "owned",
        };
        write!(f, "Reading({}, {} bytes, {whose})", self.dtype, self.byte_len())
    }
}

/// A recycled buffer of one sensor, to render or decode the next frame straight into.
///
/// Dereferences to the `[T]` of one whole frame, row-major. What stands in it is arbitrary, mostly
/// an earlier frame: write every element. Given to an update it is published without a copy;
/// dropped it goes back to its sensor.
///
/// ```
/// use chiral_proto::{CameraConfig, sensors::Sensors};
///
/// let sensors = Sensors::new([CameraConfig::new("wrist_cam", [480, 640, 3])], [])?;
/// let camera = sensors.camera("wrist_cam")?;
///
/// let mut image = camera.image_buffer::<u8>()?;
/// image.fill(128); // what a decoder or a renderer does
/// camera.update_image_at(image, 0.02)?;
/// # Ok::<(), chiral_proto::sensors::SensorError>(())
/// ```
pub struct SensorBuffer<T> {
    buffer: Buffer,
    /// Bytes of the frame; the buffer may be longer.
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Element + Pod> SensorBuffer<T> {
    pub(super) fn new(buffer: Buffer, len: usize) -> Self {
        Self { buffer, len, elements: PhantomData }
    }

    fn freeze(mut self) -> Bytes {
        if cfg!(target_endian = "big") {
            let elements = self.buffer[..self.len].chunks_exact_mut(size_of::<T>());
            elements.for_each(<[u8]>::reverse);
        }
        self.buffer.freeze(0..self.len)
    }
}

impl<T: Element + Pod> Deref for SensorBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.buffer[..self.len])
    }
}

impl<T: Element + Pod> DerefMut for SensorBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.buffer[..self.len])
    }
}

impl<T: Element> fmt::Debug for SensorBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SensorBuffer({}, {} bytes)", T::DTYPE, self.len)
    }
}

/// As a [`SensorBuffer`], for a program that knows the element type only when it runs: the bytes of
/// one whole frame, row-major and little-endian as they travel, at a 64-byte boundary.
///
/// ```
/// use chiral_proto::{CameraConfig, Dtype, sensors::Sensors};
///
/// let sensors = Sensors::new([CameraConfig::new("top_cam", [2, 2]).image_dtype(Dtype::U16)], [])?;
/// let camera = sensors.camera("top_cam")?;
///
/// let mut image = camera.untyped_image_buffer()?;
/// assert_eq!((image.dtype(), image.len()), (Dtype::U16, 8));
/// image.fill(0);
/// image[..2].copy_from_slice(&500_u16.to_le_bytes());
/// camera.update_image_at(image, 0.02)?;
/// assert_eq!(sensors.snapshot(0.0)["top_cam"].image.to_f32()[0], 500.0);
/// # Ok::<(), chiral_proto::sensors::SensorError>(())
/// ```
pub struct UntypedBuffer {
    buffer: Buffer,
    dtype: Dtype,
    shape: Shape,
    /// Bytes of the frame; the buffer may be longer.
    len: usize,
}

impl UntypedBuffer {
    pub(super) fn new(buffer: Buffer, dtype: Dtype, shape: Shape, len: usize) -> Self {
        Self { buffer, dtype, shape, len }
    }

    /// The declared element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The declared shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The frame as an array, not copied. Its memory goes back to the sensor when the last handle
    /// to it is dropped.
    pub fn into_array(self) -> Array {
        let bytes = self.buffer.freeze(0..self.len);
        Array::new(self.dtype, self.shape, bytes).expect("as long as the declared shape")
    }
}

impl Deref for UntypedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for UntypedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }
}

impl fmt::Debug for UntypedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UntypedBuffer({}{})", self.dtype, self.shape)
    }
}
