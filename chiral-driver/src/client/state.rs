//! A client's connection: the machine, and the callers who wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chiral_proto::client::{
    Client, ConnectionState, Event, Latest, Misuse, RequestError, RequestKey,
};
use chiral_proto::{ArmingState, ConnectionError, Map, Observation, ResetResult, StepResult};
use event_listener::EventListener;
use futures_channel::oneshot;

use super::connection_event::{ConnectionEvent, ConnectionEvents};
use super::settings::ClientSettings;
use crate::connection::{Connection, State};
use crate::error::CallError;
use crate::robot::wait;
use crate::transport::Extension;

/// The client's machine, and the callers who wait for it.
pub struct ClientState {
    pub(super) machine: Client,
    calls: HashMap<RequestKey, Call>,
    /// The number of the newest observation of which those who wait were notified.
    notified: u64,
    /// The stream got no answer in time, and nobody was told yet.
    stream_error: Option<RequestError>,
    /// Nothing comes from the server although something is waited for.
    silent: bool,
    /// Notified by each observation, and at the end.
    on_observation: event_listener::Event,
    /// Notified when few rows of the plan are left, and at the end.
    on_plan_low: event_listener::Event,
    connection_events: ConnectionEvents,
    /// Notified by each event of the connection.
    on_connection: event_listener::Event,
    /// How often connecting again was tried in the outage that is just over.
    attempts: u32,
    /// What the transport has beyond its frames.
    extension: Option<Extension>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, RequestError>>;

/// Who waits for the answer to a request.
pub(super) enum Call {
    Metadata(Answer<Map>),
    Reset(Answer<ResetResult>),
    Observe(Answer<Arc<Observation>>),
    Step(Answer<StepResult>),
}

impl ClientState {
    pub(super) fn new(machine: Client, extension: Option<Extension>) -> Self {
        Self {
            machine,
            calls: HashMap::new(),
            notified: 0,
            stream_error: None,
            silent: false,
            on_observation: event_listener::Event::new(),
            on_plan_low: event_listener::Event::new(),
            connection_events: ConnectionEvents::default(),
            on_connection: event_listener::Event::new(),
            attempts: 0,
            extension,
        }
    }

    /// Why a call that waits for the robot fails now, if it does.
    pub(super) fn check_awaited(&self) -> Result<(), CallError> {
        if self.machine.error().is_none() {
            return Ok(());
        }
        match self.machine.connection_state() {
            ConnectionState::Ended { error } => Err(RequestError::Disconnected(error).into()),
            ConnectionState::Interrupted { error, .. } if !self.machine.holds_calls() => {
                Err(Misuse::Interrupted(error).into())
            }
            _ => Ok(()),
        }
    }

    /// The next event of the connection behind the first `seen`, and how many are seen with it.
    /// `Err` with what to wait for, or with nothing if none will come.
    pub(super) fn connection_event(
        &self,
        seen: u64,
    ) -> Result<(ConnectionEvent, u64), Option<EventListener>> {
        self.connection_events
            .after(seen)
            .map_err(|has_ended| (!has_ended).then(|| self.on_connection.listen()))
    }

    pub(super) fn extension(&self) -> Option<Extension> {
        self.extension.clone()
    }

    fn tell_connection(&mut self, event: ConnectionEvent) {
        self.connection_events.push(event);
        self.on_connection.notify(usize::MAX);
    }

    /// Notes who waits for the answer to a request.
    pub(super) fn register_call(&mut self, id: RequestKey, call: Call) {
        self.calls.insert(id, call);
    }

    /// The newest observation.
    pub(super) fn latest(&self) -> Option<&Latest> {
        self.machine.latest_observation()
    }

    /// Why the stream brings nothing, if that was not told yet.
    pub(super) fn take_stream_error(&mut self) -> Option<RequestError> {
        self.stream_error.take()
    }

    /// Whether nothing comes from the server although something is waited for.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn listen(&self) -> EventListener {
        self.on_observation.listen()
    }

    pub(super) fn listen_plan_low(&self) -> EventListener {
        self.on_plan_low.listen()
    }

