//! The simple solids that everything visible is made of.

use nalgebra::{Isometry3, Point3, Unit, Vector3};

/// A shape in the world; lengths in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Solid {
    /// A ball.
    Sphere {
        /// Its centre.
        center: Point3<f64>,
        /// Its radius.
        radius: f64,
    },
    /// Everything within `radius` of a line segment.
    Capsule {
        /// One end of the segment.
        from: Point3<f64>,
        /// The other end, different from the first.
        to: Point3<f64>,
        /// The radius.
        radius: f64,
    },
    /// A rectangular block.
    Cuboid {
        /// Its centre and orientation.
        pose: Isometry3<f64>,
        /// Half of its extent along each of its own axes.
        half: Vector3<f64>,
    },
    /// The endless half-space behind a plane.
    Plane {
        /// A point on the surface.
        point: Point3<f64>,
        /// The direction out of the solid.
        normal: Unit<Vector3<f64>>,
    },
}

impl Solid {
    /// Distance from `point` to the surface in metres, negative inside.
    pub fn signed_distance(&self, point: &Point3<f64>) -> f64 {
        match *self {
            Self::Sphere { center, radius } => (point - center).norm() - radius,
            Self::Capsule { from, to, radius } => {
                let axis = to - from;
                let along = (point - from).dot(&axis) / axis.norm_squared();
                (point - (from + axis * along.clamp(0.0, 1.0))).norm() - radius
            }
            Self::Cuboid { pose, half } => {
                let beyond = pose.inverse_transform_point(point).coords.abs() - half;
                beyond.sup(&Vector3::zeros()).norm() + beyond.max().min(0.0)
            }
            Self::Plane { point: origin, normal } => (point - origin).dot(&normal),
        }
    }
}

/// An sRGB colour.
pub type Rgb = [u8; 3];

/// How a surface is coloured before it is lit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Paint {
    /// One colour.
    Plain(Rgb),
    /// Squares of two colours, laid out along the world's x and y axes.
    Checker {
        /// The squares' colours.
        colors: [Rgb; 2],
        /// The side of a square, metres.
        side: f64,
    },
}

/// A painted solid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Body {
    /// Its shape and place.
    pub solid: Solid,
    /// Its colour.
    pub paint: Paint,
}

impl Body {
    /// A solid of one colour.
    pub fn plain(solid: Solid, color: Rgb) -> Self {
        Self { solid, paint: Paint::Plain(color) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_distances_match_the_geometry() {
        let sphere = Solid::Sphere { center: Point3::new(1.0, 0.0, 0.0), radius: 0.5 };
        let capsule =
            Solid::Capsule { from: Point3::origin(), to: Point3::new(0.0, 0.0, 2.0), radius: 0.5 };
        let cuboid = Solid::Cuboid {
            pose: Isometry3::translation(0.0, 0.0, 1.0),
            half: Vector3::new(1.0, 2.0, 3.0),
        };
        let plane = Solid::Plane { point: Point3::new(0.0, 0.0, 1.0), normal: Vector3::z_axis() };
        for (solid, point, distance) in [
            (sphere, [3.0, 0.0, 0.0], 1.5),
            (sphere, [1.0, 0.1, 0.0], -0.4),
            (capsule, [2.0, 0.0, 1.0], 1.5),
            (capsule, [0.0, 3.0, 6.0], 4.5),
            (capsule, [0.0, 0.0, 0.0], -0.5),
            (cuboid, [4.0, 6.0, 1.0], 5.0),
            (cuboid, [0.0, 0.0, 3.5], -0.5),
            (plane, [7.0, 8.0, 3.0], 2.0),
        ] {
            let found = solid.signed_distance(&point.into());
            assert!((found - distance).abs() < 1e-12, "{solid:?} at {point:?}: {found}");
        }
    }
}
