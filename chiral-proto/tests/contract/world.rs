//! A server, what happens to it, and what the contract says about what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{ActionQueue, Config, DropReason, Event, ResetReply, Server, StepReply};
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{
    Action, ActionKind, ActionSpec, Arming, ArmingState, CameraConfig, ConnectionError,
    OnViolation, ProprioConfig, Rate, Sent, Timestamps,
};

use crate::support::{ms, reset, start, step};

const LOW: f32 = -60.0;
const HIGH: f32 = 70.0;
const MAX_STEP: f32 = 10.0;
const HZ: u32 = 20;
/// Ten missed periods, and half of one.
const STOP: Duration = Duration::from_millis(525);
/// What the camera's clock shows at the beginning, in milliseconds.
const CLOCK_START: u64 = 1000;
const MAX_OBS_AGE: Duration = Duration::from_millis(800);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) arming: Arming,
    pub(crate) on_violation: OnViolation,
    pub(crate) kind: ActionKind,
    pub(crate) queue: ActionQueue,
    pub(crate) is_measured: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// The policy sends an action, decided on the latest observation, or on the one before.
    Act {
        value: i8,
        fresh: bool,
    },
    ActNotANumber,
    Wait(u64),
    /// The robot takes everything that there is, what moves it, or a request.
    Poll,
    PollMotion,
    PollRequest,
    Observe,
    Reset,
    AnswerReset,
    Step,
    AnswerStep,
    Arm,
    Stop,
    Reconnect,
    Measure(i8),
}

/// How often what a test is about has happened.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    given: u64,
    clamped: u64,
    out_of_bounds_or_too_far: u64,
    not_armed: u64,
    before_stop: u64,
    stale: u64,
    held: u64,
    stopped_by_silence: u64,
    armed: u64,
    stepped: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.given += other.given;
        self.clamped += other.clamped;
        self.out_of_bounds_or_too_far += other.out_of_bounds_or_too_far;
        self.not_armed += other.not_armed;
        self.before_stop += other.before_stop;
        self.stale += other.stale;
        self.held += other.held;
        self.stopped_by_silence += other.stopped_by_silence;
        self.armed += other.armed;
        self.stepped += other.stepped;
    }

    pub(crate) fn is_everything(&self) -> bool {
        let Self { given, clamped, out_of_bounds_or_too_far, not_armed, before_stop, .. } = *self;
        let Self { stale, held, stopped_by_silence, armed, stepped, .. } = *self;
        let first = [given, clamped, out_of_bounds_or_too_far, not_armed, before_stop];
        let second = [stale, held, stopped_by_silence, armed, stepped];
        first.into_iter().chain(second).all(|count| count > 10)
    }
}

/// An action as it was sent.
struct Sending {
    at: Instant,
    connection: u32,
    /// How often the robot had been stopped when it was sent.
    stops: u32,
    captured: Duration,
    /// How often the robot had been stopped when its observation was taken.
    taken_stops: u32,
}

