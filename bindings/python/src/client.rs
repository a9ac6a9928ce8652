//! The policy's client. Everything that runs at a rate runs in the client's own threads; these calls
//! only exchange references with them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chiral_blocking::proto::client::{Config, ConnectionState, Reconnect};
use chiral_blocking::proto::timeline::{
    Anchor, FollowOptions, Merge, Placement, Starved, Weights, WhenLate,
};
use chiral_blocking::proto::ws::Keepalive;
use chiral_blocking::proto::{ActionDeclaration, Map, Observation, Rate, ResetResult, StepResult};
use chiral_blocking::{CallError, CancelToken, ConnectError, Pending, PolicyClient};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySlice, PyTuple};

use crate::connection_event::Callbacks;
use crate::fork::OfProcess;
use crate::memory::PythonMemory;
use crate::observation::{basis, to_python};
use crate::places::HandedOut;
use crate::{action, connection_event, contract, error, log, security, stats, value, wait};

/// How long the queue of actions may become before that is told.
const LONG_QUEUE: usize = 1000;
/// Observation, reward, terminated, truncated, info.
type Stepped = (Py<PyAny>, f64, bool, bool, Py<PyDict>);

/// How long a close waits for the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) fn rate(hz: f64) -> PyResult<Rate> {
    Rate::hz(hz).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A connection that is being made, in a thread of its own, which can be given up.
#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct Connecting {
    outcome: OfProcess<Arc<Outcome>>,
    cancel: CancelToken,
}

#[derive(Default)]
struct Outcome {
    found: Mutex<Option<Result<PolicyClient, ConnectError>>>,
    is_there: std::sync::Condvar,
    /// What is waited for, in words.
    waiting: Mutex<Option<(f64, String)>>,
}

#[pymethods]
impl Connecting {
    #[new]
    #[pyo3(signature = (
        uri, *, connect_timeout, request_timeout, queue_capacity, max_age, stream_window, keepalive,
        headers, token, tls, reconnect, on_disconnect, on_reconnect,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        uri: String,
        connect_timeout: Option<f64>,
        request_timeout: Option<f64>,
        queue_capacity: Option<usize>,
        max_age: Option<f64>,
        stream_window: usize,
        keepalive: Option<f64>,
        headers: Vec<(String, String)>,
        token: &Bound<'_, PyAny>,
        tls: &Bound<'_, PyAny>,
        reconnect: &Bound<'_, PyAny>,
        on_disconnect: Option<Py<PyAny>>,
        on_reconnect: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        log::start();
        let request_timeout = wait::duration(request_timeout, "a request_timeout")?;
        let config = Config {
            queue_capacity: queue_capacity.unwrap_or(usize::MAX),
            queue_warning: queue_capacity.is_none().then_some(LONG_QUEUE),
            max_age: wait::duration(max_age, "a max_age")?,
            request_timeout,
            motion_timeout: request_timeout,
            stream_window,
            ..Config::default()
        };
        let outcome = Arc::new(Outcome::default());
        let (cancel, waiting) = (CancelToken::new(), Arc::downgrade(&outcome));
        let mut builder = PolicyClient::builder()
            .config(config)
            .memory(PythonMemory)
            .cancel(cancel.clone())
            .keepalive(keepalive_of(keepalive)?)
            .on_waiting(move |now| {
                if let Some(outcome) = waiting.upgrade() {
                    let told = Some((now.waited.as_secs_f64(), now.found.to_owned()));
                    *outcome.waiting.lock().unwrap_or_else(PoisonError::into_inner) = told;
                }
            });
        if let Some(timeout) = wait::duration(connect_timeout, "a connect_timeout")? {
            builder = builder.connect_timeout(timeout);
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        if let Some(token) = security::token(token)? {
            builder = builder.token(token);
        }
        if let Some(tls) = security::tls_client(tls)? {
            builder = builder.tls(tls);
        }
        builder = builder.reconnect(reconnect_of(reconnect)?);
        if on_disconnect.is_some() || on_reconnect.is_some() {
            let callbacks = Callbacks { on_disconnect, on_reconnect };
            builder = builder.on_connection(connection_event::hook(callbacks)?);
        }
        let (connected, cancelled) = (Arc::clone(&outcome), cancel.clone());
        std::thread::Builder::new().name("chiral-connect".to_owned()).spawn(move || {
            let found = builder.connect(&uri);
            let mut slot = connected.found.lock().unwrap_or_else(PoisonError::into_inner);
            // Of a client that nobody wants the drop, outside of the lock, closes the connection.
            let unwanted = if cancelled.is_cancelled() { Some(found) } else { slot.replace(found) };
            drop(slot);
            connected.is_there.notify_all();
            drop(unwanted);
        })?;
        Ok(Self { outcome: OfProcess::new(outcome), cancel })
    }

