//! A robot's contract, drawn from a seed, and whether what the robot is told keeps to it. It is judged by
//! what the documentation says of a contract, and asks nothing of the server.

use std::time::{Duration, Instant};

use chiral_proto::{Action, ActionKind, ActionSpec, Arming, Array, Dtype, OnViolation, Rate};

/// A splitmix64 generator.
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Whether something happens that has this share, in percent, of all cases.
    pub(crate) fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number from -1 to 1.
    fn unit(&mut self) -> f32 {
        self.below(2001) as f32 / 1000.0 - 1.0
    }
}

/// The contract of a robot whose actions are a number, by which a test knows them, and a value, of which
/// the contract speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contract {
    pub(crate) kind: ActionKind,
    pub(crate) bounds: Option<(f32, f32)>,
    pub(crate) max_step: Option<f32>,
    /// How many actions a second are expected, and after how many missed periods the robot stops.
    pub(crate) rate: Option<(u32, u32)>,
    pub(crate) on_violation: OnViolation,
    pub(crate) arming: Arming,
}

/// The largest number of an action.
const LAST_NUMBER: f32 = 1e6;

impl Contract {
    /// Of a robot that declares nothing but that an action is two floats.
    pub(crate) const NONE: Self = Self {
        kind: ActionKind::Absolute,
        bounds: None,
        max_step: None,
        rate: None,
        on_violation: OnViolation::Refuse,
        arming: Arming::OnConnect,
    };
    /// Bounds, a largest step, a rate, and a reset that arms.
    pub(crate) const ARMED_BY_RESET: Self = Self {
        bounds: Some((-60.0, 70.0)),
        max_step: Some(10.0),
        rate: Some((20, 10)),
        arming: Arming::OnReset,
        ..Self::NONE
    };

    /// Another one for each seed.
    pub(crate) fn random(seed: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0xc0_47ac7);
        let kinds = [ActionKind::Absolute, ActionKind::Delta, ActionKind::Velocity];
        let armings = [Arming::OnConnect, Arming::OnReset, Arming::Manual];
        let violations = [OnViolation::Refuse, OnViolation::Clamp];
        let mut choose = |count: usize| draw.below(count as u64) as usize;
        if choose(6) == 0 {
            return Self::NONE;
        }
        Self {
            kind: kinds[choose(3)],
            bounds: [Some((-60.0, 70.0)), Some((0.0, 25.0)), None][choose(3)],
            max_step: [Some(10.0), Some(2.5), None][choose(3)],
            rate: [Some((20, 10)), Some((25, 3)), None][choose(3)],
            on_violation: violations[choose(2)],
            arming: armings[choose(3)],
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        let Self { bounds, max_step, rate, arming, .. } = self;
        let is_limited = bounds.is_some() || max_step.is_some() || rate.is_some();
        !is_limited && *arming == Arming::OnConnect
    }

    /// As a robot declares it.
    pub(crate) fn spec(&self) -> ActionSpec {
        let mut spec = ActionSpec::vector(2).on_violation(self.on_violation).arming(self.arming);
        if !self.is_none() {
            spec = spec.kind(self.kind);
        }
        if let Some((low, high)) = self.bounds {
            spec = spec.bounds([0.0, low], [LAST_NUMBER, high]);
        }
        if let Some(max_step) = self.max_step {
            spec = spec.max_step([LAST_NUMBER, max_step]);
        }
        if let Some((hz, stop_after)) = self.rate {
            spec = spec.rate(Rate::hz(hz).expect("it is a rate")).stop_after(stop_after);
        }
        spec
    }

    /// How long without an action is too long for a robot that has moved: so many periods, and half of
    /// one.
    fn longest_silence(&self) -> Option<Duration> {
        let (hz, stop_after) = self.rate?;
        Some(Duration::from_secs_f64((f64::from(stop_after) + 0.5) / f64::from(hz)))
    }
}

/// A policy's actions, some of which it must not send.
#[derive(Debug, Clone)]
pub(crate) struct Actions {
    contract: Contract,
    draw: Draw,
    /// Of a hundred, how many are forbidden.
    forbidden: u64,
    last: f32,
}

impl Actions {
    pub(crate) fn new(contract: Contract, seed: u64, forbidden: u64) -> Self {
        Self { contract, draw: Draw::new(seed ^ 0xac7), forbidden, last: 0.0 }
    }

    /// The next action, by its number.
    pub(crate) fn next(&mut self, number: u32) -> Action {
        let number = number as f32;
        if !self.draw.happens(self.forbidden) {
            self.last = self.allowed();
            return Action::from([number, self.last]);
        }
        let (low, high) = self.contract.bounds.unwrap_or((-100.0, 100.0));
        match self.draw.below(8) {
            0 => Action::from([number, f32::NAN]),
            1 => Action::from([number, f32::INFINITY]),
            2 => Action::from([number]),
            3 => Action::from([number, self.last, 0.0]),
            4 => Action::from([number, low - 0.5]),
            5 => Action::from([number, high + 0.5]),
            6 => Action::from([number, 1e30]),
            _ => Action::from([number, low + (high - low) * self.draw.unit().abs()]),
        }
    }

    /// A value within the bounds, and near enough to the last one if that was given to the robot.
    fn allowed(&mut self) -> f32 {
        let Contract { kind, bounds, max_step, .. } = self.contract;
        let from = if kind == ActionKind::Delta { 0.0 } else { self.last };
        let (low, high) = bounds.unwrap_or((-1e3, 1e3));
        (from + self.draw.unit() * max_step.unwrap_or(10.0)).clamp(low, high)
    }
}

