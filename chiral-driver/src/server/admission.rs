//! One policy at a time: who is let in, who is refused, and why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chiral_proto::instant_after;
use chiral_proto::server::{Server, Stats};
use chiral_proto::ws::Request;
use event_listener::{Event, EventListener, Listener as _};
use futures_lite::future::or;

use super::accept_hook::Rejection;
use super::arrivals::{Arrival, Arrivals};
use super::config::ServerConfig;
use super::log_limit::LogLimit;
use super::state::ServerState;
use super::wrong_tokens::WrongTokens;
use crate::connection::Connection;
use crate::driver::PROBE_TIMEOUT;
use crate::runtime::{Runtime, until};
use crate::token::Token;
use crate::transport::Extension;

/// How long a policy waits for the one before it that may just be going: its end and the new
/// connection reach the server independently.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a thread waits before it looks whether others need its connection's place.
pub const EVICTION_STEP: Duration = Duration::from_millis(50);

/// Sees to it that the robot has one policy at a time.
pub struct Admission {
    config: ServerConfig,
    state: Mutex<AdmissionState>,
    pub(super) changed: Event,
}

#[derive(Default)]
pub(super) struct AdmissionState {
    robot: Robot,
    pub(super) arrivals: Arrivals,
    pub(super) shutting_down: bool,
    /// Requests made so far.
    requests: u64,
    refusals: LogLimit,
    accept_errors: LogLimit,
    wrong_tokens: WrongTokens,
}

/// Whether the robot has a policy.
///
/// ```text
/// Free ──a policy is admitted──► Leased ──its connection has ended, and the robot is at rest──► Free
/// ```
#[derive(Default)]
enum Robot {
    #[default]
    Free,
    /// To the policy of this connection, or to nobody any more when that has ended: the robot may
    /// still be at its last command.
    Leased(Arc<Connection<ServerState>>),
}

/// Why a policy is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Another policy is connected.
    #[error("this robot already has a policy; it takes one at a time")]
    Taken,
    /// The robot is still busy with the last command of a policy that has gone.
    #[error("this robot is still busy with a policy that has gone; try again")]
    Busy,
    /// The newest policy takes the robot over, and this one is older.
    #[error("a newer policy takes this robot over")]
    Superseded,
    /// Others have come since, more than the server lets wait.
    #[error("too many others wait for this robot; try again")]
    Evicted,
    /// The server is shutting down.
    #[error("the robot's server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// The HTTP status with which a request for a WebSocket is refused. A policy that was told 503
    /// tries again; one that is superseded must not, or it would be the newest itself.
    pub fn status(&self) -> u16 {
        match self {
            Self::Superseded => 409,
            Self::Taken | Self::Busy | Self::Evicted | Self::ShuttingDown => 503,
        }
    }
}

/// How far a policy is that wants the robot.
///
/// ```text
/// Waiting ──the one before it is still there──► Probing ──it gives a sign of life──► refused
///    │                                             │ it has ended, or was cut
///    └──the robot is free──► admitted ◄──it is──Settling ──it is not──► refused
/// ```
///
/// With [`ServerConfig::take_over`] the one before is closed, and the request of the newest is
/// settling at once; that of an older one is refused. A connection that others need the place of is
/// refused in any phase, unless the robot is free.
#[derive(Debug)]
pub struct AdmissionRequest {
    /// Counts the requests; the newest has the highest.
    number: u64,
    /// The connection that makes it.
    arrival: u64,
    phase: Phase,
    /// When this phase is over.
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The one before may just be going.
    Waiting,
    /// The one before was asked for a sign of life; so much had been received of it by then.
    Probing { received: u64 },
    /// The one before has gone, and the robot may come to rest.
    Settling,
}

/// What [`Admission::poll_admit`] has come to.
pub enum Admitting {
    /// The robot is the policy's.
    Admitted(Lease),
    /// It is not.
    Refused(Refusal),
    /// To be asked again when this is notified, or at this instant.
    Wait(EventListener, Instant),
}