    /// The client, when it is there within so many seconds.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<Client>> {
        let outcome = self.outcome.check("connection")?;
        let found = wait::wait(py, wait::deadline(Some(seconds))?, |piece| {
            let found = outcome.found.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = outcome.is_there.wait_timeout_while(found, piece, |found| found.is_none());
            waited.unwrap_or_else(PoisonError::into_inner).0.take()
        })?;
        match found {
            None => Ok(None),
            Some(Ok(client)) => Ok(Some(Client::new(client))),
            Some(Err(error)) => Err(error::of_connect(py, &error)),
        }
    }

    /// For how many seconds something stood in the way, and what; None within the first second.
    fn waiting(&self) -> Option<(f64, String)> {
        self.outcome.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub(crate) fn keepalive_of(seconds: Option<f64>) -> PyResult<Option<Keepalive>> {
    let keepalive = wait::duration(seconds, "a keepalive")?;
    Ok(keepalive.map(|time| Keepalive { interval: time, timeout: time }))
}

/// What the dataclass `Reconnect` says.
fn reconnect_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Reconnect>> {
    if object.is_none() {
        return Ok(None);
    }
    let seconds = |name: &str| wait::duration(object.getattr(name)?.extract()?, name);
    let longest = |found: Option<Duration>| found.unwrap_or(Duration::MAX);
    Ok(Some(Reconnect {
        initial: longest(seconds("initial")?),
        max: longest(seconds("max")?),
        give_up_after: seconds("give_up_after")?,
        hold_calls: object.getattr("hold_calls")?.is_truthy()?,
    }))
}

/// A URI without what may be secret in it.
#[pyfunction]
pub(crate) fn redacted(uri: &str) -> String {
    chiral_blocking::proto::ws::redacted(uri)
}

#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct Client {
    client: OfProcess<RwLock<Option<Arc<PolicyClient>>>>,
    handed_out: Mutex<HandedOut<Py<PyAny>>>,
}

impl Client {
    fn new(client: PolicyClient) -> Self {
        let client = OfProcess::new(RwLock::new(Some(Arc::new(client))));
        Self { client, handed_out: Mutex::default() }
    }

    fn get(&self, py: Python<'_>) -> PyResult<Arc<PolicyClient>> {
        let client = self.client.check("client")?.read().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| {
            let text = "this client is closed: call `connect` again";
            error::closed(py, text, &chiral_blocking::proto::ConnectionError::ClosedLocally)
        })
    }

    fn take(&self) -> Option<Arc<PolicyClient>> {
        self.client.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for the answer to a request.
    fn answer<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        request: impl FnOnce(&PolicyClient) -> Result<Pending<T>, CallError>,
    ) -> PyResult<T> {
        let client = self.get(py)?;
        let deadline = wait::deadline(timeout)?;
        let mut pending = request(&client).map_err(|error| error::of_call(py, &error))?;
        client.send_requests();
        let answer = wait::wait(py, deadline, |piece| pending.wait_for(piece))?;
        if let Some(answer) = answer {
            return answer.map_err(|error| error::of_call(py, &error));
        }
        let seconds = timeout.unwrap_or_default();
        let text = format!("no answer within {seconds} s: the robot may still be at it");
        Err(error::exception(py, "RequestTimeout", text))
    }

    fn handed_out(&self) -> MutexGuard<'_, HandedOut<Py<PyAny>>> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Python object of an observation: the same one as before for the same observation.
    fn hand_out(&self, py: Python<'_>, observation: Arc<Observation>) -> PyResult<Py<PyAny>> {
        let mut handed_out = self.handed_out();
        if let Some(object) = handed_out.last(&observation) {
            return Ok(object.clone_ref(py));
        }
        let places = handed_out.places(&observation);
        let old = handed_out.set_last(None);
        drop(handed_out);
        // Its memory may be that of an observation to come. Its drop may run code of the program's.
        drop(old);
        let stamp = observation.stamp.clone();
        let object = to_python(py, observation, places)?;
        let old = self.handed_out().set_last(Some((stamp, object.clone_ref(py))));
        drop(old);
        Ok(object)
    }
}

