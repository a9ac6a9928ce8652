//! The policy fails when what it is told is wrong, so that success proves that all of it arrived
//! right. Each test spoils one thing on the way between robot and policy.

use chiral_sim::arm::DOF;
use chiral_sim::episode::{Link, Observation, run};
use nalgebra::{Matrix3, Matrix4};

const EPISODES: u64 = 5;

/// Spoils observations with the first function and actions with the second.
struct Spoiled<O, A>(O, A);

impl<O, A> Link for Spoiled<O, A>
where
    O: FnMut(&mut Observation),
    A: FnMut([f32; DOF]) -> Option<[f32; DOF]>,
{
    fn observation(&mut self, observation: &mut Observation) {
        self.0(observation);
    }

    fn action(&mut self, action: [f32; DOF]) -> Option<[f32; DOF]> {
        self.1(action)
    }
}

#[track_caller]
fn assert_lost(mut link: impl Link) {
    let solved: Vec<u64> =
        (1..=EPISODES).filter(|seed| run(*seed, (96, 72), &mut link).solved()).collect();
    assert!(solved.is_empty(), "solved regardless: {solved:?}");
}

#[track_caller]
fn assert_lost_with_observations(spoil: impl FnMut(&mut Observation)) {
    assert_lost(Spoiled(spoil, Some));
}

#[track_caller]
fn assert_lost_with_actions(spoil: impl FnMut([f32; DOF]) -> Option<[f32; DOF]>) {
    assert_lost(Spoiled(|_: &mut Observation| (), spoil));
}

/// The same episodes through the same harness, unspoiled: what the other tests are compared with.
#[test]
fn episodes_without_faults_are_solved() {
    let mut link = Spoiled(|_: &mut Observation| (), Some);
    assert!((1..=EPISODES).all(|seed| run(seed, (96, 72), &mut link).solved()));
}

#[test]
fn blank_images() {
    assert_lost_with_observations(|observation| {
        observation.frames.iter_mut().for_each(|frame| frame.rgb.fill(0));
    });
}

#[test]
fn red_and_blue_swapped() {
    assert_lost_with_observations(|observation| {
        for frame in &mut observation.frames {
            frame.rgb.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
    });
}

#[test]
fn image_rows_shifted() {
    assert_lost_with_observations(|observation| {
        for frame in &mut observation.frames {
            frame.rgb.rotate_right(20 * frame.width * 3);
        }
    });
}

#[test]
fn depth_zeroed() {
    assert_lost_with_observations(|observation| {
        observation.frames.iter_mut().for_each(|frame| frame.depth.fill(0.0));
    });
}

#[test]
fn depth_in_millimetres() {
    assert_lost_with_observations(|observation| {
        for frame in &mut observation.frames {
            frame.depth.iter_mut().for_each(|depth| *depth *= 1000.0);
        }
    });
}

#[test]
fn depth_of_the_wrong_camera() {
    assert_lost_with_observations(|observation| {
        let mut depths: Vec<_> =
            observation.frames.iter_mut().map(|frame| std::mem::take(&mut frame.depth)).collect();
        depths.rotate_left(1);
        for (frame, depth) in observation.frames.iter_mut().zip(depths) {
            frame.depth = depth;
        }
    });
}

#[test]
fn intrinsics_identity() {
    assert_lost_with_observations(|observation| {
        for frame in &mut observation.frames {
            frame.intrinsics = Matrix3::identity();
        }
    });
}

#[test]
fn intrinsics_transposed() {
    assert_lost_with_observations(|observation| {
        observation.frames.iter_mut().for_each(|frame| frame.intrinsics.transpose_mut());
    });
}

#[test]
fn extrinsics_identity() {
    assert_lost_with_observations(|observation| {
        for frame in &mut observation.frames {
            frame.camera_to_world = Matrix4::identity();
        }
    });
}

#[test]
fn extrinsics_transposed() {
    assert_lost_with_observations(|observation| {
        observation.frames.iter_mut().for_each(|frame| frame.camera_to_world.transpose_mut());
    });
}

#[test]
fn extrinsics_of_the_wrong_camera() {
    assert_lost_with_observations(|observation| {
        let mut poses: Vec<_> =
            observation.frames.iter().map(|frame| frame.camera_to_world).collect();
        poses.rotate_left(1);
        for (frame, pose) in observation.frames.iter_mut().zip(poses) {
            frame.camera_to_world = pose;
        }
    });
}

#[test]
fn joint_velocities_for_positions() {
    assert_lost_with_observations(|observation| {
        observation.proprio.joint_pos = observation.proprio.joint_vel;
    });
}

#[test]
fn end_effector_pose_for_joint_positions() {
    assert_lost_with_observations(|observation| {
        observation.proprio.joint_pos = observation.proprio.ee_pose;
    });
}

#[test]
fn joint_positions_shifted_by_one() {
    assert_lost_with_observations(|observation| observation.proprio.joint_pos.rotate_left(1));
}

#[test]
fn only_the_first_observation_arrives() {
    let mut first: Option<Observation> = None;
    assert_lost_with_observations(|observation| {
        if observation.time == 0.0 {
            first = None;
        }
        observation.clone_from(first.get_or_insert_with(|| observation.clone()));
    });
}

#[test]
fn actions_dropped() {
    assert_lost_with_actions(|_| None);
}

#[test]
fn action_elements_reversed() {
    assert_lost_with_actions(|mut action| {
        action.reverse();
        Some(action)
    });
}

#[test]
fn actions_byte_swapped() {
    assert_lost_with_actions(|action| {
        Some(action.map(|x| f32::from_bits(x.to_bits().swap_bytes())))
    });
}
