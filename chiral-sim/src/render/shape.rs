//! Solids as one camera sees them, ready for millions of rays.
//!
//! A ray leaves the lens along `(x, y, 1)`, so the ray parameter of a hit *is* its depth. A miss
//! is NaN, which loses every comparison: the intersections need no branches, and the compiler
//! turns each loop over a row of pixels into SIMD.

use nalgebra::{Isometry3, Matrix3, Vector3};

use crate::solid::Solid;

type Vec3 = Vector3<f32>;

/// A solid in camera coordinates.
pub(super) trait Shape {
    /// Depth at which the ray through `(x, y, 1)` enters the solid; NaN if it misses. May be
    /// negative: behind the lens.
    fn depth(&self, x: f32, y: f32) -> f32;

    /// The outward unit normal at a point of the surface.
    fn normal(&self, point: &Vec3) -> Vec3;
}

/// Distances along a ray of squared speed `speed`: to the sphere (or, across a cylinder's axis,
/// circle) whose centre the ray passes at `miss` when its parameter is `nearest`.
fn entry(nearest: f32, miss: &Vec3, radius: f32, speed: f32) -> f32 {
    nearest - ((radius * radius - miss.norm_squared()) / speed).sqrt()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sphere {
    center: Vec3,
    radius: f32,
}

impl Shape for Sphere {
    #[inline]
    fn depth(&self, x: f32, y: f32) -> f32 {
        let ray = Vec3::new(x, y, 1.0);
        let speed = ray.norm_squared();
        let nearest = ray.dot(&self.center) / speed;
        entry(nearest, &(self.center - ray * nearest), self.radius, speed)
    }

    #[inline]
    fn normal(&self, point: &Vec3) -> Vec3 {
        (point - self.center) / self.radius
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Capsule {
    caps: [Sphere; 2],
    axis: Vec3,
    length: f32,
    /// Where the first cap lies along the axis, and what remains of its position across it.
    along: f32,
    across: Vec3,
}

impl Capsule {
    fn new(from: Vec3, to: Vec3, radius: f32) -> Self {
        let length = (to - from).norm();
        let axis = (to - from) / length;
        let along = from.dot(&axis);
        let caps = [from, to].map(|center| Sphere { center, radius });
        Self { caps, axis, length, along, across: from - axis * along }
    }
}

impl Shape for Capsule {
    #[inline]
    fn depth(&self, x: f32, y: f32) -> f32 {
        // The endless cylinder around the axis first: whatever misses that misses all.
        let ray = Vec3::new(x, y, 1.0);
        let lengthwise = ray.dot(&self.axis);
        let ray_across = ray - self.axis * lengthwise;
        let speed = ray_across.norm_squared().max(1e-12);
        let nearest = ray_across.dot(&self.across) / speed;
        let miss = self.across - ray_across * nearest;
        let wall = entry(nearest, &miss, self.caps[0].radius, speed);
        // Then, where the cylinder was entered beyond an end, the cap at that end.
        let height = wall * lengthwise - self.along;
        let [first, second] = self.caps.map(|cap| cap.depth(x, y));
        let cap = if height < 0.0 { first } else { second };
        if height >= 0.0 && height <= self.length { wall } else { cap }
    }

    #[inline]
    fn normal(&self, point: &Vec3) -> Vec3 {
        let height = (point.dot(&self.axis) - self.along).clamp(0.0, self.length);
        let center = self.caps[0].center + self.axis * height;
        (point - center) / self.caps[0].radius
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Cuboid {
    center: Vec3,
    /// From the camera's axes to the block's.
    to_local: Matrix3<f32>,
    half: Vec3,
    /// The lens in the block's axes.
    lens: Vec3,
}

impl Cuboid {
    fn new(pose: &Isometry3<f64>, half: &Vector3<f64>) -> Self {
        let center = pose.translation.vector.cast();
        let to_local = pose.rotation.inverse().to_rotation_matrix().matrix().cast();
        Self { center, to_local, half: half.cast(), lens: to_local * -center }
    }
}

impl Shape for Cuboid {
    #[inline]
    fn depth(&self, x: f32, y: f32) -> f32 {
        let ray = self.to_local * Vec3::new(x, y, 1.0);
        let (mut enter, mut leave) = (f32::NEG_INFINITY, f32::INFINITY);
        for i in 0..3 {
            // A ray along a face would divide zero by zero.
            let speed = if ray[i].abs() < 1e-9 { 1e-9 } else { ray[i] };
            let middle = -self.lens[i] / speed;
            let reach = self.half[i] / speed.abs();
            enter = if middle - reach > enter { middle - reach } else { enter };
            leave = if middle + reach < leave { middle + reach } else { leave };
        }
        if enter < leave { enter } else { f32::NAN }
    }

    #[inline]
    fn normal(&self, point: &Vec3) -> Vec3 {
        // The face is the one that the point is furthest out towards.
        let local = self.to_local * (point - self.center);
        let face = local.component_div(&self.half).iamax();
        self.to_local.row(face).transpose() * local[face].signum()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Plane {
    normal: Vec3,
    /// How far in front of the plane the lens is.
    clearance: f32,
}

impl Shape for Plane {
    #[inline]
    fn depth(&self, x: f32, y: f32) -> f32 {
        -self.clearance / self.normal.dot(&Vec3::new(x, y, 1.0))
    }

    #[inline]
    fn normal(&self, _point: &Vec3) -> Vec3 {
        self.normal
    }
}

/// Any of the shapes.
#[derive(Debug, Clone, Copy)]
pub(super) enum AnyShape {
    Sphere(Sphere),
    Capsule(Capsule),
    Cuboid(Cuboid),
    Plane(Plane),
}

impl AnyShape {
    /// `solid`, given in the camera's coordinates.
    pub(super) fn new(solid: &Solid) -> Self {
        match solid {
            Solid::Sphere { center, radius } => {
                Self::Sphere(Sphere { center: center.coords.cast(), radius: *radius as f32 })
            }
            Solid::Capsule { from, to, radius } => {
                Self::Capsule(Capsule::new(from.coords.cast(), to.coords.cast(), *radius as f32))
            }
            Solid::Cuboid { pose, half } => Self::Cuboid(Cuboid::new(pose, half)),
            Solid::Plane { point, normal } => Self::Plane(Plane {
                normal: normal.into_inner().cast(),
                clearance: -point.coords.dot(normal) as f32,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::Point3;
    use proptest::prelude::*;

    fn depth(solid: &Solid, x: f32, y: f32) -> f32 {
        match AnyShape::new(solid) {
            AnyShape::Sphere(shape) => shape.depth(x, y),
            AnyShape::Capsule(shape) => shape.depth(x, y),
            AnyShape::Cuboid(shape) => shape.depth(x, y),
            AnyShape::Plane(shape) => shape.depth(x, y),
        }
    }

    #[track_caller]
    fn assert_depth(solid: &Solid, x: f32, y: f32, expected: f32) {
        let found = depth(solid, x, y);
        assert!((found - expected).abs() < 1e-5, "{solid:?} at ({x}, {y}): {found}");
    }

    #[test]
    fn depths_match_the_analytic_solution() {
        let sphere = Solid::Sphere { center: Point3::new(0.0, 0.0, 2.0), radius: 0.5 };
        assert_depth(&sphere, 0.0, 0.0, 1.5);
        // 5 t² - 4 t + 3.75 = 0 at x = 2 has no root; at x = 0.25 the nearer root is exact.
        assert!(depth(&sphere, 2.0, 0.0).is_nan());
        let (a, b, c) = (1.0625_f32, -4.0_f32, 3.75_f32);
        assert_depth(&sphere, 0.25, 0.0, (-b - (b * b - 4.0 * a * c).sqrt()) / (2.0 * a));

        let across = Solid::Capsule {
            from: Point3::new(-1.0, 0.0, 2.0),
            to: Point3::new(1.0, 0.0, 2.0),
            radius: 0.5,
        };
        assert_depth(&across, 0.0, 0.0, 1.5);
        assert_depth(&across, 0.5, 0.0, 1.5);
        assert!(depth(&across, 0.0, 0.3).is_nan());
        let along = Solid::Capsule {
            from: Point3::new(0.0, 0.0, 2.0),
            to: Point3::new(0.0, 0.0, 3.0),
            radius: 0.5,
        };
        assert_depth(&along, 0.0, 0.0, 1.5);

        let block = Solid::Cuboid {
            pose: Isometry3::translation(0.0, 0.0, 3.0),
            half: Vector3::new(1.0, 0.5, 1.0),
        };
        assert_depth(&block, 0.0, 0.0, 2.0);
        assert_depth(&block, 0.4, 0.2, 2.0);
        assert!(depth(&block, 0.0, 0.3).is_nan());
        let turned = Solid::Cuboid {
            pose: Isometry3::new(
                Vector3::new(0.0, 0.0, 3.0),
                Vector3::y() * core::f64::consts::FRAC_PI_4,
            ),
            half: Vector3::repeat(1.0),
        };
        assert_depth(&turned, 0.0, 0.0, 3.0 - 2_f32.sqrt());

        let floor = Solid::Plane { point: Point3::new(0.0, 1.0, 0.0), normal: -Vector3::y_axis() };
        assert_depth(&floor, 0.3, 0.25, 4.0);
        assert!(depth(&floor, 0.0, -0.25) < 0.0);
    }

    fn point(z: core::ops::Range<f64>) -> impl Strategy<Value = Point3<f64>> {
        (-1.0..1.0_f64, -1.0..1.0_f64, z).prop_map(|(x, y, z)| Point3::new(x, y, z))
    }

    /// A solid, and a ray `(x, y, 1)` that passes near one of its points.
    fn solid_and_ray() -> impl Strategy<Value = (Solid, Vector3<f64>)> {
        let radius = 0.01..0.4_f64;
        let half = prop::array::uniform3(0.01..0.4_f64);
        let turn = prop::array::uniform3(-3.0..3.0_f64);
        let solid = prop_oneof![
            (point(1.0..3.0), radius.clone())
                .prop_map(|(center, radius)| (Solid::Sphere { center, radius }, center)),
            (point(1.0..2.0), point(2.1..3.0), radius)
                .prop_map(|(from, to, radius)| (Solid::Capsule { from, to, radius }, from)),
            (point(1.0..3.0), half, turn).prop_map(|(center, half, turn)| {
                let pose = Isometry3::new(center.coords, turn.into());
                (Solid::Cuboid { pose, half: half.into() }, center)
            }),
        ];
        (solid, point(-0.1..0.1)).prop_map(|((solid, anchor), aside)| {
            let aim = anchor + aside.coords * 0.2;
            (solid, (aim.coords / aim.z).cast::<f32>().cast())
        })
    }

    fn hit(solid: &Solid, ray: &Vector3<f64>) -> f64 {
        depth(solid, ray.x as f32, ray.y as f32).into()
    }

    proptest! {
        /// The solids are convex, and so is the distance to them along a ray. That gives a second
        /// way to the first hit, which shares no formula with the intersections.
        #[test]
        fn intersections_agree_with_ray_marching((solid, ray) in solid_and_ray()) {
            let clearance = |depth: f64| solid.signed_distance(&Point3::from(ray * depth));
            let (mut low, mut high) = (0.0, 10.0);
            for _ in 0..100 {
                let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
                if clearance(a) < clearance(b) { high = b } else { low = a }
            }
            let (deepest, least) = (low, clearance(low));
            prop_assume!(clearance(0.0) > 0.0);
            let found = hit(&solid, &ray);
            if least > 1e-5 {
                prop_assert!(found.is_nan(), "hit at {found}, but the ray passes at {least} m");
            } else if least < -1e-5 {
                let (mut outside, mut inside) = (0.0, deepest);
                for _ in 0..100 {
                    let middle = 0.5 * (outside + inside);
                    if clearance(middle) > 0.0 { outside = middle } else { inside = middle }
                }
                // Both at the surface, and on the same side of it.
                prop_assert!(clearance(found).abs() < 1e-5, "{} m off", clearance(found));
                prop_assert!((found - inside).abs() < 2e-3, "hit at {found}, not {inside}");
            }
        }

        #[test]
        fn normals_point_along_the_gradient((solid, ray) in solid_and_ray()) {
            let found = hit(&solid, &ray);
            if found.is_nan() {
                return Ok(());
            }
            let point = (ray * found).cast();
            let normal = match AnyShape::new(&solid) {
                AnyShape::Sphere(shape) => shape.normal(&point),
                AnyShape::Capsule(shape) => shape.normal(&point),
                AnyShape::Cuboid(shape) => shape.normal(&point),
                AnyShape::Plane(shape) => shape.normal(&point),
            };
            prop_assert!((normal.norm() - 1.0).abs() < 1e-3);
            // A step along it leaves the solid at full speed.
            let outside = Point3::from((point + normal * 0.01).cast::<f64>());
            prop_assert!((solid.signed_distance(&outside) - 0.01).abs() < 1e-4);
        }
    }
}