#[pymethods]
impl Client {
    fn metadata(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyDict>> {
        let map: Map = self.answer(py, timeout, |client| client.request_metadata())?;
        Ok(value::to_dict(py, &map)?.unbind())
    }

    fn reset(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(Py<PyAny>, Py<PyDict>)> {
        let result: ResetResult = self.answer(py, timeout, |client| client.request_reset())?;
        let info = value::to_dict(py, &result.info)?.unbind();
        Ok((self.hand_out(py, Arc::new(result.observation))?, info))
    }

    fn observe(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let observation = self.answer(py, timeout, |client| client.request_observation())?;
        self.hand_out(py, observation)
    }

    fn step(
        &self,
        py: Python<'_>,
        action: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Stepped> {
        let action = action::action(action)?;
        let result: StepResult = self.answer(py, timeout, |client| client.request_step(action))?;
        let StepResult { observation, reward, terminated, truncated, info } = result;
        let info = value::to_dict(py, &info)?.unbind();
        Ok((self.hand_out(py, Arc::new(observation))?, reward, terminated, truncated, info))
    }

    fn latest_obs(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let latest = self.get(py)?.latest_obs();
        latest.map(|latest| self.hand_out(py, latest)).transpose()
    }

    fn next_obs(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let client = self.get(py)?;
        let next =
            wait::wait(py, wait::deadline(timeout)?, |piece| client.next_obs(piece).transpose())?;
        match next {
            None => Ok(None),
            Some(Ok(observation)) => Ok(Some(self.hand_out(py, observation)?)),
            Some(Err(error)) => Err(error::of_call(py, &error)),
        }
    }

    fn start_obs_stream(&self, py: Python<'_>, hz: f64) -> PyResult<()> {
        let started = self.get(py)?.start_obs_stream(rate(hz)?);
        started.map_err(|error| error::of_misuse(py, &error))
    }

    fn stop_obs_stream(&self, py: Python<'_>) -> PyResult<()> {
        self.get(py)?.stop_obs_stream();
        Ok(())
    }

    // These calls keep the interpreter's lock: to get it back can take as long as another thread
    // computes, and they take microseconds.

    fn put_action(&self, py: Python<'_>, action: &Bound<'_, PyAny>) -> PyResult<()> {
        let put = self.get(py)?.put_action(action::action(action)?);
        put.map_err(|error| error::not_queued(py, &error))
    }

    fn send_action(&self, py: Python<'_>, action: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = self.get(py)?.send_action(action::action(action)?);
        sent.map_err(|error| error::not_queued(py, &error))
    }

    fn put_chunk(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyAny>,
        actions: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (basis, rows) = (basis(observation)?, action::rows(actions)?);
        let put = self.get(py)?.put_chunk(&basis, rows);
        put.map_err(|error| error::not_queued(py, &error))
    }

    fn replace_actions(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyAny>,
        actions: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let (basis, rows) = (basis(observation)?, action::rows(actions)?);
        let replaced = self.get(py)?.replace_actions(&basis, rows);
        replaced.map_err(|error| error::not_queued(py, &error))
    }

    #[pyo3(signature = (observation, actions, *, anchor, merge, average_only, max_delay, when_late))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn follow(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyAny>,
        actions: &Bound<'_, PyAny>,
        anchor: &Bound<'_, PyAny>,
        merge: &Bound<'_, PyAny>,
        average_only: Option<Vec<usize>>,
        max_delay: Option<u64>,
        when_late: &str,
    ) -> PyResult<Py<PyAny>> {
        let (basis, rows) = (basis(observation)?, action::rows(actions)?);
        let mut options = FollowOptions::new().anchor(anchor_of(anchor)?).merge(merge_of(merge)?);
        if let Some(dimensions) = average_only {
            options = options.average_only(dimensions);
        }
        if let Some(steps) = max_delay {
            options = options.max_delay(steps, when_late_of(when_late)?);
        }
        let placed = self.get(py)?.follow_with(&basis, rows, &options);
        let placed = placed.map_err(|error| error::not_queued(py, &error))?;
        placement(py, &placed)
    }

    fn plan_context(&self, py: Python<'_>, observation: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let context = self.get(py)?.plan_context(&*basis(observation)?);
        let context = context.map_err(|error| error::exception(py, "ActionRejected", error))?;
        let types = py.import("chiral._types")?;
        let span = types.getattr("Span")?;
        let spans = context.spans.iter().map(|found| {
            let rows = found.rows();
            let rows = PySlice::new(py, rows.start as isize, rows.end as isize, 1);
            span.call1((found.chunk.number(), rows))
        });
        let spans = PyTuple::new(py, spans.collect::<PyResult<Vec<_>>>()?)?;
        let made = types.getattr("PlanContext")?.call1((
            context.base,
            spans,
            (context.delay.min, context.delay.max),
            context.expected_delay,
        ))?;
        Ok(made.unbind())
    }

    fn refill_at(&self, py: Python<'_>, rows: usize) -> PyResult<()> {
        self.get(py)?.refill_at(rows);
        Ok(())
    }

    fn plan_low(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let client = self.get(py)?;
        let low = wait::wait(py, wait::deadline(timeout)?, |piece| match client.plan_low(piece) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })?;
        low.transpose().map_err(|error| error::of_call(py, &error)).map(|low| low.is_some())
    }

    fn set_starved(&self, py: Python<'_>, starved: &Bound<'_, PyAny>) -> PyResult<()> {
        let starved = match starved.extract::<String>().ok().as_deref() {
            _ if starved.is_none() => Starved::SendNothing,
            Some("repeat") => Starved::Repeat,
            Some("declared") => Starved::Declared,
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "found {other:?}, expected None, \"repeat\", \"declared\" or an action"
                )));
            }
            None => Starved::Hold(action::action(starved)?),
        };
        let set = self.get(py)?.set_starved(starved);
        set.map_err(|error| error::of_misuse(py, &error))
    }

    fn interpolate(&self, py: Python<'_>, points: u32) -> PyResult<()> {
        let set = self.get(py)?.interpolate(points);
        set.map_err(|error| error::of_misuse(py, &error))
    }

    fn declare_actions(
        &self,
        py: Python<'_>,
        kind: &str,
        hold: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut declared = ActionDeclaration::new(contract::action_kind(kind)?);
        if let Some(hold) = hold {
            declared = declared.hold(action::action(hold)?);
        }
        self.get(py)?.declare_actions(declared);
        Ok(())
    }

    fn clear_actions(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.clear_actions())
    }

    fn queued_actions(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.queued_actions())
    }

    fn start_action_dispatch(&self, py: Python<'_>, hz: f64) -> PyResult<()> {
        let started = self.get(py)?.start_action_dispatch(rate(hz)?);
        started.map_err(|error| error::of_misuse(py, &error))
    }

    fn stop_action_dispatch(&self, py: Python<'_>) -> PyResult<()> {
        self.get(py)?.stop_action_dispatch();
        Ok(())
    }

    fn is_silent(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get(py)?.is_silent())
    }

    /// Why the connection has ended, in words.
    fn error(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.get(py)?.error().map(|error| error.to_string()))
    }

    fn connection_state(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match self.get(py)?.connection_state() {
            ConnectionState::Connected => "connected",
            ConnectionState::Interrupted { .. } => "interrupted",
            ConnectionState::Closing => "closing",
            _ => "ended",
        })
    }

    /// What has happened to the connection next; `None` at the timeout, and when it has ended and
    /// that was told.
    fn next_connection_event(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let client = self.get(py)?;
        let event = wait::wait(py, wait::deadline(timeout)?, |piece| {
            // Looked at first: the end may come, and is to be told, behind the wait.
            let has_ended = client.error().is_some();
            let event = client.next_connection_event(piece);
            (event.is_some() || has_ended).then_some(event)
        })?;
        let event = event.flatten().map(|event| connection_event::to_python(py, &event));
        Ok(event.transpose()?.flatten())
    }

    fn action_spec(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        contract::to_python(py, &self.get(py)?.contract())
    }

    fn contract_status(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let status = self.get(py)?.contract_status();
        status.map(|status| contract::status_to_python(py, &status)).transpose()
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        stats::of_client(py, &self.get(py)?.stats())
    }

    /// Closes the connection, and waits until the server knows.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.client.is_usable() {
            return Ok(());
        }
        let old = self.handed_out().set_last(None);
        drop(old);
        let Some(client) = self.take() else { return Ok(()) };
        client.start_closing();
        let deadline = wait::deadline(Some(CLOSE_TIMEOUT.as_secs_f64()))?;
        let connection = Arc::clone(client.connection());
        let waited = wait::wait(py, deadline, |piece| {
            let until = std::time::Instant::now() + piece;
            connection.wait_until_finished_blocking(until).then_some(())
        });
        match waited {
            // The last handle's drop waits for the threads, which have nothing left to do.
            Ok(Some(())) => py.detach(move || drop(client)),
            Ok(None) | Err(_) => drop_elsewhere(client),
        }
        waited.map(|_| ())
    }
}

