//! What the demo's robot says about itself and its episodes.

use chiral_sim::arm::{DOF, JOINTS};
use chiral_sim::episode::DISPATCH_HZ;
use serde::{Deserialize, Serialize};

use crate::robot::Spec;
use crate::robot::arm::Status;

/// The robot's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) robot: String,
    /// Base to tip.
    joints: Vec<JointInfo>,
    action: ActionInfo,
    pub(super) cameras: Vec<CameraInfo>,
    /// Whether time passes by itself; else it passes with the actions.
    pub(super) real_time: bool,
    /// What was done so far.
    pub(super) served: Served,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct JointInfo {
    name: String,
    /// Limits, radians.
    lower: f64,
    upper: f64,
    /// Radians per second.
    max_speed: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ActionInfo {
    shape: [usize; 1],
    dtype: String,
    meaning: String,
    /// The rate at which actions are expected.
    hz: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CameraInfo {
    name: String,
    width: usize,
    height: usize,
    hz: f64,
}

/// What the robot has done since it was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Served {
    /// Actions that came.
    pub(super) actions: u64,
    /// From the capture of the images on which an action was decided to its coming; `None`
    /// without actions that say so.
    pub(super) reaction_ms: Option<Reaction>,
    /// The most by which one command's angle, in radians, differed from the one before, since the
    /// last reset.
    #[serde(rename = "largest_jump_rad")]
    pub(super) largest_jump: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Reaction {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Description {
    pub(super) fn new(spec: &Spec, real_time: bool, served: Served) -> Self {
        let joints = JOINTS.iter().zip(1..).map(|(joint, number)| JointInfo {
            name: format!("joint_{number}"),
            lower: joint.lower,
            upper: joint.upper,
            max_speed: joint.max_speed,
        });
        let cameras = spec.camera_configs().into_iter().map(|camera| CameraInfo {
            name: camera.name.to_string(),
            width: spec.size.width,
            height: spec.size.height,
            hz: spec.rate.as_hz(),
        });
        Self {
            robot: format!("simulated {DOF}-joint arm"),
            joints: joints.collect(),
            action: ActionInfo {
                shape: [DOF],
                dtype: "float32".to_owned(),
                meaning: "joint angles to move to, radians".to_owned(),
                hz: DISPATCH_HZ.into(),
            },
            cameras: cameras.collect(),
            real_time,
            served,
        }
    }
}

/// How an episode stands, in an observation's `extra`: for the report, not for the policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct EpisodeStatus {
    /// Resets so far.
    pub(super) episode: u64,
    /// Simulated seconds since the episode began.
    pub(super) time: f64,
    /// The tip was held at the target.
    pub(super) solved: bool,
    /// The episode is over: solved, or out of time.
    pub(super) over: bool,
}

impl From<Status> for EpisodeStatus {
    fn from(Status { episode, time, solved, over, .. }: Status) -> Self {
        Self { episode, time, solved, over }
    }
}
