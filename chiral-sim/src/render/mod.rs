//! Renders colour and metric depth by casting one ray through every pixel.

mod shape;
mod window;

use nalgebra::{Isometry3, Point3, Unit, Vector3};

use self::shape::{AnyShape, Shape};
use self::window::Window;
use crate::camera::{Camera, CameraFrame};
use crate::solid::{Body, Paint, Rgb, Solid};

/// Nothing nearer to the lens than this is seen, metres.
pub const NEAR: f64 = 0.01;
/// Nothing further from the lens than this is seen, metres.
pub const FAR: f64 = 10.0;

const NOTHING: u32 = u32::MAX;
const SKY_TOP: [f32; 3] = [150.0, 178.0, 205.0];
const SKY_BOTTOM: [f32; 3] = [222.0, 229.0, 235.0];

/// Shares of light that fall on a surface from everywhere, from the lamp and from its fill.
/// Together they make one: no channel saturates, and light never changes a colour's hue.
const AMBIENT: f32 = 0.42;
const LAMP: f32 = 0.48;
const FILL: f32 = 0.10;
const TOWARDS_LAMP: [f64; 3] = [0.30, -0.36, 0.88];
const TOWARDS_FILL: [f64; 3] = [0.75, 0.6, 0.2];

/// Draws bodies into image and depth buffers. Keeps scratch memory between calls, so one
/// renderer per camera thread allocates nothing once it is warm.
#[derive(Debug, Default)]
pub struct Renderer {
    actors: Vec<Actor>,
    /// The x slope of the ray through each column.
    slopes: Vec<f32>,
    /// Which actor each pixel of the current row shows.
    seen: Vec<u32>,
}

/// A body on the camera's stage.
#[derive(Debug, Clone)]
struct Actor {
    shape: AnyShape,
    paint: Paint,
    window: Window,
}

/// What shading needs to know about the world, in the camera's axes.
struct Lighting {
    lamp: Vector3<f32>,
    fill: Vector3<f32>,
    camera_to_world: Isometry3<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culling {
    ToWindows,
    #[cfg(test)]
    Off,
}

impl Renderer {
    /// A renderer without scratch memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Renders `bodies` as `camera` sees them, and overwrites both buffers: `rgb` with
    /// `height * width * 3` bytes, `depth` with `height * width` metres along the optical axis,
    /// 0.0 where nothing lies between [`NEAR`] and [`FAR`].
    ///
    /// # Panics
    /// If a buffer does not have exactly that size.
    pub fn render(&mut self, camera: &Camera, bodies: &[Body], rgb: &mut [u8], depth: &mut [f32]) {
        self.draw(camera, bodies, rgb, depth, Culling::ToWindows);
    }

    /// Renders into a frame of its own.
    pub fn frame(&mut self, camera: &Camera, bodies: &[Body]) -> CameraFrame {
        let mut frame = CameraFrame::blank(camera);
        self.render(camera, bodies, &mut frame.rgb, &mut frame.depth);
        frame
    }

    fn draw(
        &mut self,
        camera: &Camera,
        bodies: &[Body],
        rgb: &mut [u8],
        depth: &mut [f32],
        culling: Culling,
    ) {
        let pixels = camera.pixels();
        assert_eq!(rgb.len(), pixels * 3, "the image buffer must hold height * width * 3 bytes");
        assert_eq!(depth.len(), pixels, "the depth buffer must hold height * width values");
        if pixels == 0 {
            return;
        }
        self.prepare(camera, bodies, culling);
        let lighting = Lighting::seen_by(camera);
        let (_, cy) = camera.principal_point();
        let rows = rgb.chunks_exact_mut(camera.width * 3).zip(depth.chunks_exact_mut(camera.width));
        for (v, (rgb, depth)) in rows.enumerate() {
            let y = ((v as f64 - cy) / camera.focal) as f32;
            self.cast_row(v, y, depth);
            self.shade_row(y, depth, rgb, &lighting, sky(v, camera.height));
        }
    }

    fn prepare(&mut self, camera: &Camera, bodies: &[Body], culling: Culling) {
        let world_to_camera = camera.pose.inverse();
        self.actors.clear();
        self.actors.extend(bodies.iter().map(|body| {
            let solid = moved(&body.solid, &world_to_camera);
            let window = match culling {
                Culling::ToWindows => Window::around(&solid, camera),
                #[cfg(test)]
                Culling::Off => Window::full(camera),
            };
            Actor { shape: AnyShape::new(&solid), paint: body.paint, window }
        }));
        let (cx, _) = camera.principal_point();
        self.slopes.clear();
        self.slopes.extend((0..camera.width).map(|u| ((u as f64 - cx) / camera.focal) as f32));
        self.seen.resize(camera.width, NOTHING);
    }