impl Drop for Client {
    // Collected without having been closed.
    fn drop(&mut self) {
        if self.client.is_usable()
            && let Some(client) = self.take()
        {
            client.start_closing();
            drop_elsewhere(client);
        }
    }
}

/// The drop of a client's last handle waits for its threads; that is not to hold anybody up.
fn drop_elsewhere(client: Arc<PolicyClient>) {
    // Without a thread the closure is dropped here, and so it waits.
    let thread = std::thread::Builder::new().name("chiral-close".to_owned());
    let _ = thread.spawn(move || drop(client));
}

fn placement(py: Python<'_>, placed: &Placement) -> PyResult<Py<PyAny>> {
    let options = PyDict::new(py);
    options.set_item("chunk", placed.chunk.number())?;
    options.set_item("base", placed.base)?;
    options.set_item("skipped", placed.skipped)?;
    options.set_item("delay", placed.delay.map(|delay| (delay.min, delay.max)))?;
    options.set_item("kept", placed.kept)?;
    options.set_item("blended", placed.blended)?;
    options.set_item("replaced", placed.replaced)?;
    options.set_item("first", placed.first)?;
    options.set_item("late", placed.late)?;
    options.set_item("discarded", placed.discarded)?;
    let class = py.import("chiral._types")?.getattr("Placement")?;
    Ok(class.call((), Some(&options))?.unbind())
}

