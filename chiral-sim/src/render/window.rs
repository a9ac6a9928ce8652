//! The part of the image that a solid can appear in.

use core::f64::consts::PI;
use core::ops::Range;

use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3, center};

use super::NEAR;
use crate::{camera::Camera, solid::Solid};

/// Bounds are taken of what is beyond this depth; all that is rendered is.
const CLIP: f64 = 0.5 * NEAR;

/// A rectangle of pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// How far a solid extends to the sides of the optical axis: the least and the greatest slope
/// `x/z` and `y/z` of rays that hit it. Empty, least above greatest, if none does.
#[derive(Debug, Clone, Copy)]
struct Extent {
    x: (f64, f64),
    y: (f64, f64),
}

impl Window {
    /// Bounds `solid`, given in the camera's coordinates: no ray outside can hit it.
    pub(super) fn around(solid: &Solid, camera: &Camera) -> Self {
        let extent = Extent::of(solid);
        let (cx, cy) = camera.principal_point();
        let pixels = |(least, greatest): (f64, f64), middle: f64, size: usize| {
            // One pixel more on either side covers the rounding of f32 rays.
            let first = (least * camera.focal + middle).floor() - 1.0;
            let last = (greatest * camera.focal + middle).ceil() + 1.0;
            let inside = |edge: f64| edge.clamp(0.0, size as f64) as usize;
            inside(first)..inside(last + 1.0)
        };
        Self {
            columns: pixels(extent.x, cx, camera.width),
            rows: pixels(extent.y, cy, camera.height),
        }
    }

    /// The whole image.
    #[cfg(test)]
    pub(super) fn full(camera: &Camera) -> Self {
        Self { columns: 0..camera.width, rows: 0..camera.height }
    }
}

impl Extent {
    const NOTHING: Self =
        Self { x: (f64::INFINITY, f64::NEG_INFINITY), y: (f64::INFINITY, f64::NEG_INFINITY) };
    const EVERYTHING: Self =
        Self { x: (f64::NEG_INFINITY, f64::INFINITY), y: (f64::NEG_INFINITY, f64::INFINITY) };

    fn of(solid: &Solid) -> Self {
        match *solid {
            Solid::Sphere { center: middle, radius } if middle.z - radius > CLIP => {
                Self::between_tangents(&middle, radius)
            }
            Solid::Sphere { center: middle, radius } => {
                Self::of_block(&Translation3::from(middle.coords).into(), &Vector3::repeat(radius))
            }
            // A capsule is the convex hull of its caps, and so is its image.
            Solid::Capsule { from, to, radius } if from.z.min(to.z) - radius > CLIP => {
                let [from, to] = [from, to].map(|center| Self::between_tangents(&center, radius));
                from.hull(to)
            }
            Solid::Capsule { from, to, radius } => {
                let axis = to - from;
                let turn = UnitQuaternion::rotation_between(&Vector3::z(), &axis)
                    .unwrap_or_else(|| UnitQuaternion::from_axis_angle(&Vector3::x_axis(), PI));
                let pose = Isometry3::from_parts(center(&from, &to).coords.into(), turn);
                Self::of_block(&pose, &Vector3::new(radius, radius, 0.5 * axis.norm() + radius))
            }
            Solid::Cuboid { pose, half } => Self::of_block(&pose, &half),
            Solid::Plane { .. } => Self::EVERYTHING,
        }
    }

    /// Of a sphere in front of the clipping plane.
    fn between_tangents(center: &Point3<f64>, radius: f64) -> Self {
        let beyond = center.z * center.z - radius * radius;
        let slopes = |across: f64| {
            let spread = radius * (across * across + beyond).sqrt();
            ((across * center.z - spread) / beyond, (across * center.z + spread) / beyond)
        };
        Self { x: slopes(center.x), y: slopes(center.y) }
    }

    /// Of the part of a block that is in front of the clipping plane.
    fn of_block(pose: &Isometry3<f64>, half: &Vector3<f64>) -> Self {
        let corners: [Point3<f64>; 8] = core::array::from_fn(|corner| {
            let side = |bit: usize| if corner >> bit & 1 == 0 { -1.0 } else { 1.0 };
            pose * Point3::from(half.component_mul(&Vector3::from_fn(|bit, _| side(bit))))
        });
        let mut extent = Self::NOTHING;
        for a in corners.iter().filter(|corner| corner.z > CLIP) {
            extent = extent.hull(Self::of_point(a));
            // Where lines to the corners behind pass through the clipping plane. Not all of them
            // are edges, but all run inside the block.
            for b in corners.iter().filter(|corner| corner.z <= CLIP) {
                let share = (a.z - CLIP) / (a.z - b.z);
                extent = extent.hull(Self::of_point(&(a + (b - a) * share)));
            }
        }
        extent
    }

    fn of_point(point: &Point3<f64>) -> Self {
        let (x, y) = (point.x / point.z, point.y / point.z);
        Self { x: (x, x), y: (y, y) }
    }

    /// The extent of the convex hull of two solids in front of the clipping plane.
    fn hull(self, other: Self) -> Self {
        let union = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
        Self { x: union(self.x, other.x), y: union(self.y, other.y) }
    }
}
