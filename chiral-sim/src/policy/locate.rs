//! From pixels to the place of the ball in the world.

use nalgebra::{Matrix3, Point3, Vector3};

use super::color::HueFilter;
use crate::camera::View;

/// Fewer pixels are not trusted.
const MIN_PIXELS: usize = 6;
/// No more pixels than about this many are used; they are spread evenly over the ball.
const MAX_PIXELS: usize = 400;
/// A point that far from the fitted surface does not support the fit, metres.
const SURFACE_TOLERANCE: f64 = 0.004;
/// The share of points that must support a fit.
const MIN_SUPPORT: f64 = 0.75;
const FIT_ITERATIONS: usize = 25;
/// Views whose balls are further apart than this contradict each other, metres.
const AGREEMENT: f64 = 0.02;

/// The ball as one camera saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sighting {
    pub(super) center: Point3<f64>,
    /// How many pixels showed it.
    pub(super) pixels: usize,
}

/// Finds the ball of this hue and radius in one view; `None` if it cannot be seen, or if what can
/// be seen is not the surface of such a ball.
pub(super) fn look(view: &View<'_>, hue: HueFilter, radius: f64) -> Option<Sighting> {
    let inverse = view.intrinsics.try_inverse()?;
    let colored = view.rgb.as_chunks::<3>().0.iter().enumerate();
    let mask: Vec<usize> =
        colored.filter(|(_, pixel)| hue.accepts(**pixel)).map(|(index, _)| index).collect();
    let stride = mask.len().div_ceil(MAX_PIXELS).max(1);
    let points: Vec<Point3<f64>> =
        mask.iter().step_by(stride).filter_map(|index| view.point(*index, &inverse)).collect();
    let lens = Point3::from(view.camera_to_world.fixed_view::<3, 1>(0, 3).into_owned());
    let center = fit_ball(&points, radius, &lens)?;
    Some(Sighting { center, pixels: mask.len() })
}

/// The centre of the ball of known radius on whose surface `points` lie, seen from `lens`.
///
/// Gauss-Newton on the distances to the surface, with weights that make outliers harmless.
fn fit_ball(points: &[Point3<f64>], radius: f64, lens: &Point3<f64>) -> Option<Point3<f64>> {
    if points.len() < MIN_PIXELS {
        return None;
    }
    let middle =
        points.iter().fold(Vector3::zeros(), |sum, point| sum + point.coords) / points.len() as f64;
    // Only the near side can be seen: the centre is behind it.
    let behind = (middle - lens.coords).try_normalize(1e-9)?;
    let mut center = Point3::from(middle + behind * (radius * 2.0 / 3.0));
    for _ in 0..FIT_ITERATIONS {
        let mut normal = Matrix3::identity() * 1e-6;
        let mut gradient = Vector3::zeros();
        for point in points {
            let arm = point - center;
            let distance = arm.norm().max(1e-9);
            let outwards = arm / distance;
            let beyond = distance - radius;
            let weight = 1.0 / (1.0 + (beyond / SURFACE_TOLERANCE).powi(2));
            normal += outwards * outwards.transpose() * weight;
            gradient += outwards * (beyond * weight);
        }
        let step = normal.cholesky()?.solve(&gradient);
        center += step;
        if step.norm() < 1e-7 {
            break;
        }
    }
    let on_surface =
        |point: &&Point3<f64>| ((*point - center).norm() - radius).abs() < SURFACE_TOLERANCE;
    let support = points.iter().filter(on_surface).count() as f64;
    (support >= MIN_SUPPORT * points.len() as f64).then_some(center)
}

/// What several views tell together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Consensus {
    pub(super) center: Point3<f64>,
    /// How many views saw the ball there.
    pub(super) views: usize,
}