    // A caller who no longer waits has dropped the other end; the answer goes with it.
    fn answer(&mut self, event: Event) {
        match event {
            Event::Metadata { id, metadata } => {
                if let Some(Call::Metadata(caller)) = self.calls.remove(&id.key()) {
                    let _ = caller.send(Ok(metadata));
                }
            }
            Event::Reset { id, result } => {
                if let Some(Call::Reset(caller)) = self.calls.remove(&id.key()) {
                    let _ = caller.send(Ok(result));
                }
            }
            Event::Observation { id, observation } => {
                if let Some(Call::Observe(caller)) = self.calls.remove(&id.key()) {
                    let _ = caller.send(Ok(observation));
                }
            }
            Event::Step { id, result } => {
                if let Some(Call::Step(caller)) = self.calls.remove(&id.key()) {
                    let _ = caller.send(Ok(result));
                }
            }
            Event::Failed { id, error } => self.fail(id, error),
            Event::StreamTimedOut(error) => {
                tracing::warn!("the observation stream got no answer: {error}");
                self.stream_error = Some(error);
                self.on_observation.notify(usize::MAX);
            }
            Event::Silent { silent_for } => {
                tracing::warn!("nothing has come from the robot for {silent_for:.1?}");
                self.silent = true;
            }
            Event::Resumed { silent_for } => {
                tracing::info!("the robot is there again after {silent_for:.1?}");
                self.silent = false;
            }
            Event::Undispatched { queued } => tracing::warn!(
                "{queued} {} in the queue and nothing sends them: call `start_action_dispatch`, or \
                 use `send_action`, which needs no queue",
                if queued == 1 { "action waits" } else { "actions wait" },
            ),
            Event::QueueLong { queued } => tracing::warn!(
                "{queued} actions wait in the queue: they are put faster than they are sent, so that \
                 each leaves later than the one before; put them at the rate of the dispatch, or \
                 replace the old ones",
            ),
            Event::PlanLow { .. } => {
                self.on_plan_low.notify(usize::MAX);
            }
            Event::Undone(unfit) => tracing::warn!("a setting has been undone: {unfit}"),
            Event::ArmingChanged(state) => log_arming(state),
            Event::CameraStalled { name, unchanged_for } => {
                tracing::warn!("camera {name:?} has shown the same image for {unchanged_for:.1?}");
            }
            Event::CameraResumed { name, stalled_for } => {
                tracing::info!("camera {name:?} is there again after {stalled_for:.1?}");
            }
            Event::Interrupted(error) => {
                self.silent = false;
                self.stream_error = None;
                self.on_observation.notify(usize::MAX);
                self.on_plan_low.notify(usize::MAX);
                self.tell_connection(ConnectionEvent::Disconnected { error });
            }
            Event::Reconnected { down_for } => {
                let event = ConnectionEvent::Reconnected { attempts: self.attempts, down_for };
                tracing::info!("{event}");
                self.on_plan_low.notify(usize::MAX);
                self.tell_connection(event);
            }
            Event::ContractChanged { before, after } => {
                let event = ConnectionEvent::ContractChanged { before, after };
                tracing::warn!("{event}");
                self.tell_connection(event);
            }
            Event::Disconnected(error) => {
                self.tell_connection(ConnectionEvent::Ended { error });
                self.on_observation.notify(usize::MAX);
                self.on_plan_low.notify(usize::MAX);
            }
            _ => {}
        }
    }

    fn fail(&mut self, id: RequestKey, error: RequestError) {
        let _ = match self.calls.remove(&id) {
            Some(Call::Metadata(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Reset(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Observe(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Step(caller)) => caller.send(Err(error)).is_ok(),
            None => false,
        };
    }
}

impl Connection<ClientState> {
    /// Whether there is a connection, and what has become of it if not.
    pub(super) fn state(&self) -> ConnectionState {
        self.lock().machine.connection_state()
    }

    /// Another transport is connected, after so many tries.
    pub(super) fn begin(&self, attempts: u32, extension: Option<Extension>) {
        self.call(|state, now| {
            state.attempts = attempts;
            state.extension = extension;
            state.machine.begin_connection(now);
        });
    }

    /// No transport will be connected any more, if none is.
    pub(super) fn give_up(&self, reason: ConnectionError) {
        self.call(|state, now| {
            if state.machine.is_interrupted() {
                state.machine.give_up(now, reason);
            }
        });
    }

    /// Calls the user's hook with what has happened, in its order. Only who drives the connection
    /// calls this.
    pub(super) fn call_hook(&self, settings: &ClientSettings) {
        let next = || self.lock().connection_events.next_for_hook();
        while let Some(event) = next() {
            settings.on_connection.call(&event);
        }
    }
}

/// Tells the log whether the robot takes actions.
fn log_arming(state: ArmingState) {
    match state {
        ArmingState::Stopped => tracing::warn!(
            "the robot is stopped and takes no action until it is armed again; what was queued has \
             been dropped"
        ),
        ArmingState::Disarmed => {
            tracing::warn!("the robot is disarmed and takes no action until it is armed");
        }
        state => tracing::debug!("the robot is {state}"),
    }
}

impl State for ClientState {
    type Machine = Client;

    fn machine(&mut self) -> &mut Client {
        &mut self.machine
    }

    fn dispatch_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.answer(event);
        }
        let latest = self.latest().map_or(0, |latest| latest.number);
        if std::mem::replace(&mut self.notified, latest) != latest {
            self.stream_error = None;
            self.on_observation.notify(usize::MAX);
        }
    }
}

/// The answer to a request, which is still to come: a future.
///
/// Dropping it gives the answer up; the request stays made.
#[must_use = "the request is made; its answer is here"]
pub struct Pending<T>(oneshot::Receiver<Result<T, RequestError>>);

impl<T> Pending<T> {
    /// Blocks until the answer comes; `None` when it has not in this time, and is to be waited for
    /// on. So a caller can look for something else now and then. Not to be called again after the
    /// answer has come.
    pub fn wait_for(&mut self, timeout: Duration) -> Option<Result<T, CallError>> {
        wait(self, timeout)
    }

    pub(super) fn new() -> (Answer<T>, Self) {
        let (answer, receiver) = oneshot::channel();
        (answer, Self(receiver))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let dropped = || RequestError::Disconnected(ConnectionError::ClosedLocally);
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or_else(|_| Err(dropped())).map_err(CallError::from))
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}
