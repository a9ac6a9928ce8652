//! How long a snapshot of eight RGB-D cameras takes, at three resolutions:
//! `cargo bench -p chiral-proto --bench snapshot`.

use std::fmt;

use chiral_proto::sensors::Sensors;
use chiral_proto::{CameraConfig, ProprioConfig};
use divan::Bencher;

fn main() {
    divan::main();
}

struct Resolution {
    width: usize,
    height: usize,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

const RESOLUTIONS: [Resolution; 3] = [
    Resolution { width: 64, height: 48 },
    Resolution { width: 640, height: 480 },
    Resolution { width: 1280, height: 720 },
];

fn robot(&Resolution { width, height }: &Resolution) -> Sensors {
    let cameras = (0..8).map(|index| {
        CameraConfig::new(format!("camera_{index}"), [height, width, 3]).depth([height, width])
    });
    Sensors::new(cameras, [ProprioConfig::new("joints", 7), ProprioConfig::new("gripper", 1)])
        .expect("the buffers fit into memory")
}

#[divan::bench(args = &RESOLUTIONS)]
fn snapshot(bencher: Bencher<'_, '_>, resolution: &Resolution) {
    let sensors = robot(resolution);
    bencher.bench_local(|| sensors.snapshot(1.0));
}

#[divan::bench(args = &RESOLUTIONS)]
fn snapshot_into(bencher: Bencher<'_, '_>, resolution: &Resolution) {
    let sensors = robot(resolution);
    let mut observation = sensors.snapshot(0.0);
    bencher.bench_local(|| sensors.snapshot_into(1.0, &mut observation));
}