    /// Finds the nearest actor behind every pixel of row `v`.
    fn cast_row(&mut self, v: usize, y: f32, depth: &mut [f32]) {
        depth.fill(FAR as f32);
        self.seen.fill(NOTHING);
        for (id, actor) in self.actors.iter().enumerate() {
            if !actor.window.rows.contains(&v) {
                continue;
            }
            let columns = actor.window.columns.clone();
            let row = Row {
                id: id as u32,
                y,
                slopes: &self.slopes[columns.clone()],
                depth: &mut depth[columns.clone()],
                seen: &mut self.seen[columns],
            };
            match &actor.shape {
                AnyShape::Sphere(shape) => row.cast(shape),
                AnyShape::Capsule(shape) => row.cast(shape),
                AnyShape::Cuboid(shape) => row.cast(shape),
                AnyShape::Plane(shape) => row.cast(shape),
            }
        }
    }

    /// Colours the row, run by run of pixels that show the same actor.
    fn shade_row(&self, y: f32, depth: &mut [f32], rgb: &mut [u8], lighting: &Lighting, sky: Rgb) {
        let mut start = 0;
        for run in self.seen.chunk_by(|a, b| a == b) {
            let columns = start..start + run.len();
            start = columns.end;
            let rgb = &mut rgb[columns.start * 3..columns.end * 3];
            let depth = &mut depth[columns.clone()];
            let Some(actor) = self.actors.get(run[0] as usize) else {
                rgb.as_chunks_mut::<3>().0.fill(sky);
                depth.fill(0.0);
                continue;
            };
            let run = Run { y, slopes: &self.slopes[columns], depth, rgb };
            match &actor.shape {
                AnyShape::Sphere(shape) => run.shade(shape, &actor.paint, lighting),
                AnyShape::Capsule(shape) => run.shade(shape, &actor.paint, lighting),
                AnyShape::Cuboid(shape) => run.shade(shape, &actor.paint, lighting),
                AnyShape::Plane(shape) => run.shade(shape, &actor.paint, lighting),
            }
        }
    }
}

/// The pixels of one row that one actor may appear in.
struct Row<'a> {
    id: u32,
    y: f32,
    slopes: &'a [f32],
    depth: &'a mut [f32],
    seen: &'a mut [u32],
}

impl Row<'_> {
    fn cast(self, shape: &impl Shape) {
        for ((x, depth), seen) in self.slopes.iter().zip(self.depth).zip(self.seen) {
            let found = shape.depth(*x, self.y);
            // Not `&&`: without a branch, the loop becomes SIMD.
            #[expect(clippy::needless_bitwise_bool)]
            let visible = (found > NEAR as f32) & (found < *depth);
            *depth = if visible { found } else { *depth };
            *seen = if visible { self.id } else { *seen };
        }
    }
}

/// Neighbouring pixels of one row that show the same actor.
struct Run<'a> {
    y: f32,
    slopes: &'a [f32],
    depth: &'a [f32],
    rgb: &'a mut [u8],
}

impl Run<'_> {
    fn shade(self, shape: &impl Shape, paint: &Paint, lighting: &Lighting) {
        match *paint {
            Paint::Plain(color) => self.shade_with(shape, lighting, |_| color),
            Paint::Checker { colors, side } => {
                // Truncation is a floor where squares are numbered from far off the room.
                let number = |along: f32| (along / side as f32 + 4096.0) as i32;
                self.shade_with(shape, lighting, |point| {
                    let place = lighting.camera_to_world * Point3::from(*point);
                    colors[((number(place.x) + number(place.y)) & 1) as usize]
                });
            }
        }
    }

    #[inline]
    fn shade_with(
        self,
        shape: &impl Shape,
        lighting: &Lighting,
        color: impl Fn(&Vector3<f32>) -> Rgb,
    ) {
        let pixels = self.rgb.as_chunks_mut::<3>().0;
        for ((x, depth), pixel) in self.slopes.iter().zip(self.depth).zip(pixels) {
            let point = Vector3::new(*x, self.y, 1.0) * *depth;
            // In fixed point, so that one conversion serves three channels.
            let brightness = (lighting.on(&shape.normal(&point)) * 256.0) as u32;
            *pixel = color(&point).map(|channel| ((u32::from(channel) * brightness) >> 8) as u8);
        }
    }
}

impl Lighting {
    fn seen_by(camera: &Camera) -> Self {
        let turned = |direction: [f64; 3]| {
            let world = Unit::new_normalize(Vector3::from(direction));
            camera.pose.inverse_transform_vector(&world).cast()
        };
        Self {
            lamp: turned(TOWARDS_LAMP),
            fill: turned(TOWARDS_FILL),
            camera_to_world: camera.pose.cast(),
        }
    }

    /// Lambert's law for both lights.
    #[inline]
    fn on(&self, normal: &Vector3<f32>) -> f32 {
        let lamp = normal.dot(&self.lamp).max(0.0);
        let fill = normal.dot(&self.fill).max(0.0);
        AMBIENT + LAMP * lamp + FILL * fill
    }
}

fn sky(v: usize, height: usize) -> Rgb {
    let share = v as f32 / height as f32;
    core::array::from_fn(|i| (SKY_TOP[i] + (SKY_BOTTOM[i] - SKY_TOP[i]) * share) as u8)
}