impl Admission {
    /// For a robot that has no policy yet.
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default(), changed: Event::new() })
    }

    /// The server's settings.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut AdmissionState) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify(usize::MAX);
        result
    }

    /// Notes that a connection has come from a peer, which is not admitted yet.
    pub fn arrive(self: &Arc<Self>, peer: &str) -> Arrival {
        Arrival::new(self, source_of(peer).to_owned())
    }

    /// Looks at a request for a WebSocket: first whether it has the server's token, then what the
    /// program says to it.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn check(&self, request: &Request, peer: &str) -> Result<(), Rejection> {
        self.check_token(request, source_of(peer))?;
        self.config.accept.check(request)
    }

    fn check_token(&self, request: &Request, source: &str) -> Result<(), Rejection> {
        let Some(token) = &self.config.token else { return Ok(()) };
        let now = Instant::now();
        let mut state = self.lock();
        if state.wrong_tokens.are_too_many(now, source) {
            let reason = "too many requests with a wrong token came from this host: wait a minute";
            return Err(Rejection::new(429, reason));
        }
        let found = request.header("Authorization");
        if found.is_some_and(|found| token.is_in(found)) {
            return Ok(());
        }
        // A request without one is no guess: a web page can make it, and would lock its host out.
        let is_guess = found.is_some_and(Token::is_claimed_in);
        if is_guess {
            state.wrong_tokens.note(now, source);
        }
        let problem = if is_guess { "found another" } else { "found none" };
        let reason =
            format!("{problem}, expected the token of this robot: give the client that one");
        Err(Rejection::new(401, reason))
    }

    /// A request for the robot, which begins now.
    pub fn request(&self, arrival: &Arrival) -> AdmissionRequest {
        let number = {
            let mut state = self.lock();
            state.requests += 1;
            state.requests
        };
        AdmissionRequest {
            number,
            arrival: arrival.id(),
            phase: Phase::Waiting,
            until: Instant::now() + HANDOVER_TIMEOUT,
        }
    }

    /// Takes the robot for a new connection, if it is free or is becoming so. Whether the one
    /// before is alive is found out on the way: a policy whose host lost its power keeps the robot
    /// from nobody. `machine` makes the state machine of the new connection.
    pub fn poll_admit(
        self: &Arc<Self>,
        request: &mut AdmissionRequest,
        machine: impl FnOnce(&ServerConfig) -> Server,
    ) -> Admitting {
        let now = Instant::now();
        let mut state = self.lock();
        if state.shutting_down {
            return Admitting::Refused(Refusal::ShuttingDown);
        }
        let Robot::Leased(before) = &state.robot else {
            let connection = Connection::new(ServerState::new(machine(&self.config)));
            state.robot = Robot::Leased(Arc::clone(&connection));
            return Admitting::Admitted(Lease { admission: Arc::clone(self), connection });
        };
        if state.arrivals.is_evicted(request.arrival) {
            return Admitting::Refused(Refusal::Evicted);
        }
        let has_gone = before.error().is_some();
        let is_over = request.until <= now;
        let next = match request.phase {
            _ if self.config.take_over && !has_gone => {
                if request.number < state.requests {
                    return Admitting::Refused(Refusal::Superseded);
                }
                before.call(|state, _| state.machine.hand_over());
                Some((Phase::Settling, HANDOVER_TIMEOUT))
            }
            // Another one was faster.
            Phase::Settling if !has_gone => return Admitting::Refused(Refusal::Taken),
            Phase::Probing { .. } if has_gone => Some((Phase::Settling, HANDOVER_TIMEOUT)),
            Phase::Probing { received } if is_over || before.received() != received => {
                return Admitting::Refused(Refusal::Taken);
            }
            Phase::Waiting | Phase::Settling if is_over && has_gone => {
                return Admitting::Refused(Refusal::Busy);
            }
            Phase::Waiting if is_over => {
                let received = before.probe();
                Some((Phase::Probing { received }, PROBE_TIMEOUT + HANDOVER_TIMEOUT))
            }
            Phase::Waiting | Phase::Probing { .. } | Phase::Settling => None,
        };
        if let Some((phase, time)) = next {
            (request.phase, request.until) = (phase, now + time);
        }
        let listener = match request.phase {
            Phase::Probing { received } => {
                let activity = before.listen_activity();
                if before.received() != received || before.error().is_some() {
                    // It has come since: to be looked at again at once.
                    return Admitting::Wait(activity, now);
                }
                activity
            }
            Phase::Waiting | Phase::Settling => self.changed.listen(),
        };
        Admitting::Wait(listener, request.until)
    }

    /// Asks for the robot, and waits for the answer.
    ///
    /// # Errors
    /// When the policy is not let in.
    pub async fn admit<R: Runtime>(
        self: &Arc<Self>,
        arrival: &Arrival,
        machine: impl Fn(&ServerConfig) -> Server,
    ) -> Result<Lease, Refusal> {
        let mut request = self.request(arrival);
        loop {
            match self.poll_admit(&mut request, &machine) {
                Admitting::Admitted(lease) => return Ok(lease),
                Admitting::Refused(refusal) => return Err(refusal),
                Admitting::Wait(listener, at) => {
                    let changed = or(listener, arrival.wait_until_evicted());
                    until::<R, _>(at, changed).await;
                }
            }
        }
    }

    /// As [`admit`](Self::admit), blocking the thread.
    ///
    /// # Errors
    /// When the policy is not let in.
    pub fn admit_blocking(
        self: &Arc<Self>,
        arrival: &Arrival,
        machine: impl Fn(&ServerConfig) -> Server,
    ) -> Result<Lease, Refusal> {
        let mut request = self.request(arrival);
        loop {
            match self.poll_admit(&mut request, &machine) {
                Admitting::Admitted(lease) => return Ok(lease),
                Admitting::Refused(refusal) => return Err(refusal),
                Admitting::Wait(listener, at) => {
                    listener.wait_deadline(at.min(Instant::now() + EVICTION_STEP));
                }
            }
        }
    }

    /// Takes no more policies, and sends the one that there is away, after `grace` at the latest.
    pub fn start_shutdown(&self, grace: Duration) {
        let current = self.change(|state| {
            state.shutting_down = true;
            state.current().cloned()
        });
        if let Some(current) = current {
            current.call(|state, now| state.machine.shut_down(instant_after(now, grace)));
        }
    }

    /// Whether no more policies are taken.
    pub fn is_shutting_down(&self) -> bool {
        self.lock().shutting_down
    }

    /// Waits until no more policies are taken.
    pub async fn wait_for_shutdown(&self) {
        self.wait_for(|state| state.shutting_down.then_some(())).await;
    }

    /// Waits until the robot has no policy and is at rest. What the policy is still to be told is
    /// told by then.
    pub async fn wait_until_free(&self) {
        let last = self.lock().current().cloned();
        self.wait_for(|state| state.current().is_none().then_some(())).await;
        if let Some(last) = last {
            last.wait_until_finished().await;
        }
    }

    /// Waits until `ready` finds something in the state.
    pub(super) async fn wait_for<T>(
        &self,
        mut ready: impl FnMut(&mut AdmissionState) -> Option<T>,
    ) -> T {
        loop {
            let changed = {
                let mut state = self.lock();
                if let Some(ready) = ready(&mut state) {
                    return ready;
                }
                self.changed.listen()
            };
            changed.await;
        }
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        let current = self.lock().current().cloned()?;
        let state = current.lock();
        Some(state.machine.stats())
    }

    /// Lets the actions of the policy that is connected move the robot. False when none is.
    pub fn arm(&self) -> bool {
        self.change_current(Server::arm)
    }

    /// Stops the robot until it is armed again. False when no policy is connected.
    pub fn stop_motion(&self) -> bool {
        self.change_current(Server::stop_motion)
    }

    fn change_current(&self, change: impl FnOnce(&mut Server, Instant)) -> bool {
        let Some(current) = self.lock().current().cloned() else { return false };
        current.call(|state, now| change(&mut state.machine, now));
        true
    }

    /// What the transport of the connection that there is now has beyond its frames.
    pub fn extension(&self) -> Option<Extension> {
        let current = self.lock().current().cloned()?;
        let state = current.lock();
        state.extension.clone()
    }

    /// Logs that no connection could be taken from the system, but not each time.
    pub fn log_accept_error(&self, error: &std::io::Error) {
        let allowed = self.lock().accept_errors.allow(Instant::now());
        match allowed {
            Some(0) => tracing::warn!("no connection could be accepted: {error}"),
            Some(passed_over) => tracing::warn!(
                "no connection could be accepted: {error} (and {passed_over} times before)"
            ),
            None => {}
        }
    }

    /// Logs what happened to somebody who was not let in, but not more than a few times a second,
    /// however many come.
    pub fn log_refusal(&self, peer: &str, what: std::fmt::Arguments<'_>) {
        let allowed = self.lock().refusals.allow(Instant::now());
        match allowed {
            Some(0) => tracing::info!("{peer} {what}"),
            Some(passed_over) => tracing::info!("{peer} {what} (and {passed_over} like it before)"),
            None => {}
        }
    }
}