fn anchor_of(object: &Bound<'_, PyAny>) -> PyResult<Anchor> {
    if let Ok(step) = object.extract::<u64>() {
        return Ok(Anchor::At(step));
    }
    match object.extract::<String>().ok().as_deref() {
        Some("observation") => Ok(Anchor::Observation),
        Some("next") => Ok(Anchor::Next),
        Some("end") => Ok(Anchor::End),
        _ => Err(PyValueError::new_err(format!(
            "found the anchor {object}, expected \"observation\", \"next\", \"end\" or the number of a \
             step"
        ))),
    }
}

fn merge_of(object: &Bound<'_, PyAny>) -> PyResult<Merge> {
    match object.extract::<String>().ok().as_deref() {
        Some("replace") => return Ok(Merge::Replace),
        Some("append") => return Ok(Merge::Append),
        _ => {}
    }
    let (kind, value): (String, f64) = object.extract().map_err(|_| unknown_merge(object))?;
    let count = value as usize;
    match &*kind {
        "keep_first" => Ok(Merge::KeepFirst(count)),
        "blend" => Ok(Merge::Blend(Weights::Constant(value))),
        "crossfade" => Ok(Merge::Blend(Weights::Crossfade(count))),
        "ensemble" => Ok(Merge::TemporalEnsemble { m: value }),
        _ => Err(unknown_merge(object)),
    }
}

fn unknown_merge(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "found the merge {object}, expected \"replace\", \"append\", (\"keep_first\", rows), \
         (\"blend\", weight), (\"crossfade\", steps) or (\"ensemble\", m)"
    ))
}

fn when_late_of(name: &str) -> PyResult<WhenLate> {
    match name {
        "play" => Ok(WhenLate::Play),
        "discard" => Ok(WhenLate::Discard),
        other => Err(PyValueError::new_err(format!(
            "found when_late {other:?}, expected \"play\" or \"discard\""
        ))),
    }
}
