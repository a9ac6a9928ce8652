//! Any declared sensors, dimensions up to overflow, and any updates: what does not fit is refused
//! and changes nothing, no snapshot changes afterwards, and what sensors show can be sent.
#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arbitrary::Arbitrary;
use chiral_proto::pool::{BufferMemory, BufferSource};
use chiral_proto::sensors::{CameraFrame, CameraWriter, Reading, SensorError, Sensors};
use chiral_proto::wire::{Limits, ServerMessage};
use chiral_proto::{
    Array, CameraConfig, Dtype, Element, Observation, ProprioConfig, Shape, Timestamps, WhenStale,
};

/// Bytes that a sensor's buffer may have. What is more is refused by [`Memory`].
const LARGEST: usize = 1 << 12;
/// Sensors of one kind, writers, and observations that are kept.
const MOST: usize = 4;

#[derive(Debug, Arbitrary)]
struct Input {
    cameras: Vec<CameraInput>,
    proprios: Vec<(Name, Dim, u8)>,
    has_clock: bool,
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
struct CameraInput {
    name: Name,
    shape: Vec<Dim>,
    dtype: u8,
    depth: Option<(Vec<Dim>, u8)>,
    max_age: Option<(u64, u8)>,
}

/// Few, so that names meet.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Name {
    Empty,
    Wrist,
    Top,
    Unknown,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Wrist => "wrist",
            Self::Top => "top",
            Self::Unknown => "ünknown\n",
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Dim {
    Small(u8),
    Any(u64),
}

impl From<Dim> for usize {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Small(dim) => (dim % 16).into(),
            Dim::Any(dim) => dim as Self,
        }
    }
}

fn shape(dims: &[Dim]) -> Shape {
    dims.iter().take(40).map(|&dim| usize::from(dim)).collect()
}

fn dtype(index: u8) -> Dtype {
    Dtype::ALL[usize::from(index) % Dtype::ALL.len()]
}

#[derive(Debug, Arbitrary)]
enum Op {
    Publish {
        camera: Name,
        image: Option<Data>,
        depth: Option<Data>,
        captured_at: Option<f64>,
    },
    Write {
        writer: u8,
        image: Option<Data>,
        captured_at: Option<f64>,
    },
    Writer(Name),
    DropWriter(u8),
    Fill {
        writer: u8,
        is_depth: bool,
        value: u8,
        publishes: bool,
    },
    Proprio {
        proprio: Name,
        data: Data,
    },
    /// Keeps a snapshot; the oldest goes.
    Snapshot(f64),
    /// In the place of a kept one.
    SnapshotInto(u8, f64),
    Ages(Vec<(Name, f64)>),
    Clock(f64),
}

/// What is published: as many elements as the sensor has, or another number of them.
#[derive(Debug, Clone, Arbitrary)]
struct Data {
    value: u8,
    dtype: Option<u8>,
    len: Option<u8>,
    way: Way,
}

#[derive(Debug, Clone, Arbitrary)]
enum Way {
    Slice,
    Vec,
    Array(Option<Vec<Dim>>),
}

/// Gives no block that is larger than a sensor's buffer may be.
struct Memory;

impl BufferSource for Memory {
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
        // A block that does not begin where it should is asked for again, longer.
        (len <= LARGEST + 128).then(|| Box::new(vec![0xee_u8; len]) as Box<dyn BufferMemory>)
    }
}

struct Rig {
    sensors: Sensors,
    clock: Arc<AtomicU64>,
    cameras: Vec<CameraConfig>,
    proprios: Vec<ProprioConfig>,
    writers: Vec<CameraWriter>,
    /// Observations, and what they showed when they were made.
    kept: Vec<(Observation, String)>,
}