fn moved(solid: &Solid, by: &Isometry3<f64>) -> Solid {
    match *solid {
        Solid::Sphere { center, radius } => Solid::Sphere { center: by * center, radius },
        Solid::Capsule { from, to, radius } => {
            Solid::Capsule { from: by * from, to: by * to, radius }
        }
        Solid::Cuboid { pose, half } => Solid::Cuboid { pose: by * pose, half },
        Solid::Plane { point, normal } => {
            Solid::Plane { point: by * point, normal: by.rotation * normal }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{Arm, JOINTS, Joints};
    use crate::camera::look_at;
    use crate::rig::Viewpoint;
    use crate::scene::Scene;
    use proptest::prelude::*;

    /// Any scene with the arm in any posture, seen by any camera that is not inside something.
    fn stage() -> impl Strategy<Value = (Camera, Vec<Body>)> {
        let angles = JOINTS.map(|joint| joint.lower..joint.upper);
        let stage = (any::<u64>(), angles, prop::sample::select(&Viewpoint::ALL)).prop_map(
            |(seed, angles, viewpoint)| {
                let posture = Arm::new(&Joints::from(angles)).posture();
                (viewpoint.camera(96, 72, &posture), Scene::new(seed).bodies(&posture))
            },
        );
        stage.prop_filter("the lens is inside a solid", |(camera, bodies)| {
            let lens = Point3::from(camera.pose.translation.vector);
            bodies.iter().all(|body| body.solid.signed_distance(&lens) > 2.0 * NEAR)
        })
    }

    proptest! {
        #[test]
        fn culling_changes_nothing((camera, bodies) in stage()) {
            let mut renderer = Renderer::new();
            let culled = renderer.frame(&camera, &bodies);
            let mut whole = CameraFrame::blank(&camera);
            renderer.draw(&camera, &bodies, &mut whole.rgb, &mut whole.depth, Culling::Off);
            prop_assert!(culled == whole);
        }

        #[test]
        fn depth_backprojects_onto_the_surfaces((camera, bodies) in stage()) {
            let frame = Renderer::new().frame(&camera, &bodies);
            let view = frame.view().unwrap();
            let inverse = frame.intrinsics.try_inverse().unwrap();
            for index in 0..camera.pixels() {
                if let Some(point) = view.point(index, &inverse) {
                    let nearest = bodies
                        .iter()
                        .map(|body| body.solid.signed_distance(&point))
                        .fold(f64::INFINITY, f64::min);
                    // On one surface, and inside no other.
                    prop_assert!(nearest.abs() < 1e-4, "{nearest} m off in pixel {index}");
                }
            }
        }
    }

    #[test]
    fn background_pixels_have_zero_depth_and_sky_colour() {
        let camera = Camera::new(8, 4, 1.0, Isometry3::identity());
        let mut frame = CameraFrame::blank(&camera);
        frame.depth.fill(7.0);
        Renderer::new().render(&camera, &[], &mut frame.rgb, &mut frame.depth);
        assert!(frame.depth.iter().all(|depth| *depth == 0.0));
        assert_eq!(&frame.rgb[..3], &SKY_TOP.map(|channel| channel as u8));
    }

    #[test]
    fn nearer_bodies_occlude_farther_ones_in_any_order() {
        let camera = Camera::new(9, 9, 1.0, Isometry3::identity());
        let sphere = |z, color| {
            Body::plain(Solid::Sphere { center: Point3::new(0.0, 0.0, z), radius: 0.5 }, color)
        };
        let (near, far) = (sphere(2.0, [0, 200, 0]), sphere(3.0, [200, 0, 0]));
        let mut renderer = Renderer::new();
        let frame = renderer.frame(&camera, &[near, far]);
        assert_eq!(frame, renderer.frame(&camera, &[far, near]));
        let middle = 4 * 9 + 4;
        assert!((frame.depth[middle] - 1.5).abs() < 1e-6);
        assert!(frame.rgb[middle * 3] == 0 && frame.rgb[middle * 3 + 1] > 0);
    }

    #[test]
    fn shading_changes_brightness_but_not_hue() {
        let pose = look_at(Point3::new(2.0, 0.0, 0.0), Point3::origin());
        let ball = Solid::Sphere { center: Point3::origin(), radius: 0.5 };
        let body = Body::plain(ball, [240, 120, 60]);
        let frame = Renderer::new().frame(&Camera::new(41, 41, 0.6, pose), &[body]);
        let pixels = frame.rgb.as_chunks::<3>().0;
        for ([r, g, b], depth) in pixels.iter().zip(&frame.depth) {
            if *depth > 0.0 {
                assert!(r.abs_diff(g * 2) <= 2 && g.abs_diff(b * 2) <= 2, "{r} {g} {b}");
            }
        }
        // The lamp hangs above: of the middle column, the upper part is the brighter one.
        let [upper, lower] = [10, 30].map(|row| pixels[row * 41 + 20][0]);
        assert!(upper > lower + 40, "{upper} above, {lower} below");
    }

    #[test]
    #[should_panic(expected = "depth buffer")]
    fn a_buffer_of_the_wrong_size_is_refused() {
        let camera = Camera::new(4, 4, 1.0, Isometry3::identity());
        Renderer::new().render(&camera, &[], &mut [0; 48], &mut [0.0; 15]);
    }
}