/// The host of a peer that is named by its socket's address.
fn source_of(peer: &str) -> &str {
    peer.rsplit_once(':').map_or(peer, |(host, _)| host)
}

impl AdmissionState {
    fn current(&self) -> Option<&Arc<Connection<ServerState>>> {
        match &self.robot {
            Robot::Free => None,
            Robot::Leased(connection) => Some(connection),
        }
    }
}

/// A policy's right to drive the robot, from its admission until the robot is done with it: when
/// this is dropped, the next policy may be admitted. By then the connection is closed.
pub struct Lease {
    admission: Arc<Admission>,
    connection: Arc<Connection<ServerState>>,
}

impl Lease {
    /// The policy's connection.
    pub fn connection(&self) -> &Arc<Connection<ServerState>> {
        &self.connection
    }

    /// The server's settings.
    pub fn config(&self) -> &ServerConfig {
        &self.admission.config
    }

    /// Notes what the connection's transport has beyond its frames.
    pub fn set_extension(&self, extension: Option<Extension>) {
        self.connection.lock().extension = extension;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It has ended, unless the robot's part in it could not be run to its end.
        self.connection.call(|state, _| state.machine.close());
        self.connection.finish_if_not_driven();
        self.admission.change(|state| state.robot = Robot::Free);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn machine(config: &ServerConfig) -> Server {
        Server::new(Instant::now(), config.machine.clone())
    }

    fn admit(admission: &Arc<Admission>) -> Result<Lease, Refusal> {
        admission.admit_blocking(&admission.arrive("robot:1"), machine)
    }

    #[test]
    fn a_policy_that_is_given_up_before_it_is_driven_holds_no_shutdown_up() {
        let admission = Admission::new(ServerConfig::default());
        let lease = admit(&admission).expect("the robot is free");
        admission.start_shutdown(Duration::ZERO);
        let mut waiting = Box::pin(admission.wait_until_free());
        assert!(block_on(poll_once(&mut waiting)).is_none(), "the robot has a policy");
        drop(lease);
        block_on(waiting);
    }

    #[test]
    fn who_waits_for_a_robot_that_another_one_gets_is_refused() {
        let admission = Admission::new(ServerConfig::default());
        let _lease = admit(&admission).expect("the robot is free");
        let arrival = admission.arrive("robot:1");
        let mut late = admission.request(&arrival);
        late.phase = Phase::Settling;
        let outcome = admission.poll_admit(&mut late, machine);
        assert!(matches!(outcome, Admitting::Refused(Refusal::Taken)));
    }

    #[test]
    fn the_newest_policy_takes_the_robot_over() {
        let config = ServerConfig { take_over: true, ..ServerConfig::default() };
        let admission = Admission::new(config);
        let first = admit(&admission).expect("the robot is free");
        let arrival = admission.arrive("robot:1");
        let (mut second, mut third) = (admission.request(&arrival), admission.request(&arrival));
        let outcome = admission.poll_admit(&mut second, machine);
        assert!(matches!(outcome, Admitting::Refused(Refusal::Superseded)), "there is a newer one");
        assert_eq!(first.connection().error(), None);
        let outcome = admission.poll_admit(&mut third, machine);
        assert!(matches!(outcome, Admitting::Wait(..)), "the robot is not at rest yet");
        let told = chiral_proto::ConnectionError::TakenOver;
        assert_eq!(first.connection().error(), Some(told));
        drop(first);
        let outcome = admission.poll_admit(&mut third, machine);
        assert!(matches!(outcome, Admitting::Admitted(_)));
    }

    #[test]
    fn a_robot_that_is_not_done_with_a_policy_that_has_gone_is_busy() {
        let admission = Admission::new(ServerConfig::default());
        let lease = admit(&admission).expect("the robot is free");
        lease.connection().finish(chiral_proto::ConnectionError::Reset);
        assert_eq!(admit(&admission).err(), Some(Refusal::Busy));
        drop(lease);
        admit(&admission).expect("the robot is at rest");
    }

    #[test]
    fn who_waits_for_the_robot_makes_room_for_those_who_come_later() {
        let admission = Admission::new(ServerConfig::default());
        let _lease = admit(&admission).expect("the robot is free");
        let first = admission.arrive("10.0.0.1:1");
        let mut request = admission.request(&first);
        assert!(matches!(admission.poll_admit(&mut request, machine), Admitting::Wait(..)));
        let others: Vec<_> =
            (0..64).map(|port| admission.arrive(&format!("10.0.0.1:{port}"))).collect();
        let outcome = admission.poll_admit(&mut request, machine);
        assert!(matches!(outcome, Admitting::Refused(Refusal::Evicted)));
        let last = others.last().expect("there are some");
        let mut request = admission.request(last);
        assert!(matches!(admission.poll_admit(&mut request, machine), Admitting::Wait(..)));
    }

    #[test]
    fn the_connection_of_a_policy_that_was_evicted_is_admitted_if_the_robot_is_free() {
        let admission = Admission::new(ServerConfig::default());
        let first = admission.arrive("10.0.0.1:1");
        let mut request = admission.request(&first);
        let _others: Vec<_> =
            (0..64).map(|port| admission.arrive(&format!("10.0.0.1:{port}"))).collect();
        assert!(first.is_evicted());
        assert!(matches!(admission.poll_admit(&mut request, machine), Admitting::Admitted(_)));
    }
}
