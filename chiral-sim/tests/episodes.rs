//! The policy solves its task when everything arrives as it was sent, late or not.

use std::collections::VecDeque;

use chiral_sim::arm::DOF;
use chiral_sim::episode::{DISPATCH_HZ, Direct, Link, OBSERVATION_HZ, Observation, run};
use chiral_sim::world::{Outcome, TIME_LIMIT};

const SMALL: (usize, usize) = (160, 120);

#[test]
fn solves_nearly_all_of_a_hundred_episodes() {
    let reports: Vec<_> = (1..=100).map(|seed| (seed, run(seed, SMALL, &mut Direct))).collect();
    let lost: Vec<_> = reports.iter().filter(|(_, report)| !report.solved()).collect();
    assert!(lost.len() <= 5, "{} lost: {lost:#?}", lost.len());
    // Solved by reaching, not by a search that stumbles over the ball at last.
    let times = reports.iter().filter_map(|(_, report)| match report.outcome {
        Outcome::Solved { at } => Some(at),
        _ => None,
    });
    let mean = times.sum::<f64>() / (reports.len() - lost.len()) as f64;
    assert!(mean < 0.3 * TIME_LIMIT, "{mean} s on average");
}

#[test]
fn a_seed_determines_the_whole_episode() {
    assert_eq!(run(11, SMALL, &mut Direct), run(11, SMALL, &mut Direct));
}

#[test]
fn episodes_are_solved_at_other_image_sizes() {
    for size in [(96, 72), (320, 200)] {
        let solved = (1..=10).filter(|seed| run(*seed, size, &mut Direct).solved()).count();
        assert!(solved >= 9, "{solved} of 10 with images of {size:?}");
    }
}

/// Delivers everything, but late.
struct Late {
    observations: VecDeque<Observation>,
    observation_delay: usize,
    actions: VecDeque<[f32; DOF]>,
    action_delay: usize,
}

impl Late {
    /// So many seconds late, each way.
    fn by(seconds: f64) -> Self {
        let ticks = |rate: u32| (seconds * f64::from(rate)).round() as usize;
        Self {
            observations: VecDeque::new(),
            observation_delay: ticks(OBSERVATION_HZ),
            actions: VecDeque::new(),
            action_delay: ticks(DISPATCH_HZ),
        }
    }
}

impl Link for Late {
    fn observation(&mut self, observation: &mut Observation) {
        self.observations.push_back(observation.clone());
        if self.observations.len() > self.observation_delay + 1 {
            self.observations.pop_front();
        }
        observation.clone_from(&self.observations[0]);
    }

    fn action(&mut self, action: [f32; DOF]) -> Option<[f32; DOF]> {
        self.actions.push_back(action);
        (self.actions.len() > self.action_delay).then(|| self.actions.pop_front()).flatten()
    }
}

#[test]
fn a_tenth_of_a_second_of_delay_each_way_is_tolerated() {
    let solved = (1..=10).filter(|seed| run(*seed, SMALL, &mut Late::by(0.1)).solved()).count();
    assert!(solved >= 9, "{solved} of 10");
}

/// Only the wrist camera is connected, so the ball may have to be searched for.
struct WristOnly;

impl Link for WristOnly {
    fn observation(&mut self, observation: &mut Observation) {
        observation.frames.truncate(1);
    }
}

#[test]
fn finds_the_ball_with_the_wrist_camera_alone() {
    let solved = (1..=20).filter(|seed| run(*seed, SMALL, &mut WristOnly).solved()).count();
    assert!(solved >= 18, "{solved} of 20");
}
