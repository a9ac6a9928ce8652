use bytemuck::Pod;
use bytes::Bytes;

use super::error::{Part, SensorError};
use super::reading::{Elements, Reading, SensorBuffer, UntypedBuffer};
use crate::pool::{Buffer, BufferPool, SharedSource};
use crate::{Array, Dtype, Element, Name, Shape, byte_len};

/// Unused buffers that a channel keeps. At most times four are about: the latest frame, the one
/// being written, and those of two observations under way; all but the latest may be unused.
const KEEP: usize = 3;

/// The way into one buffer of one sensor: what may be written there, and the memory in which the
/// frames go round.
pub(super) struct Channel {
    part: Part,
    sensor: Name,
    dtype: Dtype,
    shape: Shape,
    /// Bytes of one frame.
    len: usize,
    pool: BufferPool,
}

impl Channel {
    pub(super) fn new(
        part: Part,
        sensor: &Name,
        dtype: Dtype,
        shape: &Shape,
        source: Option<&SharedSource>,
    ) -> Result<Self, SensorError> {
        let too_large =
            || SensorError::TooLarge { part, name: sensor.clone(), dtype, shape: shape.clone() };
        let len = byte_len(dtype, shape).ok_or_else(too_large)?;
        let (sensor, shape) = (sensor.clone(), shape.clone());
        let pool = match source {
            Some(source) => BufferPool::with_source(KEEP, source.clone()),
            None => BufferPool::new(KEEP),
        };
        Ok(Self { part, sensor, dtype, shape, len, pool })
    }

    fn take(&self) -> Result<Buffer, SensorError> {
        self.pool.try_take(self.len).ok_or_else(|| SensorError::NoMemory {
            part: self.part,
            name: self.sensor.clone(),
            bytes: self.len,
        })
    }

    /// A frame of zeros.
    pub(super) fn zeros(&self) -> Result<Bytes, SensorError> {
        let buffer = self.pool.try_take_zeros(self.len).ok_or_else(|| SensorError::TooLarge {
            part: self.part,
            name: self.sensor.clone(),
            dtype: self.dtype,
            shape: self.shape.clone(),
        })?;
        Ok(buffer.freeze(0..self.len))
    }

    /// The bytes of a reading that fits; this is where the pixels of a borrowed one are copied.
    pub(super) fn accept(&self, reading: Reading<'_>) -> Result<Bytes, SensorError> {
        self.check_dtype(reading.dtype)?;
        let (part, name) = (self.part, &self.sensor);
        if let Some(found) = reading.shape.as_ref().filter(|&shape| *shape != self.shape) {
            let (found, expected) = (found.clone(), self.shape.clone());
            return Err(SensorError::Shape { part, name: name.clone(), found, expected });
        }
        if reading.byte_len() != self.len {
            return Err(SensorError::Length {
                part,
                name: name.clone(),
                found: reading.byte_len() / self.dtype.size(),
                expected: self.len / self.dtype.size(),
                shape: self.shape.clone(),
            });
        }
        Ok(match reading.elements {
            Elements::Owned(bytes) => bytes,
            Elements::Borrowed(bytes) => {
                let mut buffer = self.take()?;
                buffer[..self.len].copy_from_slice(bytes);
                buffer.freeze(0..self.len)
            }
        })
    }

    /// A recycled buffer for the next frame.
    pub(super) fn buffer<T: Element + Pod>(&self) -> Result<SensorBuffer<T>, SensorError> {
        self.check_dtype(T::DTYPE)?;
        Ok(SensorBuffer::new(self.take()?, self.len))
    }

    /// A recycled buffer for the next frame, of whatever the elements are.
    pub(super) fn untyped_buffer(&self) -> Result<UntypedBuffer, SensorError> {
        Ok(UntypedBuffer::new(self.take()?, self.dtype, self.shape.clone(), self.len))
    }

    /// Bytes that this channel accepted, as the array that they are.
    pub(super) fn array(&self, bytes: Bytes) -> Array {
        Array::new(self.dtype, self.shape.clone(), bytes).expect("checked when it was accepted")
    }

    fn check_dtype(&self, found: Dtype) -> Result<(), SensorError> {
        if found == self.dtype {
            return Ok(());
        }
        let (part, name, expected) = (self.part, self.sensor.clone(), self.dtype);
        Err(SensorError::Dtype { part, name, found, expected })
    }
}
