//! A client's connection: the machine, and the callers who wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use chiral_proto::client::{Client, Event, Latest, RequestError, RequestKey};
use chiral_proto::{ConnectionError, Map, Observation, ResetResult, StepResult};
use event_listener::EventListener;
use futures_channel::oneshot;

use crate::connection::State;
use crate::error::CallError;

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
    pub(super) fn new(machine: Client) -> Self {
        Self {
            machine,
            calls: HashMap::new(),
            notified: 0,
            stream_error: None,
            silent: false,
            on_observation: event_listener::Event::new(),
            on_plan_low: event_listener::Event::new(),
        }
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
            Event::PlanLow { .. } => {
                self.on_plan_low.notify(usize::MAX);
            }
            Event::Undone(unfit) => tracing::warn!("a setting has been undone: {unfit}"),
            Event::CameraStalled { name, unchanged_for } => {
                tracing::warn!("camera {name:?} has shown the same image for {unchanged_for:.1?}");
            }
            Event::CameraResumed { name, stalled_for } => {
                tracing::info!("camera {name:?} is there again after {stalled_for:.1?}");
            }
            Event::Disconnected(_) => {
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
