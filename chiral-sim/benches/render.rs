//! How long an observation takes to render, and a plan to make.

use chiral_sim::camera::{CameraFrame, View};
use chiral_sim::policy::Policy;
use chiral_sim::render::Renderer;
use chiral_sim::rig::Viewpoint;
use chiral_sim::world::World;
use divan::Bencher;

const SIZES: [(usize, usize); 3] = [(160, 120), (320, 240), (640, 480)];

fn main() {
    divan::main();
}

/// All three cameras, into buffers that exist already.
#[divan::bench(args = SIZES)]
fn three_cameras(bencher: Bencher<'_, '_>, (width, height): (usize, usize)) {
    let world = World::new(1);
    let (posture, bodies) = (world.posture(), world.bodies());
    let mut renderer = Renderer::new();
    let mut scene = Viewpoint::ALL.map(|viewpoint| {
        let camera = viewpoint.camera(width, height, &posture);
        (camera, CameraFrame::blank(&camera))
    });
    bencher.bench_local(|| {
        for (camera, frame) in &mut scene {
            renderer.render(camera, &bodies, &mut frame.rgb, &mut frame.depth);
        }
    });
}

/// One plan from all three cameras.
#[divan::bench(args = SIZES)]
fn plan(bencher: Bencher<'_, '_>, (width, height): (usize, usize)) {
    let world = World::new(1);
    let (posture, bodies) = (world.posture(), world.bodies());
    let mut renderer = Renderer::new();
    let frames = Viewpoint::ALL
        .map(|viewpoint| renderer.frame(&viewpoint.camera(width, height, &posture), &bodies));
    let views: Vec<View<'_>> = frames.iter().filter_map(|frame| frame.view().ok()).collect();
    let joints = world.proprio().joint_pos;
    let mut policy = Policy::default();
    bencher.bench_local(|| policy.plan(&views, &joints));
}
