//! Constructors of the test robot.

use std::sync::Arc;

use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::{CameraConfig, Dtype, ProprioConfig};
use nalgebra::{Matrix3, Matrix4, Vector3};

use super::{Fault, Recorder, Work};

impl Recorder {
    /// A robot with cameras of the given size, `[H, W]`, all with depth, whose neighbouring pixels
    /// differ.
    ///
    /// # Panics
    /// When the sizes overflow.
    pub fn new(cameras: usize, [height, width]: [usize; 2]) -> Self {
        let cameras = (0..cameras).map(|index| {
            CameraConfig::new(format!("cam_{index}"), [height, width, 3]).depth([height, width])
        });
        let sensors = Sensors::new(cameras, [ProprioConfig::new("joint_pos", 7)]);
        let sensors = sensors.expect("the sizes fit the memory");
        for (index, camera) in sensors.cameras().enumerate() {
            let image = pattern(height * width * 3, |at| (at * 7 + index) as u8);
            let depth = pattern(height * width, |at| (at + index) as f32 * 0.001);
            let frame =
                CameraFrame::new().image(image).depth(depth).captured_at(index as f64 + 0.5);
            camera.publish(frame).expect("it is as it was declared");
        }
        Self::of(sensors)
    }

    /// A robot with the given sensors.
    pub fn of(sensors: Sensors) -> Self {
        let record = Arc::default();
        Self { sensors, record, blocks: false, observes_late: false, fault: None }
    }

    /// A robot with one tiny camera.
    pub fn small() -> Self {
        Self::new(1, [4, 6])
    }

    /// A robot whose observations are about 10 MB, more than socket buffers hold.
    pub fn large() -> Self {
        Self::new(5, [480, 640])
    }

    /// A robot with sensors of many kinds: with and without depth, grey, of several dtypes, with
    /// calibrations of their own.
    ///
    /// # Panics
    /// Never; what it publishes is as it was declared.
    pub fn diverse() -> Self {
        let k = Matrix3::new(600.5, 0.25, 320.0, 0.0, 601.5, 240.0, 0.0, 0.0, 1.0);
        let t = Matrix4::new_translation(&Vector3::new(0.1, -0.2, 1.5));
        let cameras = [
            CameraConfig::new("wrist_cam", [4, 6, 3]).depth([2, 3]).intrinsics(k).extrinsics(t),
            CameraConfig::new("thermal", [3, 5]).image_dtype(Dtype::U16).intrinsics(2.0 * k),
            CameraConfig::new("scan", [2, 2, 1]).depth_of([2, 2, 1], Dtype::U16),
        ];
        let proprios = [
            ProprioConfig::new("joint_pos", 7),
            ProprioConfig::new("joint_torque", 3).dtype(Dtype::F64),
            ProprioConfig::new("contacts", 2).dtype(Dtype::Bool),
        ];
        let sensors = Sensors::new(cameras, proprios).expect("they are small");
        let wrist = CameraFrame::new().image((0..72).collect::<Vec<u8>>()).depth(vec![
            0.5_f32,
            1.0,
            1.5,
            2.0,
            f32::INFINITY,
            f32::MIN_POSITIVE,
        ]);
        let thermal = CameraFrame::new().image((0..15).map(|n| n * 4000).collect::<Vec<u16>>());
        let scan = CameraFrame::new().image(vec![9_u8; 4]).depth(vec![1_u16, 2, 3, 65535]);
        for (name, frame, at) in
            [("wrist_cam", wrist, 12.25), ("thermal", thermal, 12.5), ("scan", scan, 1e9)]
        {
            sensors.publish(name, frame.captured_at(at)).expect("it is as declared");
        }
        let joints: Vec<f32> = (0_u8..7).map(|n| f32::from(n) * -0.3).collect();
        sensors.update_proprio("joint_pos", joints).expect("it is as declared");
        sensors.update_proprio("joint_torque", vec![1e-300, -0.0, 7.0]).expect("it is as declared");
        sensors.update_proprio("contacts", vec![true, false]).expect("it is as declared");
        Self::of(sensors)
    }

    /// The same robot with a fault.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// The same robot, held at a kind of work from the start.
    #[must_use]
    pub fn held(self, work: Work) -> Self {
        self.hold(work);
        self
    }

    /// The same robot, which makes its observations when they are sent.
    #[must_use]
    pub fn late_observations(mut self) -> Self {
        self.observes_late = true;
        self
    }

    /// The same robot, which blocks its thread while it is held.
    #[must_use]
    pub fn blocking(mut self) -> Self {
        self.blocks = true;
        self
    }

    /// Whether it may block its thread, and so needs its own.
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    /// The robot's sensors, to write them or to see what observations show.
    pub fn sensors(&self) -> &Sensors {
        &self.sensors
    }
}

/// That many elements, neighbours different, copied in runs since there are many.
fn pattern<T: Copy>(len: usize, element: impl Fn(usize) -> T) -> Vec<T> {
    const PERIOD: usize = 1021;
    let mut elements: Vec<T> = (0..PERIOD).map(element).collect();
    while elements.len() < len {
        elements.extend_from_within(..);
    }
    elements.truncate(len);
    elements
}