impl Rig {
    fn new(input: &Input) -> Option<Self> {
        let camera = |camera: &CameraInput| {
            let config = CameraConfig::new(camera.name.text(), shape(&camera.shape));
            let mut config = config.image_dtype(dtype(camera.dtype));
            if let Some((dims, index)) = &camera.depth {
                config = config.depth_of(shape(dims), dtype(*index));
            }
            if let Some((micros, action)) = camera.max_age {
                let actions = [WhenStale::Hold, WhenStale::Flag, WhenStale::Omit, WhenStale::Fail];
                let action = actions[usize::from(action) % actions.len()];
                config = config.max_age(Duration::from_micros(micros), action);
            }
            config
        };
        let cameras: Vec<_> = input.cameras.iter().take(MOST).map(camera).collect();
        let proprio = |(name, len, index): &(Name, Dim, u8)| {
            ProprioConfig::new(name.text(), (*len).into()).dtype(dtype(*index))
        };
        let proprios: Vec<_> = input.proprios.iter().take(MOST).map(proprio).collect();
        let clock = Arc::new(AtomicU64::new(1.0_f64.to_bits()));
        let mut builder = Sensors::builder().memory(Memory);
        if input.has_clock {
            let clock = Arc::clone(&clock);
            builder = builder.clock(move || f64::from_bits(clock.load(Ordering::Relaxed)));
        }
        let built = builder.cameras(cameras.clone()).proprios(proprios.clone()).build();
        let fits = |dtype: Dtype, shape: &Shape| {
            let others = shape.iter().filter(|dim| **dim != 0);
            let len = others.copied().try_fold(dtype.size(), usize::checked_mul);
            let len = len.filter(|len| isize::try_from(*len).is_ok());
            len.is_some_and(|len| shape.contains(&0) || len <= LARGEST)
        };
        let all_fit = cameras.iter().all(|camera| {
            let depth = camera.depth.as_ref();
            fits(camera.image_dtype, &camera.image_shape)
                && depth.is_none_or(|(shape, dtype)| fits(*dtype, shape))
        }) && proprios.iter().all(|proprio| fits(proprio.dtype, &proprio.len.into()));
        let sensors = match built {
            Ok(sensors) => sensors,
            Err(SensorError::NoClockForAge { .. }) => {
                assert!(!input.has_clock);
                return None;
            }
            Err(error) => {
                assert!(!all_fit, "{error}");
                return None;
            }
        };
        let (writers, kept) = (Vec::new(), Vec::new());
        Some(Self { sensors, clock, cameras, proprios, writers, kept })
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Publish { camera, image, depth, captured_at } => {
                let name = camera.text();
                let config = self.cameras.iter().find(|config| config.name == *name).cloned();
                let before = self.state();
                let of_image =
                    config.as_ref().map(|config| (config.image_dtype, &config.image_shape));
                let of_depth = config.as_ref().and_then(|config| config.depth.as_ref());
                let of_depth = of_depth.map(|(shape, dtype)| (*dtype, shape));
                let image = image.map(|image| image.prepare(of_image));
                let depth = depth.map(|depth| depth.prepare(of_depth));
                let mut frame = CameraFrame::new();
                let mut fits = config.is_some();
                if let Some((image, is_fitting)) = &image {
                    frame = frame.image(image.reading());
                    fits &= *is_fitting && (captured_at.is_some() || self.sensors.now().is_some());
                }
                if let Some((depth, is_fitting)) = &depth {
                    frame = frame.depth(depth.reading());
                    fits &= *is_fitting;
                }
                if let Some(time) = captured_at {
                    frame = frame.captured_at(time);
                }
                let published = self.sensors.publish(name, frame);
                assert_eq!(published.is_ok(), fits, "{published:?}");
                if let Err(error) = published {
                    assert!(error.to_string().len() < 4000);
                    assert_eq!(self.state(), before, "a refused update changed something");
                }
            }
            Op::Write { writer, image, captured_at } => {
                let Some(writer) = self.writer(writer) else { return };
                let config = writer.config();
                let of = Some((config.image_dtype, &config.image_shape));
                let prepared = image.as_ref().map(|image| image.prepare(of).0);
                let mut frame = CameraFrame::new();
                if let Some(image) = &prepared {
                    frame = frame.image(image.reading());
                }
                if let Some(time) = captured_at {
                    frame = frame.captured_at(time);
                }
                let before = writer.sequence();
                let published = writer.publish(frame).is_ok();
                let expected = before + u64::from(published && image.is_some());
                assert_eq!(writer.sequence(), expected);
            }
            Op::Writer(name) => {
                let writer = self.sensors.camera(name.text());
                assert_eq!(writer.is_ok(), self.cameras.iter().any(|c| c.name == *name.text()));
                if self.writers.len() < MOST {
                    self.writers.extend(writer);
                }
            }
            Op::DropWriter(index) => {
                if !self.writers.is_empty() {
                    self.writers.swap_remove(usize::from(index) % self.writers.len());
                }
            }
            Op::Fill { writer, is_depth, value, publishes } => {
                let Some(writer) = self.writer(writer) else { return };
                let buffer = if is_depth {
                    writer.depth_buffer::<u8>()
                } else {
                    writer.image_buffer::<u8>()
                };
                let Ok(mut buffer) = buffer else { return };
                buffer.fill(value);
                if publishes {
                    let frame = CameraFrame::new().captured_at(f64::from(value));
                    let frame = if is_depth { frame.depth(buffer) } else { frame.image(buffer) };
                    writer.publish(frame).expect("a buffer fits where it comes from");
                }
            }
            Op::Proprio { proprio, data } => {
                let name = proprio.text();
                let config = self.proprios.iter().find(|config| config.name == *name);
                let shape = config.map(|config| Shape::from(config.len));
                let of = config.map(|config| config.dtype).zip(shape.as_ref());
                let (values, fits) = data.prepare(of);
                let updated = self.sensors.update_proprio(name, values.reading());
                assert_eq!(updated.is_ok(), fits, "{updated:?}");
            }
            Op::Snapshot(time) => {
                let observation = self.sensors.snapshot(time);
                check_wire(&observation);
                let text = show(&observation);
                if self.kept.len() == MOST {
                    self.kept.remove(0);
                }
                self.kept.push((observation, text));
            }
            Op::SnapshotInto(index, time) => {
                let count = self.kept.len().max(1);
                let Some((observation, text)) = self.kept.get_mut(usize::from(index) % count)
                else {
                    return;
                };
                self.sensors.snapshot_into(time, observation);
                assert_eq!(show(observation), show(&self.sensors.snapshot(time)));
                *text = show(observation);
            }
            Op::Ages(times) => {
                let times = times.iter().map(|(name, time)| (name.text(), *time));
                let age = self.sensors.observation_age(&times.collect::<Timestamps>());
                assert!(age.is_none() || self.sensors.now().is_some());
            }
            Op::Clock(time) => self.clock.store(time.to_bits(), Ordering::Relaxed),
        }
        let _ = self.sensors.try_snapshot_now();
        assert_eq!(self.sensors.camera_stats().len(), self.cameras.len());
    }

    fn writer(&self, index: u8) -> Option<&CameraWriter> {
        self.writers.get(usize::from(index) % self.writers.len().max(1))
    }

    /// What the sensors show, and how often they were updated.
    fn state(&self) -> String {
        let updates: Vec<_> = self.sensors.cameras().map(|camera| camera.sequence()).collect();
        format!("{} {updates:?}", show(&self.sensors.snapshot(0.0)))
    }
}