/// What a robot has been told over its connections, and whether its contract allows that.
#[derive(Debug)]
pub(crate) struct Judge {
    contract: Contract,
    motion: Motion,
    /// A reset that has begun since the last stop.
    reset_arms: bool,
    /// The last value since the robot was armed or reset.
    last: Option<f32>,
    /// The robot was told to hold since.
    holds: bool,
    /// When the robot was last moved since it was armed or reset.
    moved_at: Option<Instant>,
}

/// Whether actions may move a robot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    NoPolicy,
    NotArmed,
    Armed,
}

impl Judge {
    /// Of a robot to which no policy is connected.
    pub(crate) fn new(contract: Contract) -> Self {
        let (last, moved_at, motion) = (None, None, Motion::NoPolicy);
        Self { contract, motion, reset_arms: false, last, holds: false, moved_at }
    }

    pub(crate) fn connected(&mut self) {
        assert_eq!(self.motion, Motion::NoPolicy, "two policies at once");
        *self = Self { motion: Motion::NotArmed, ..Self::new(self.contract) };
        if self.contract.arming == Arming::OnConnect {
            self.motion = Motion::Armed;
        }
    }

    pub(crate) fn disconnected(&mut self) {
        *self = Self::new(self.contract);
    }

    /// The robot's own program arms it.
    pub(crate) fn arm(&mut self) {
        if self.motion == Motion::NotArmed {
            self.forget();
            self.motion = Motion::Armed;
        }
    }

    /// The robot is stopped.
    pub(crate) fn stop(&mut self) {
        self.forget();
        (self.motion, self.reset_arms) = (Motion::NotArmed, false);
    }

    /// The robot is told that it was stopped because its policy was silent.
    pub(crate) fn stop_for_silence(&mut self, now: Instant) {
        let longest = self.contract.longest_silence().expect("it declares a rate");
        let moved_at = self.moved_at.expect("a robot that has not moved is not stopped");
        assert!(now.duration_since(moved_at) >= longest, "stopped too early");
        self.stop();
    }

    /// The robot is told to hold.
    pub(crate) fn hold(&mut self) {
        self.holds = true;
    }

    /// The robot is told to reset itself.
    pub(crate) fn begin_reset(&mut self) {
        self.reset_arms = self.contract.arming == Arming::OnReset;
        self.moved_at = None;
    }

    /// It has.
    pub(crate) fn finish_reset(&mut self) {
        self.forget();
        if std::mem::take(&mut self.reset_arms) {
            self.motion = Motion::Armed;
        }
    }

    fn forget(&mut self) {
        (self.last, self.holds, self.moved_at) = (None, false, None);
    }

    /// The robot is told to apply an action, at a time if that is known.
    ///
    /// # Panics
    /// When the contract forbids it.
    #[track_caller]
    pub(crate) fn apply(&mut self, action: &Action, now: Option<Instant>) {
        if let Some(((moved_at, now), longest)) =
            self.moved_at.zip(now).zip(self.contract.longest_silence())
        {
            let silence = now.duration_since(moved_at);
            assert!(silence < longest, "an action after {silence:?} of silence: {action:?}");
        }
        let shape = &action.shape()[..];
        assert!(matches!(shape, [2] | [1, 2]), "an action of another shape: {action:?}");
        self.move_by(action);
        self.moved_at = now;
    }

    /// The robot is told to take a step, the rows of which may be many.
    ///
    /// # Panics
    /// When the contract forbids it.
    #[track_caller]
    pub(crate) fn step(&mut self, action: &Action) {
        assert!(matches!(action.shape()[..], [2] | [_, 2]), "a step of another shape: {action:?}");
        self.move_by(action);
        self.moved_at = None;
    }

    #[track_caller]
    fn move_by(&mut self, action: &Action) {
        assert_eq!(self.motion, Motion::Armed, "an action that may not move the robot: {action:?}");
        let Contract { kind, bounds, max_step, on_violation, .. } = self.contract;
        let can_clamp = on_violation == OnViolation::Clamp;
        assert!(!action.clamped || can_clamp, "clamped, not refused: {action:?}");
        let dtype = action.values.dtype();
        assert!(matches!(dtype, Dtype::F16 | Dtype::F32 | Dtype::F64), "not floats: {action:?}");
        let values = action.to_f32();
        assert!(values.iter().all(|value| value.is_finite()), "not finite: {action:?}");
        for row in values.chunks(2) {
            let value = row[1];
            if let Some((low, high)) = bounds {
                assert!((low..=high).contains(&value), "out of bounds: {action:?}");
            }
            let from = match kind {
                ActionKind::Delta => Some(0.0),
                ActionKind::Velocity if self.holds || self.last.is_none() => Some(0.0),
                _ => self.last,
            };
            if let Some((from, max_step)) = from.zip(max_step) {
                let rounding = 1e-6 * (value.abs() + from.abs());
                let is_near = (value - from).abs() <= max_step + rounding;
                assert!(is_near, "{value} is too far from {from}: {action:?}");
            }
            self.last = Some(value);
            self.holds = false;
        }
    }
}

/// An action by its values alone, for comparing what was sent with what was applied.
pub(crate) fn bits(array: &Array) -> Vec<u32> {
    array.to_f32().iter().map(|value| value.to_bits()).collect()
}
