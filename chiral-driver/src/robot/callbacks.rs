//! Operates a robot by calling it, for as long as a policy has it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use chiral_proto::server::{Answer, Event};
use chiral_proto::{Observation, StopReason};
use event_listener::EventListener;
use futures_lite::FutureExt;
use futures_lite::future::{or, zip};

use super::{Robot, RobotError};
use crate::connection::Connection;
use crate::panic::panic_message;
use crate::server::{FailureText, Lease, ServerState};
use crate::transport::BoxFuture;

/// Calls a robot for a policy, until the robot is done with it; a future for the connection's own
/// task, which looks for something to send after each poll.
pub fn dispatch(lease: Lease, robot: Arc<impl Robot>) -> BoxFuture<'static, ()> {
    let dispatcher = Dispatcher { robot, lease: Arc::new(lease), send_replies: || () };
    Box::pin(async move {
        dispatcher.notify_connected().await;
        zip(dispatcher.dispatch_motion(), dispatcher.dispatch_requests()).await;
    })
}

/// As [`dispatch`], in two threads that `spawn` starts: one for what moves the robot, one for the
/// rest, so that robot code may block. `send_replies` is called in the latter after each answer: it
/// sends it on the spot, or wakes the driver.
///
/// What goes wrong with the start is told to the policy.
pub fn dispatch_on_threads<S>(
    lease: Lease,
    robot: Arc<impl Robot>,
    spawn: S,
    send_replies: impl Fn() + Clone + Send + Sync + 'static,
) where
    S: Fn(&'static str, BoxFuture<'static, ()>) -> io::Result<()> + Clone + Send + 'static,
{
    let lease = Arc::new(lease);
    let dispatcher = Dispatcher { robot, lease: Arc::clone(&lease), send_replies };
    let spawn_motion = spawn.clone();
    let requests = async move {
        dispatcher.notify_connected().await;
        let motion = dispatcher.clone();
        let moving = async move { motion.dispatch_motion().await };
        if let Err(error) = spawn_motion("chiral-motion", Box::pin(moving)) {
            fail_to_start(dispatcher.connection(), &error);
            // The robot knows of the policy, and so has to be told that it is gone.
            dispatcher.dispatch_motion().await;
            return;
        }
        dispatcher.dispatch_requests().await;
    };
    if let Err(error) = spawn("chiral-requests", Box::pin(requests)) {
        // Before the lease goes, with which the connection would end without a reason.
        fail_to_start(lease.connection(), &error);
    }
}

/// Ends the connection when the robot's part of it could not be started.
fn fail_to_start(connection: &Connection<ServerState>, error: &io::Error) {
    let why = format!("the system has no thread for it: {error}");
    tracing::error!("the robot failed: {why}");
    connection.call(|state, _| state.machine.fail(why));
}

/// An observation that is to be made when its answer can leave.
type Deferred = Box<dyn FnOnce(Instant) -> Observation + Send>;

/// A robot, and the policy for which it is called. The lease ends with the last clone.
struct Dispatcher<B, F> {
    lease: Arc<Lease>,
    robot: Arc<B>,
    send_replies: F,
}

impl<B, F: Clone> Clone for Dispatcher<B, F> {
    fn clone(&self) -> Self {
        Self {
            lease: Arc::clone(&self.lease),
            robot: Arc::clone(&self.robot),
            send_replies: self.send_replies.clone(),
        }
    }
}

impl<B: Robot, F: Fn() + Send + Sync> Dispatcher<B, F> {
    fn connection(&self) -> &Connection<ServerState> {
        self.lease.connection()
    }

    /// Tells the robot of its new policy.
    async fn notify_connected(&self) {
        self.run_robot_code("on connecting", async {
            self.robot.on_connect().await;
            Ok(())
        })
        .await;
    }

    /// Applies actions and watches over the robot, until the connection ends.
    async fn dispatch_motion(&self) {
        loop {
            let poll = ServerState::poll_motion;
            let event = wait_for(self.connection(), ServerState::listen_motion, poll).await;
            let ended = matches!(event, Event::Disconnected(_));
            self.run_robot_code("moving", async {
                match event {
                    Event::Action(action) => self.robot.apply_action(action).await?,
                    Event::Watchdog { silent_for } => self.robot.on_watchdog(silent_for).await,
                    Event::Stopped(reason) => {
                        log_stop(&reason);
                        self.robot.on_stop(&reason).await;
                    }
                    Event::Disconnected(reason) => self.robot.on_disconnect(&reason).await,
                    Event::ActionsDropped { count, reason } => {
                        self.connection().warn_of_drops(count, &reason);
                        self.robot.on_actions_dropped(count, &reason).await;
                    }
                    Event::ActionsClamped { count, error } => {
                        self.connection().warn_of_clamps(count, &error);
                    }
                    _ => {}
                }
                Ok(())
            })
            .await;
            self.connection().lock().finish_motion();
            if ended {
                return;
            }
        }
    }