impl Data {
    /// What is to be published, and whether it fits.
    fn prepare(&self, of: Option<(Dtype, &Shape)>) -> (Prepared, bool) {
        let (declared, shape) = of.unzip();
        let found = self.dtype.map(dtype).or(declared).unwrap_or(Dtype::U8);
        let count = shape.and_then(|shape| shape.element_count());
        let len = self.len.map(usize::from).or(count).unwrap_or_default();
        let fits = declared == Some(found) && count == Some(len);
        let is_vec = matches!(self.way, Way::Vec);
        let prepared = match &self.way {
            Way::Slice | Way::Vec if found == u8::DTYPE => {
                Prepared::U8(vec![self.value; len], is_vec)
            }
            Way::Slice | Way::Vec if found == u16::DTYPE => {
                Prepared::U16(vec![self.value.into(); len], is_vec)
            }
            Way::Slice | Way::Vec if found == f32::DTYPE => {
                Prepared::F32(vec![self.value.into(); len], is_vec)
            }
            way => {
                let dims = match way {
                    Way::Array(Some(dims)) => Some(self::shape(dims)),
                    Way::Array(None) => shape.cloned(),
                    Way::Slice | Way::Vec => None,
                };
                let dims = dims.filter(|dims| {
                    dims.element_count() == Some(len) && Array::zeros(found, dims.clone()).is_ok()
                });
                let dims = dims.unwrap_or_else(|| len.into());
                let fits = fits && shape == Some(&dims);
                let bytes = vec![self.value; len * found.size()];
                let array = Array::new(found, dims, bytes).expect("the length fits");
                return (Prepared::Array(array), fits);
            }
        };
        (prepared, fits)
    }
}

/// The elements, and whether they are handed over.
enum Prepared {
    U8(Vec<u8>, bool),
    U16(Vec<u16>, bool),
    F32(Vec<f32>, bool),
    Array(Array),
}

impl Prepared {
    fn reading(&self) -> Reading<'_> {
        match self {
            Self::U8(elements, true) => elements.clone().into(),
            Self::U8(elements, false) => elements.into(),
            Self::U16(elements, true) => elements.clone().into(),
            Self::U16(elements, false) => elements.into(),
            Self::F32(elements, true) => elements.clone().into(),
            Self::F32(elements, false) => elements.into(),
            Self::Array(array) => array.clone().into(),
        }
    }
}

/// All of an observation: `Debug` shows an array's elements only in part.
fn show(observation: &Observation) -> String {
    let images = observation
        .cameras
        .iter()
        .flat_map(|camera| [Some(camera.image.bytes()), camera.depth.as_ref().map(Array::bytes)]);
    let values = observation.proprios.iter().map(|proprio| Some(proprio.values.bytes()));
    let bytes: Vec<_> = images.chain(values).collect();
    format!("{observation:?} {bytes:?}")
}

fn check_wire(observation: &Observation) {
    let limits = Limits::default();
    let can_be_read = observation.cameras.iter().all(|camera| {
        let depth = camera.depth.as_ref().map_or(0, |depth| depth.shape().len());
        camera.image.shape().len().max(depth) <= limits.rank
    });
    let frame = ServerMessage::Observation(observation.clone()).encode();
    match ServerMessage::decode(&frame, &limits) {
        Ok(ServerMessage::Observation(read)) => {
            assert_eq!(show(&read), show(observation));
        }
        other => assert!(!can_be_read, "{other:?}"),
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let Some(mut rig) = Rig::new(&input) else { return };
    for op in input.ops {
        rig.does(op);
    }
    for (observation, text) in &rig.kept {
        assert_eq!(show(observation), *text, "a snapshot has changed");
    }
});
