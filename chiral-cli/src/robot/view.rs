//! Where the cameras of a simulated robot are.

use chiral_sim::arm::Posture;
use chiral_sim::camera::{Camera, look_at};
use chiral_sim::rig::Viewpoint;
use nalgebra::Point3;

use super::spec::Size;

/// What a camera looks at, from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// One of the arm's own.
    OfTheArm(Viewpoint),
    /// From a circle around the table; the number spreads them.
    Around(usize),
}

impl View {
    /// The view of the camera declared at `index`.
    pub(super) fn nth(index: usize, of_an_arm: bool) -> Self {
        match Viewpoint::ALL.get(index) {
            Some(&viewpoint) if of_an_arm => Self::OfTheArm(viewpoint),
            _ => Self::Around(index),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::OfTheArm(viewpoint) => viewpoint.name().to_owned(),
            Self::Around(index) => format!("cam_{index}"),
        }
    }

    /// The camera while the arm is in a posture.
    pub(super) fn camera(self, Size { width, height }: Size, posture: &Posture) -> Camera {
        const FIELD_OF_VIEW: f64 = 50.0;
        /// The angle after which no two cameras come close to each other.
        const SPREAD: f64 = 2.399_963;
        match self {
            Self::OfTheArm(viewpoint) => viewpoint.camera(width, height, posture),
            Self::Around(index) => {
                let angle = index as f64 * SPREAD;
                let eye = Point3::new(0.3 + 1.7 * angle.cos(), 1.7 * angle.sin(), 1.0);
                let pose = look_at(eye, Point3::new(0.3, 0.0, 0.25));
                Camera::new(width, height, FIELD_OF_VIEW.to_radians(), pose)
            }
        }
    }
}
