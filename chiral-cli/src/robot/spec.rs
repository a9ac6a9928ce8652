//! What a simulated robot has.

use std::fmt;
use std::str::FromStr;

use chiral_proto::wire::Limits;
use chiral_proto::{ActionKind, ActionSpec, CameraConfig, OnViolation, ProprioConfig, Rate};
use chiral_sim::arm::{DOF, JOINTS, Posture, home};
use clap::{Args, ValueEnum};

use super::view::View;
use crate::args;
use crate::usage::ensure_usage;

/// The streams in which an arm tells its state.
pub(super) const ARM_PROPRIOS: [&str; 3] = ["joint_pos", "joint_vel", "ee_pose"];

/// What a simulated robot has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Spec {
    /// What the cameras see.
    #[arg(long, value_enum, default_value_t = Scene::Arm)]
    pub(crate) scene: Scene,

    /// How many cameras there are [default: 3 of an arm, else 1].
    #[arg(long, value_name = "N")]
    pub(crate) cameras: Option<usize>,

    /// Columns and rows of the images, and of the depth maps.
    #[arg(long, value_name = "WxH", default_value = "640x480")]
    pub(crate) size: Size,

    /// Give every camera a depth map, float32 metres.
    #[arg(long)]
    pub(crate) depth: bool,

    /// Add a proprioception stream, float32; may be repeated.
    #[arg(long = "proprio", value_name = "NAME:SIZE")]
    pub(crate) proprios: Vec<Proprio>,

    /// How often each sensor delivers.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = args::rate)]
    pub(crate) rate: Rate,

    /// The seed of the scene.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What the cameras of a simulated robot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// A seven-joint arm at a table, rendered; the actions move it.
    Arm,
    /// Noise, at next to no cost: what a network or a compressor finds hardest.
    Noise,
    /// A gradient that runs up the image, at next to no cost.
    Gradient,
}

impl Scene {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arm => "arm",
            Self::Noise => "noise",
            Self::Gradient => "gradient",
        }
    }
}

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Size {
    const MAX: usize = 16_384;
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=Self::MAX).contains(side));
        text.split_once('x')
            .and_then(|(width, height)| Some(Self { width: side(width)?, height: side(height)? }))
            .ok_or_else(|| {
                format!("found {text:?}, expected WxH, as in 640x480, each from 1 to {}", Self::MAX)
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A proprioception stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proprio {
    pub(crate) name: String,
    pub(crate) len: usize,
}

impl Proprio {
    const MAX: usize = 1_000_000;
}

impl FromStr for Proprio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let len = |text: &str| text.parse().ok().filter(|len| *len <= Self::MAX);
        text.rsplit_once(':')
            .and_then(|(name, size)| Some(Self { name: name.to_owned(), len: len(size)? }))
            .ok_or_else(|| {
                let most = Self::MAX;
                format!("found {text:?}, expected NAME:SIZE, as in joints:7, of at most {most}")
            })
    }
}

impl Spec {
    pub(super) fn views(&self) -> Vec<View> {
        let is_arm = self.scene == Scene::Arm;
        (0..self.view_count()).map(|index| View::nth(index, is_arm)).collect()
    }

    fn view_count(&self) -> usize {
        self.cameras.unwrap_or(if self.scene == Scene::Arm { 3 } else { 1 })
    }

    pub(crate) fn camera_configs(&self) -> Vec<CameraConfig> {
        let Size { width, height } = self.size;
        let posture = Posture::at(&home());
        let config = |view: View| {
            let camera = view.camera(self.size, &posture);
            let config = CameraConfig::new(view.name(), [height, width, 3])
                .intrinsics(camera.intrinsics())
                .extrinsics(camera.camera_to_world());
            if self.depth { config.depth([height, width]) } else { config }
        };
        self.views().into_iter().map(config).collect()
    }

    pub(crate) fn proprio_configs(&self) -> Vec<ProprioConfig> {
        let of_the_arm = ARM_PROPRIOS.map(|name| ProprioConfig::new(name, DOF));
        let of_the_arm = of_the_arm.into_iter().filter(|_| self.scene == Scene::Arm);
        let asked = self.proprios.iter().map(|stream| ProprioConfig::new(&stream.name, stream.len));
        of_the_arm.chain(asked).collect()
    }

    /// What the robot takes for an action: an arm joint angles within its joints' limits, where it
    /// stops anyway; what only shows pictures takes anything. The arm follows at its own speed, so a
    /// step may be of any length.
    pub(crate) fn action_spec(&self) -> ActionSpec {
        match self.scene {
            Scene::Arm => ActionSpec::vector(DOF)
                .kind(ActionKind::Absolute)
                .bounds(JOINTS.map(|joint| joint.lower), JOINTS.map(|joint| joint.upper))
                .on_violation(OnViolation::Clamp),
            Scene::Noise | Scene::Gradient => ActionSpec::any(),
        }
    }

    /// Refuses what no client would take.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let limits = Limits::default();
        let (views, streams) = (self.view_count(), self.proprio_configs());
        ensure_usage!(
            views <= limits.cameras,
            "found {views} cameras, clients take at most {}",
            limits.cameras
        );
        ensure_usage!(
            streams.len() <= limits.proprios,
            "found {} proprioception streams, clients take at most {}",
            streams.len(),
            limits.proprios
        );
        let bytes_per_pixel = if self.depth { 3 + size_of::<f32>() } else { 3 };
        let pixels = views * self.size.width * self.size.height;
        let elements: usize = streams.iter().map(|stream| stream.len).sum();
        let bytes = pixels * bytes_per_pixel + elements * size_of::<f32>();
        let room = limits.frame_len - limits.header_len;
        ensure_usage!(
            bytes <= room,
            "an observation would have {bytes} bytes, clients take at most {room}: fewer cameras, \
             or a smaller --size"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_and_stream_specs_parse_or_fail_with_an_example() {
        let size = Size { width: 640, height: 480 };
        assert_eq!(size.to_string().parse(), Ok(size));
        assert_eq!("640x480".parse(), Ok(size));
        for text in ["", "640", "640x", "0x480", "640x480x3", "-1x1", "99999x1"] {
            assert!(text.parse::<Size>().unwrap_err().contains("as in 640x480"), "{text:?}");
        }
        assert_eq!("left:arm:7".parse(), Ok(Proprio { name: "left:arm".to_owned(), len: 7 }));
        for text in ["", "arm", "arm:", "arm:x", "arm:-1", "arm:99999999"] {
            assert!(text.parse::<Proprio>().unwrap_err().contains("as in joints:7"), "{text:?}");
        }
    }
}