pub(crate) struct World {
    setup: Setup,
    server: Server,
    sensors: Sensors,
    clock: Arc<AtomicU64>,
    start: Instant,
    now: Instant,
    connection: u32,
    connected_at: Instant,
    /// Of this connection.
    seq: u64,
    sent: Vec<Sending>,
    /// When the latest observation and the one before were taken, what the camera had captured, and
    /// how often the robot had been stopped by then.
    observations: [(Instant, Duration, u32); 2],
    measured: Option<f32>,
    reset: Option<ResetReply>,
    step: Option<StepReply>,
    /// Resets and steps whose answer has not left.
    asked: u32,
    /// Those of them that the robot has answered.
    answered: u32,
    /// Whether a reset that is being worked on will arm the robot.
    reset_arms: bool,
    is_armed: bool,
    /// How often the robot was stopped or lost its policy: what was sent before is over.
    stops: u32,
    /// What the server of this connection has counted of them.
    server_stops: u64,
    /// Of how many of these the robot was told.
    told_stops: u64,
    /// The last action given, and when it had been sent, since the robot was armed or reset.
    last: Option<(f32, Instant)>,
    /// When the robot was given its first action since then.
    began_at: Instant,
    /// When the policy got the last answer of a reset or a step.
    answered_at: Instant,
    /// The robot was told to hold since.
    held: bool,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        // 0 would stand for a time that is not known.
        let clock = Arc::new(AtomicU64::new(CLOCK_START));
        let read = Arc::clone(&clock);
        let camera = CameraConfig::new("cam", [1, 1, 3]);
        let joint = ProprioConfig::new("joint_pos", 1);
        let seconds = move || read.load(Ordering::SeqCst) as f64 / 1e3;
        let sensors = Sensors::with_clock([camera], [joint], seconds).unwrap();
        let start = start();
        let server = Self::server(setup, start, &sensors);
        let observation = (start, Duration::ZERO, 0);
        let mut world = Self {
            setup,
            server,
            sensors,
            clock,
            start,
            now: start,
            connection: 0,
            connected_at: start,
            seq: 0,
            sent: Vec::new(),
            observations: [observation; 2],
            measured: None,
            reset: None,
            step: None,
            asked: 0,
            answered: 0,
            reset_arms: false,
            is_armed: setup.arming == Arming::OnConnect,
            stops: 0,
            server_stops: 0,
            told_stops: 0,
            last: None,
            began_at: start,
            answered_at: start,
            held: false,
            seen: Seen::default(),
        };
        world.observe();
        world.observe();
        world
    }

    fn server(setup: Setup, now: Instant, sensors: &Sensors) -> Server {
        let mut spec = ActionSpec::vector(1)
            .kind(setup.kind)
            .bounds(LOW, HIGH)
            .max_step(MAX_STEP)
            .rate(Rate::hz(HZ).unwrap())
            .stop_after(10)
            .on_violation(setup.on_violation)
            .arming(setup.arming);
        if setup.is_measured {
            spec = spec.measured_by("joint_pos");
        }
        let config = Config {
            action_spec: spec,
            action_queue: setup.queue,
            max_obs_age: Some(MAX_OBS_AGE),
            ..Config::default()
        };
        let mut server = Server::new(now, config);
        server.set_default_observation(sensors.clone());
        server
    }

    pub(crate) fn run(&mut self, op: Op) {
        // The transport is busy while the robot answers.
        let can_send = !matches!(op, Op::AnswerReset | Op::AnswerStep);
        match op {
            Op::Act { value, fresh } => self.act(f32::from(value), fresh),
            Op::ActNotANumber => self.act(f32::NAN, true),
            Op::Wait(millis) => self.wait(ms(millis)),
            Op::Poll => self.poll(),
            Op::PollMotion => {
                if let Some(event) = self.server.poll_motion(self.now) {
                    self.judge(event);
                }
            }
            Op::PollRequest => {
                if let Some(event) = self.server.poll_request() {
                    self.judge(event);
                }
            }
            Op::Observe => self.observe(),
            Op::Reset => {
                self.asked += 1;
                self.hears(&ClientMessage::Reset);
            }
            Op::AnswerReset => self.answer_reset(),
            Op::Step => {
                self.asked += 1;
                self.hears(&ClientMessage::Step([0.0].into()));
            }
            Op::AnswerStep => {
                if let Some(reply) = self.step.take() {
                    self.server.reply_step(reply, step(0)).unwrap();
                    self.answered += 1;
                    self.last = self.last.map(|(value, _)| (value, self.now));
                }
            }
            Op::Arm => self.arm(),
            Op::Stop => self.stop(),
            Op::Reconnect => self.reconnect(),
            Op::Measure(value) => {
                let value = f32::from(value);
                self.sensors.update_proprio("joint_pos", &[value]).unwrap();
                self.measured = Some(value);
            }
        }
        if can_send {
            while let Some(frame) = self.server.poll_transmit(self.now) {
                self.note_sent(&frame);
            }
        }
        if self.server.error().is_some() {
            self.reconnect();
        }
        // Every call lets time pass.
        self.notice_silence();
        if self.is_armed && self.last.is_some() && self.asked == 0 {
            let next = self.server.poll_timeout();
            assert!(
                next.is_some_and(|next| next <= self.now + STOP),
                "no timeout that would stop the robot for silence"
            );
        }
    }

    fn hears(&mut self, message: &ClientMessage) {
        self.server.handle_message(self.now, message.encode().to_bytes());
    }

    fn act(&mut self, value: f32, fresh: bool) {
        let (taken, captured, taken_stops) = self.observations[usize::from(!fresh)];
        let snap = taken.checked_duration_since(self.connected_at);
        let stamps = Timestamps::from_iter([("cam", captured.as_secs_f64())]);
        self.seq += 1;
        let action = Action {
            obs_timestamps: Some(stamps.with_snap(snap)),
            sent: Some(Sent { seq: self.seq, hold: None }),
            ..[value].into()
        };
        self.sent.push(Sending {
            at: self.now,
            connection: self.connection,
            stops: self.stops,
            captured,
            taken_stops: if snap.is_some() { taken_stops } else { self.stops },
        });
        self.hears(&ClientMessage::ApplyAction(action));
    }

    fn wait(&mut self, time: Duration) {
        // As a driver does: it is called when it asked to be.
        let end = self.now + time;
        while let Some(next) = self.server.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.server.handle_timeout(self.now);
            self.notice_silence();
        }
        self.now = end;
        let millis = self.now.duration_since(self.start).as_millis() as u64;
        self.clock.store(CLOCK_START + millis, Ordering::SeqCst);
        self.server.handle_timeout(self.now);
        self.notice_silence();
    }

    /// The robot may have been stopped just now; it is told later.
    fn notice_silence(&mut self) {
        if self.server.stats().contract.stops > self.server_stops {
            let last = self.last.expect("a robot that has not moved is not stopped").1;
            assert!(self.is_armed && self.now.duration_since(last) >= STOP);
            assert!(self.now.duration_since(self.answered_at) >= STOP);
            self.note_stop();
            self.seen.stopped_by_silence += 1;
        }
    }

    /// The policy sees the robot now.
    fn observe(&mut self) {
        self.sensors.update_image("cam", &[0_u8; 3]).unwrap();
        let captured = ms(self.clock.load(Ordering::SeqCst));
        self.observations = [(self.now, captured, self.stops), self.observations[0]];
        self.hears(&ClientMessage::Observe);
        while let Some(frame) = self.server.poll_transmit(self.now) {
            self.note_sent(&frame);
        }
    }

    fn note_sent(&mut self, frame: &Frame) {
        match ServerMessage::decode(frame, &Limits::default()).unwrap() {
            ServerMessage::Observation(observation) => {
                if let Some(status) = observation.timing().and_then(|timing| timing.contract) {
                    assert_eq!(status, self.server.stats().contract);
                }
            }
            ServerMessage::Reset(_) | ServerMessage::Step(_) => {
                self.asked -= 1;
                self.answered -= 1;
                self.answered_at = self.now;
            }
            _ => {}
        }
    }

    fn poll(&mut self) {
        while let Some(event) = self.server.poll_event(self.now) {
            self.judge(event);
        }
    }

    fn answer_reset(&mut self) {
        let Some(reply) = self.reset.take() else { return };
        self.server.reply_reset(reply, reset(0)).unwrap();
        self.answered += 1;
        self.is_armed |= std::mem::take(&mut self.reset_arms);
        self.last = None;
    }

    fn arm(&mut self) {
        // What is taken at the same instant as a stop counts as taken before it, and silence may stop the
        // robot meanwhile.
        let stops = self.stops;
        self.wait(ms(1));
        if self.stops != stops {
            self.wait(ms(1));
        }
        self.poll();
        self.server.arm(self.now);
        if self.server.error().is_some() {
            return;
        }
        if !self.is_armed {
            self.last = None;
        }
        self.is_armed = true;
        self.seen.armed += 1;
        assert!(self.state().takes_actions(), "an arm is lost: {:?}", self.state());
        let is_free = self.reset.is_none() && self.step.is_none();
        if is_free && self.last.is_none() && (!self.setup.is_measured || self.measured.is_some()) {
            self.moves_after_arming();
        }
    }

    /// A policy that looks and then acts as the contract allows moves the robot.
    fn moves_after_arming(&mut self) {
        let measured = self.measured.filter(|_| self.setup.is_measured);
        let value = match self.setup.kind {
            ActionKind::Absolute => measured.unwrap_or(0.0),
            _ => 0.0,
        };
        if !(LOW..=HIGH).contains(&value) {
            return;
        }
        self.observe();
        let before = self.seen.given;
        self.act(value, true);
        self.poll();
        let has_moved = self.seen.given > before || self.reset.is_some() || self.step.is_some();
        assert!(has_moved, "an armed robot does not move to {value}");
    }

    fn stop(&mut self) {
        self.server.stop_motion(self.now);
        self.note_stop();
        assert_eq!(self.state(), ArmingState::Stopped);
    }

    fn note_stop(&mut self) {
        self.is_armed = false;
        self.reset_arms = false;
        self.stops += 1;
        self.server_stops = self.server.stats().contract.stops;
        self.last = None;
    }

    fn reconnect(&mut self) {
        self.server.handle_disconnect(self.now, ConnectionError::Reset);
        let told = self.server.poll_event(self.now);
        assert!(matches!(told, Some(Event::Disconnected(_)) | None));
        assert!(self.server.poll_event(self.now).is_none(), "nothing comes after the end");
        self.server = Self::server(self.setup, self.now, &self.sensors);
        self.connection += 1;
        self.connected_at = self.now;
        (self.seq, self.server_stops, self.told_stops) = (0, 0, 0);
        (self.reset, self.step, self.last) = (None, None, None);
        (self.asked, self.answered) = (0, 0);
        (self.reset_arms, self.held) = (false, false);
        self.is_armed = self.setup.arming == Arming::OnConnect;
        // A client knows nothing of the connection before.
        self.observe();
        self.observe();
    }

    fn state(&self) -> ArmingState {
        self.server.stats().contract.state
    }

    // ---- what the contract says ---------------------------------------------------------------

    fn judge(&mut self, event: Event) {
        match event {
            Event::Action(action) => self.judge_action(&action),
            Event::Stopped(_) => {
                // One that came before the robot was told of the last one is told with it.
                assert!(self.told_stops < self.server_stops, "told of a stop twice");
                self.told_stops = self.server_stops;
            }
            Event::Step(action, reply) => {
                assert_eq!(
                    self.told_stops, self.server_stops,
                    "a step before the robot is told of its stop"
                );
                assert!(self.is_armed, "a step of a robot that is not armed");
                self.judge_values(&action);
                self.last = Some((action.to_f32()[0], self.now));
                self.held = false;
                self.step = Some(reply);
                self.seen.stepped += 1;
            }
            Event::Reset(reply) => {
                assert_eq!(
                    self.told_stops, self.server_stops,
                    "a reset before the robot is told of its stop"
                );
                self.reset = Some(reply);
                self.reset_arms = self.setup.arming == Arming::OnReset;
            }
            Event::Watchdog { .. } => {
                self.held = true;
                self.seen.held += 1;
            }
            Event::ActionsDropped { reason, .. } => match reason {
                DropReason::Refused(_) => self.seen.out_of_bounds_or_too_far += 1,
                DropReason::NotArmed { .. } => self.seen.not_armed += 1,
                DropReason::BeforeStop => self.seen.before_stop += 1,
                DropReason::StaleObservation { .. } => self.seen.stale += 1,
                _ => {}
            },
            Event::ActionsClamped { .. } => {
                assert_eq!(self.setup.on_violation, OnViolation::Clamp);
                self.seen.clamped += 1;
            }
            _ => {}
        }
    }

    fn judge_action(&mut self, action: &Action) {
        let seq = action.sent.expect("every action is numbered").seq;
        let index = self.sent.iter().rposition(|sending| sending.connection == self.connection);
        let last_seq = self.seq;
        let index = index.expect("it was sent on this connection") - (last_seq - seq) as usize;
        let Sending { at, stops, captured, taken_stops, .. } = self.sent[index];
        assert!(self.is_armed, "an action reaches a robot that is not armed");
        assert_eq!(stops, self.stops, "an action of before a stop");
        assert_eq!(taken_stops, self.stops, "an action decided before a stop");
        let age = ms(self.clock.load(Ordering::SeqCst)).saturating_sub(captured);
        assert!(age <= MAX_OBS_AGE, "an action decided {age:?} ago");
        // A step may take as long as it does.
        if let Some((_, before)) = self.last.filter(|_| self.step.is_none()) {
            // One that a robot was too slow for was a sign of life, too, and silence before the robot
            // began to move is none.
            let sent_before = index.checked_sub(1).map_or(before, |index| self.sent[index].at);
            let since = before.max(sent_before).max(self.began_at);
            let silence = at.saturating_duration_since(since);
            assert!(silence < STOP, "an action after {silence:?} of silence");
        }
        if self.last.is_none() {
            self.began_at = self.now;
        }
        self.judge_values(action);
        self.last = Some((action.to_f32()[0], at));
        self.held = false;
        self.seen.given += 1;
    }

    fn judge_values(&self, action: &Action) {
        let [value] = action.to_array().unwrap();
        assert!((LOW..=HIGH).contains(&value), "{value} is out of bounds");
        assert!(!action.clamped || self.setup.on_violation == OnViolation::Clamp);
        let is_measured = self.setup.is_measured;
        let from = match (self.setup.kind, self.last.filter(|_| !self.held)) {
            (ActionKind::Delta, _) | (ActionKind::Velocity, None) => Some(0.0),
            (_, Some((last, _))) => Some(last),
            (_, None) if is_measured => Some(self.measured.expect("it is refused otherwise")),
            (_, None) => self.last.map(|(last, _)| last),
        };
        if let Some(from) = from {
            assert!((value - from).abs() <= MAX_STEP, "{value} after {from}");
        }
    }
}
