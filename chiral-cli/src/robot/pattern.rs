//! Cameras that show noise or a gradient, so cheaply that the transport is what is measured.

use std::sync::Arc;

use bytes::Bytes;
use chiral_proto::sensors::{CameraFrame, CameraWriter, Sensors};
use chiral_proto::{Array, Dtype};

use super::memory::Memory;
use super::spec::{Size, Spec};
use super::stage::Stage;
use super::threads::Threads;

/// How many frames there are before they repeat.
const FRAMES: usize = 64;

/// Nothing happens in front of these cameras.
struct Pattern;

impl Stage for Pattern {}

/// Has the cameras show noise.
pub(super) fn noise(
    spec: &Spec,
    memory: &Memory,
    sensors: &Sensors,
    threads: &mut Threads,
) -> anyhow::Result<Arc<dyn Stage>> {
    let mut random = Random(spec.seed);
    let strip = Strip::paint(spec.size, |_, _| noise_pixel(random.next()));
    show(strip, spec, memory, sensors, threads)
}

/// Has the cameras show a gradient that runs up the image.
pub(super) fn gradient(
    spec: &Spec,
    memory: &Memory,
    sensors: &Sensors,
    threads: &mut Threads,
) -> anyhow::Result<Arc<dyn Stage>> {
    let across = |column| column as f32 / spec.size.width as f32;
    let strip = Strip::paint(spec.size, |row, column| gradient_pixel(row, across(column)));
    show(strip, spec, memory, sensors, threads)
}

fn show(
    strip: Strip,
    spec: &Spec,
    memory: &Memory,
    sensors: &Sensors,
    threads: &mut Threads,
) -> anyhow::Result<Arc<dyn Stage>> {
    let strip = Arc::new(strip);
    for (index, camera) in sensors.cameras().enumerate() {
        let (strip, memory) = (Arc::clone(&strip), memory.clone());
        // No two of the first cameras show the same at once.
        let mut frame = index * 7;
        threads.spawn(format!("camera {index}"), spec.rate, move || {
            strip.show(frame, &camera, &memory);
            frame += 1;
        })?;
    }
    Ok(Arc::new(Pattern))
}

/// A picture [`FRAMES`] rows higher than a camera's. Frame `n` begins at row `n`, and shares the
/// strip's memory: showing it paints nothing, and copies nothing but into shared memory.
struct Strip {
    size: Size,
    image: Bytes,
    depth: Bytes,
}

impl Strip {
    /// The strip whose pixels, by row and column, have these colours and depths (metres).
    fn paint(size: Size, mut pixel: impl FnMut(usize, usize) -> ([u8; 3], f32)) -> Self {
        let Size { width, height } = size;
        let pixels = width * (height + FRAMES);
        let (image, depth): (Vec<[u8; 3]>, Vec<f32>) =
            (0..pixels).map(|index| pixel(index / width, index % width)).unzip();
        Self {
            size,
            image: image.into_flattened().into(),
            depth: Array::vector(depth).bytes().clone(),
        }
    }

    fn show(&self, frame: usize, camera: &CameraWriter, memory: &Memory) {
        let Size { width, height } = self.size;
        let row = frame % FRAMES;
        let slice = |bytes: &Bytes, row_len: usize| {
            memory.deliver(bytes.slice(row * row_len..(row + height) * row_len))
        };
        let image = Array::new(Dtype::U8, [height, width, 3], slice(&self.image, width * 3));
        let mut shown = CameraFrame::new().image(image.expect("the slice has the shape's length"));
        if camera.config().depth.is_some() {
            let bytes = slice(&self.depth, width * size_of::<f32>());
            let depth = Array::new(Dtype::F32, [height, width], bytes);
            shown = shown.depth(depth.expect("the slice has the shape's length"));
        }
        camera.publish(shown).expect("the frame is as declared, and the sensors have a clock");
    }
}

/// Colour and depth (0.5 to 5 metres) of a pixel; the rows repeat after [`FRAMES`].
fn gradient_pixel(row: usize, across: f32) -> ([u8; 3], f32) {
    let up = (row % FRAMES) as f32 / FRAMES as f32;
    let [across_255, up_255] = [across, up].map(|share| (share * 255.0) as u8);
    ([across_255, up_255, 255 - across_255], 0.5 + 4.0 * across + 0.5 * up)
}

/// Colour and depth (0.5 to 4.5 metres) of a pixel.
fn noise_pixel(random: u64) -> ([u8; 3], f32) {
    let [red, green, blue, _, high, low, ..] = random.to_le_bytes();
    let depth = f32::from(u16::from_le_bytes([low, high])) / f32::from(u16::MAX);
    ([red, green, blue], 0.5 + 4.0 * depth)
}

/// `SplitMix64`: noise need not be better.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiral_proto::CameraConfig;

    const SIZE: Size = Size { width: 5, height: 3 };

    #[test]
    fn pattern_frames_change_and_repeat_and_share_one_strip() {
        let mut random = Random(1);
        let strips = [
            Strip::paint(SIZE, |_, _| noise_pixel(random.next())),
            Strip::paint(SIZE, |row, column| gradient_pixel(row, column as f32 / 5.0)),
        ];
        for strip in strips {
            let config = CameraConfig::new("cam", [3, 5, 3]).depth([3, 5]);
            let sensors = Sensors::with_clock([config], [], || 1.5).unwrap();
            let camera = sensors.camera_at(0).unwrap();
            let mut shown = Vec::new();
            for frame in 0..=FRAMES {
                strip.show(frame, &camera, &Memory::default());
                let camera = sensors.snapshot(0.0).cameras.remove(0);
                assert_eq!(camera.timestamp.to_bits(), 1.5_f64.to_bits());
                let range = strip.image.as_ptr_range();
                assert!(range.contains(&camera.image.bytes().as_ptr()));
                let depth = camera.depth.expect("it was declared");
                assert!(depth.to_f32().iter().all(|metres| (0.5..=5.0).contains(metres)));
                shown.push(camera.image);
            }
            assert_eq!(shown[0], shown[FRAMES]);
            shown.pop();
            shown.sort_by(|a, b| a.bytes().cmp(b.bytes()));
            shown.dedup();
            assert_eq!(shown.len(), FRAMES);
        }
    }
}
