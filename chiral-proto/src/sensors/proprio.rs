use std::fmt;

use bytemuck::Pod;
use bytes::Bytes;

use super::Shared;
use super::channel::Channel;
use super::deliveries::Deliveries;
use super::error::{Part, SensorError};
use super::reading::{Reading, SensorBuffer, UntypedBuffer};
use crate::pool::SharedSource;
use crate::sync::{Arc, Mutex, lock};
use crate::{Element, Proprio, ProprioConfig, Shape};

/// One declared proprioception stream and its latest values.
pub(super) struct ProprioSlot {
    pub(super) config: ProprioConfig,
    values: Channel,
    latest: Mutex<Latest>,
}

struct Latest {
    values: Bytes,
    deliveries: Deliveries,
}

impl ProprioSlot {
    pub(super) fn new(
        config: ProprioConfig,
        source: Option<&SharedSource>,
    ) -> Result<Self, SensorError> {
        let shape = Shape::from(config.len);
        let values = Channel::new(Part::Proprio, &config.name, config.dtype, &shape, source)?;
        let latest = Latest { values: values.zeros()?, deliveries: Deliveries::default() };
        let latest = Mutex::new(latest);
        Ok(Self { config, values, latest })
    }

    pub(super) fn snapshot(&self) -> Proprio {
        let values = lock(&self.latest).values.clone();
        Proprio { name: self.config.name.clone(), values: self.values.array(values) }
    }

    pub(super) fn update(&self, values: Reading<'_>) -> Result<(), SensorError> {
        let values = self.values.accept(values)?;
        let mut latest = lock(&self.latest);
        let woken = latest.deliveries.add();
        let old = std::mem::replace(&mut latest.values, values);
        drop(latest);
        drop(old);
        woken.wake();
        Ok(())
    }

    pub(super) fn deliveries<T>(&self, with: impl FnOnce(&mut Deliveries) -> T) -> T {
        with(&mut lock(&self.latest).deliveries)
    }
}

/// The handle with which a thread writes one proprioception stream. Cloning it is cheap; it may be
/// sent to and shared between threads.
#[derive(Clone)]
pub struct ProprioWriter {
    shared: Arc<Shared>,
    index: usize,
}

impl ProprioWriter {
    pub(super) fn new(shared: &Arc<Shared>, index: usize) -> Self {
        Self { shared: shared.clone(), index }
    }

    fn slot(&self) -> &ProprioSlot {
        &self.shared.proprios[self.index]
    }

    /// The stream as it was declared.
    pub fn config(&self) -> &ProprioConfig {
        &self.slot().config
    }

    /// Publishes the values; see [`Reading`] for what is copied and what is taken over.
    ///
    /// # Errors
    /// When dtype or length are not the declared ones; the old values stay.
    pub fn update<'a>(&self, values: impl Into<Reading<'a>>) -> Result<(), SensorError> {
        self.slot().update(values.into())
    }

    /// A recycled buffer for the next values, to be filled in place and then published.
    ///
    /// # Errors
    /// When `T` is not the element of the stream's dtype.
    pub fn buffer<T: Element + Pod>(&self) -> Result<SensorBuffer<T>, SensorError> {
        self.slot().values.buffer()
    }

    /// As [`buffer`](Self::buffer), whatever the element type is.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn untyped_buffer(&self) -> Result<UntypedBuffer, SensorError> {
        self.slot().values.untyped_buffer()
    }

    /// How many updates were published; 0 while the stream shows the zeros it began with.
    pub fn sequence(&self) -> u64 {
        self.slot().deliveries(|updates| updates.count())
    }
}

impl fmt::Debug for ProprioWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProprioWriter({:?})", self.config().name)
    }
}