    /// Answers requests, until the connection ends.
    async fn dispatch_requests(&self) {
        let mut deferred = VecDeque::new();
        loop {
            let request = wait_for(self.connection(), ServerState::listen_request, |state| {
                match state.poll_request() {
                    Some(request) => Some(Some(request)),
                    None => state.machine.error().is_some().then_some(None),
                }
            })
            .await;
            let Some(request) = request else { return };
            match request {
                Event::Reset(_) | Event::Step(..) => {
                    self.answer_motion(request).await;
                    self.connection().lock().finish_motion();
                }
                // What moves nothing is let go when nobody waits for it any more.
                _ => or(self.answer(request, &mut deferred), self.wait_for_end()).await,
            }
            (self.send_replies)();
        }
    }

    // That nobody waits for the answer any more is no fault of the robot's: such an error of a
    // reply is dropped.
    async fn answer(&self, request: Event, deferred: &mut VecDeque<Deferred>) {
        match request {
            Event::Metadata(reply) => {
                let metadata = self.robot.metadata();
                if let Some(data) = self.run_robot_code("describing itself", metadata).await {
                    let _ = self.call(|state| state.machine.reply_metadata(reply, data));
                }
            }
            // The transport can take the answer now.
            Event::Observe(reply) if reply.is_due() => {
                let Some(observe) = deferred.pop_front() else { return };
                let observing = async { Ok(observe(Instant::now())) };
                if let Some(observation) = self.run_robot_code("observing", observing).await {
                    let _ = self.call(|state| state.machine.reply_observation(reply, observation));
                }
            }
            Event::Observe(reply) => {
                match self.run_robot_code("observing", self.robot.observe()).await {
                    None => {}
                    // Here and not by the machine, behind whose lock everybody would wait.
                    Some(Answer::WhenSent(observe)) => {
                        deferred.push_back(observe);
                        let _ = self.call(|state| state.machine.defer_observation(reply));
                    }
                    Some(answer) => {
                        let _ = self.call(|state| state.machine.reply_observation(reply, answer));
                    }
                }
            }
            other => log_camera(&other),
        }
    }

    /// Answers what moves the robot.
    async fn answer_motion(&self, request: Event) {
        match request {
            Event::Reset(reply) => {
                if let Some(result) = self.run_robot_code("resetting", self.robot.reset()).await {
                    let _ = self.call(|state| state.machine.reply_reset(reply, result));
                }
            }
            Event::Step(action, reply) => {
                if let Some(result) = self.run_robot_code("stepping", self.robot.step(action)).await
                {
                    let _ = self.call(|state| state.machine.reply_step(reply, result));
                }
            }
            _ => {}
        }
    }

    fn call<T>(&self, call: impl FnOnce(&mut ServerState) -> T) -> T {
        self.connection().change(|state, _| call(state)).0
    }

    async fn wait_for_end(&self) {
        let ended = |state: &mut ServerState| state.machine.error().is_some().then_some(());
        wait_for(self.connection(), ServerState::listen_end, ended).await;
    }

    /// Lets the robot do something; when it fails, or panics, the connection ends and the policy is
    /// told.
    async fn run_robot_code<T>(
        &self,
        what: &str,
        doing: impl Future<Output = Result<T, RobotError>>,
    ) -> Option<T> {
        let (why, is_panic) = match AssertUnwindSafe(doing).catch_unwind().await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => (format!("{what}: {error}"), false),
            Err(panic) => (format!("{what}: {}", panic_message(&*panic)), true),
        };
        tracing::error!("the robot failed {why}");
        let told = match self.lease.config().failure_text {
            FailureText::Everything => why,
            FailureText::Errors if !is_panic => why,
            FailureText::Errors => format!("{what}: it panicked; its log says why"),
            FailureText::Nothing => "its log says why".to_owned(),
        };
        self.connection().call(|state, _| state.machine.fail(told));
        None
    }
}

/// Tells the log that the robot was stopped.
pub(super) fn log_stop(reason: &StopReason) {
    tracing::warn!("the robot was stopped: {reason}; it takes no action until it is armed again");
}

/// Tells the log of a camera that has stalled, or is there again.
pub(super) fn log_camera(event: &Event) {
    match event {
        Event::CameraStalled(stale) => tracing::warn!("{stale}"),
        Event::CameraResumed { name } => tracing::info!("camera {name:?} is there again"),
        _ => {}
    }
}