/// The place on which *all* sightings agree, each weighted by its pixels.
///
/// A camera that sees the ball elsewhere than another is not outvoted: one of the two is lying
/// about its image, its depth or its pose, and there is no telling which.
pub(super) fn agree(sightings: &[Sighting]) -> Option<Consensus> {
    let apart = |a: &Sighting, b: &Sighting| (a.center - b.center).norm() > AGREEMENT;
    if sightings.iter().any(|a| sightings.iter().any(|b| apart(a, b))) {
        return None;
    }
    let weight: f64 = sightings.iter().map(|sighting| sighting.pixels as f64).sum();
    let sum = sightings.iter().fold(Vector3::zeros(), |sum, sighting| {
        sum + sighting.center.coords * sighting.pixels as f64
    });
    (weight > 0.0).then(|| Consensus { center: Point3::from(sum / weight), views: sightings.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{Camera, CameraFrame, look_at};
    use crate::render::Renderer;
    use crate::solid::{Body, Solid};
    use proptest::prelude::*;

    const RADIUS: f64 = 0.03;
    const COLOR: [u8; 3] = [255, 78, 10];

    fn picture(lens: Point3<f64>, bodies: &[Body]) -> CameraFrame {
        let pose = look_at(lens, Point3::new(0.4, 0.0, 0.1));
        Renderer::new().frame(&Camera::new(160, 120, 0.8, pose), bodies)
    }

    fn ball(center: Point3<f64>) -> Body {
        Body::plain(Solid::Sphere { center, radius: RADIUS }, COLOR)
    }

    fn find(frame: &CameraFrame) -> Option<Sighting> {
        look(&frame.view().unwrap(), HueFilter::new(COLOR), RADIUS)
    }

    proptest! {
        #[test]
        fn finds_the_centre_to_a_millimetre(
            center in prop::array::uniform3(-0.15..0.15_f64),
            angle in 0.0..6.0_f64,
        ) {
            let center = Point3::new(0.4, 0.0, 0.1) + Vector3::from(center);
            let lens = Point3::new(0.4 + 1.4 * angle.cos(), 1.4 * angle.sin(), 0.7);
            let found = find(&picture(lens, &[ball(center)]));
            prop_assert!(found.is_some_and(|found| (found.center - center).norm() < 1e-3), "{found:?}");
        }
    }

    #[test]
    fn half_a_ball_is_enough() {
        let center = Point3::new(0.4, 0.0, 0.1);
        let screen = Body::plain(
            Solid::Cuboid {
                pose: nalgebra::Isometry3::translation(0.6, 0.1, 0.1),
                half: Vector3::new(0.01, 0.1, 0.4),
            },
            [90, 90, 90],
        );
        let lens = Point3::new(1.6, 0.0, 0.1);
        let whole = find(&picture(lens, &[ball(center)])).unwrap();
        let half = find(&picture(lens, &[ball(center), screen])).unwrap();
        assert!(half.pixels < whole.pixels * 2 / 3);
        assert!((half.center - center).norm() < 1e-3, "{}", half.center);
    }

    #[test]
    fn the_right_colour_on_the_wrong_shape_is_refused() {
        let block = Solid::Cuboid {
            pose: nalgebra::Isometry3::translation(0.4, 0.0, 0.1),
            half: Vector3::new(0.05, 0.08, 0.06),
        };
        let frame = picture(Point3::new(1.6, 0.3, 0.6), &[Body::plain(block, COLOR)]);
        assert_eq!(find(&frame), None);
    }

    #[test]
    fn without_depth_the_ball_is_not_located() {
        let mut frame = picture(Point3::new(1.6, 0.0, 0.6), &[ball(Point3::new(0.4, 0.0, 0.1))]);
        assert!(find(&frame).is_some());
        frame.depth.fill(0.0);
        assert_eq!(find(&frame), None);
        frame.depth.fill(f32::NAN);
        assert_eq!(find(&frame), None);
    }

    #[test]
    fn one_inconsistent_camera_rejects_the_estimate() {
        let sighting = |x, pixels| Sighting { center: Point3::new(x, 0.0, 0.0), pixels };
        let close = [sighting(0.400, 30), sighting(0.404, 10)];
        let agreed = agree(&close).unwrap();
        assert_eq!(agreed.views, 2);
        assert!((agreed.center.x - 0.401).abs() < 1e-9);
        assert_eq!(agree(&[close[0], close[1], sighting(0.5, 1)]), None);
        assert_eq!(agree(&[]), None);
    }
}