/// Waits until `take` finds something; it looks again whenever what `listen` gives is notified.
async fn wait_for<T>(
    connection: &Connection<ServerState>,
    listen: impl Fn(&ServerState) -> EventListener,
    mut take: impl FnMut(&mut ServerState) -> Option<T>,
) -> T {
    loop {
        let taken = connection.take(|state| take(state).ok_or_else(|| listen(state)));
        match taken {
            Ok(taken) => return taken,
            Err(news) => news.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use chiral_proto::sensors::Sensors;
    use chiral_proto::server::Server;
    use chiral_proto::wire::ClientMessage;
    use chiral_proto::{Action, ActionSpec, ConnectionError, Map, Rate};

    use super::*;
    use crate::server::{Admission, ServerConfig, machine_of_callbacks};
    use crate::transport::Message;

    struct Arm {
        sensors: Sensors,
        connected: AtomicUsize,
        disconnected: AtomicUsize,
    }

    impl Robot for Arm {
        fn sensors(&self) -> &Sensors {
            &self.sensors
        }

        async fn apply_action(&self, _: Action) -> Result<(), RobotError> {
            Ok(())
        }

        async fn on_connect(&self) {
            self.connected.fetch_add(1, Ordering::Relaxed);
        }

        async fn on_disconnect(&self, reason: &ConnectionError) {
            assert!(matches!(reason, ConnectionError::RobotFailed(_)), "{reason}");
            self.disconnected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Starts a robot on threads where only the thread of this name can be had. The thread's future
    /// is run at once.
    fn start_with_thread(available: Option<&'static str>) -> Arc<Arm> {
        let sensors = Sensors::new([], []).expect("no sensors");
        let arm =
            Arm { sensors, connected: AtomicUsize::new(0), disconnected: AtomicUsize::new(0) };
        let arm = Arc::new(arm);
        let admission = Admission::new(ServerConfig::default());
        let machine = |config: &ServerConfig| machine_of_callbacks(config, &arm.sensors);
        let lease = admission
            .admit_blocking(&admission.arrive("policy:1"), machine)
            .expect("the robot is free");
        let connection = Arc::clone(lease.connection());
        let spawn = move |name, task: BoxFuture<'static, ()>| {
            if available != Some(name) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            futures_lite::future::block_on(task);
            Ok(())
        };
        dispatch_on_threads(lease, Arc::clone(&arm), spawn, || ());
        assert!(matches!(connection.error(), Some(ConnectionError::RobotFailed(_))));
        admission
            .admit_blocking(&admission.arrive("policy:1"), machine)
            .expect("the robot is free again");
        arm
    }

    #[test]
    fn a_robot_without_a_thread_for_its_motion_is_told_of_the_end() {
        let arm = start_with_thread(Some("chiral-requests"));
        assert_eq!(arm.connected.load(Ordering::Relaxed), 1);
        assert_eq!(arm.disconnected.load(Ordering::Relaxed), 1);
    }

    /// A robot that never answers.
    struct Mute(Sensors);

    impl Robot for Mute {
        fn sensors(&self) -> &Sensors {
            &self.0
        }

        async fn apply_action(&self, _: Action) -> Result<(), RobotError> {
            Ok(())
        }

        async fn metadata(&self) -> Result<Map, RobotError> {
            std::future::pending().await
        }
    }

    #[derive(Default)]
    struct CountingWaker(AtomicUsize);

    impl Wake for CountingWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_robot_that_is_slow_to_answer_is_not_polled_over_and_over() {
        let robot = Arc::new(Mute(Sensors::new([], []).expect("no sensors")));
        let admission = Admission::new(ServerConfig::default());
        let machine = |config: &ServerConfig| machine_of_callbacks(config, &robot.0);
        let lease = admission
            .admit_blocking(&admission.arrive("policy:1"), machine)
            .expect("the robot is free");
        let connection = Arc::clone(lease.connection());
        let mut task = dispatch(lease, Arc::clone(&robot));
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        for _ in 0..2 {
            connection.receive(Message::Whole(ClientMessage::Metadata.encode().to_bytes()));
        }
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        woken.0.store(0, Ordering::Relaxed);
        // As the driver does each time that it is polled.
        assert!(connection.poll_transmit(Instant::now()).is_none());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "woken for a request that has to wait");
        connection.disconnect(Instant::now(), ConnectionError::ClosedLocally);
        assert!(woken.0.load(Ordering::Relaxed) > 0, "not woken at the end");
    }

    #[test]
    fn the_driver_is_woken_for_the_deadline_of_what_a_thread_takes() {
        let mut config = ServerConfig::default();
        let rate = Rate::hz(50).expect("a rate");
        config.machine.action_spec = ActionSpec::vector(1).rate(rate).hold_after(0).stop_after(5);
        let admission = Admission::new(config);
        let machine = |config: &ServerConfig| Server::new(Instant::now(), config.machine.clone());
        let lease = admission
            .admit_blocking(&admission.arrive("policy:1"), machine)
            .expect("the robot is free");
        let connection = Arc::clone(lease.connection());
        let woken = Arc::new(CountingWaker::default());
        connection.register(&Waker::from(Arc::clone(&woken)));
        assert_eq!(connection.poll_timeout(), None, "a robot that has not moved is not stopped");
        let action = ClientMessage::ApplyAction([0.5].into());
        connection.receive(Message::Whole(action.encode().to_bytes()));
        let taken = connection.take(ServerState::poll_motion);
        assert!(matches!(taken, Some(Event::Action(_))));
        assert!(woken.0.load(Ordering::Relaxed) > 0, "it sleeps on while the policy is silent");
        assert!(connection.poll_timeout().is_some());
    }

    #[test]
    fn a_robot_without_any_thread_never_hears_of_the_policy() {
        let arm = start_with_thread(None);
        assert_eq!(arm.connected.load(Ordering::Relaxed), 0);
        assert_eq!(arm.disconnected.load(Ordering::Relaxed), 0);
    }
}
