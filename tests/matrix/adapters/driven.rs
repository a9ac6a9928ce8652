//! The adapters that are built on chiral-driver differ in how they run a future.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use chiral_driver::{CallError, ConnectError, PolicyClient, PolicyServer, Runtime, ServerConfig};
use chiral_proto::client::{self, Misuse, NotQueued};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult, server,
};
use chiral_tests::{Recorder, SOON};
use futures_channel::oneshot;
use futures_lite::future::or;

use super::calls_that_do_not_wait;
use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};

/// Something that runs futures, and the adapter that fits it.
pub(crate) trait Executor: Send + Sync + 'static {
    /// The adapter.
    type Runtime: Runtime;

    /// Runs a future to its end, in the executor's context.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Runs a future in the background.
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        Self::block_on(async { Self::Runtime::spawn("chiral-tests", task) });
    }
}

/// An adapter on chiral-driver, run by `E`.
pub(crate) struct Driven<E>(PhantomData<fn() -> E>);

impl<E> Driven<E> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Executor> Adapter for Driven<E> {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let config = ServerConfig {
            machine: settings.machine,
            keepalive: settings.keepalive,
            shutdown_timeout: settings.shutdown_timeout,
            robot_threads: robot.blocks(),
        };
        let binding = PolicyServer::<E::Runtime>::bind_with(address, config);
        let server = E::block_on(binding).expect("the loopback has an address left");
        let uri = server.uri().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let (over, is_over) = mpsc::channel();
        let handle = server.clone();
        E::spawn(async move {
            let serve = async { Some(handle.serve(robot).await) };
            let stopped = async {
                // It is never sent to, only dropped.
                let _ = stopped.await;
                None
            };
            if let Some(served) = or(serve, stopped).await {
                // Nobody may be waiting for it.
                let _ = over.send(served);
            }
        });
        Box::new(DrivenServing::<E> { server, uri, is_over: Mutex::new(is_over), _stop: stop })
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let mut builder = PolicyClient::<E::Runtime>::builder()
            .config(settings.machine)
            .keepalive(settings.keepalive);
        if let Some(timeout) = settings.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = settings.request_timeout {
            builder = builder.request_timeout(timeout);
        }
        let client = E::block_on(builder.connect(uri))?;
        Ok(Arc::new(DrivenPolicy::<E>(client)))
    }
}

struct DrivenServing<E: Executor> {
    server: PolicyServer<E::Runtime>,
    uri: String,
    is_over: Mutex<mpsc::Receiver<io::Result<()>>>,
    /// Stops the serving by its drop.
    _stop: oneshot::Sender<Infallible>,
}

impl<E: Executor> Serving for DrivenServing<E> {
    fn uri(&self) -> String {
        self.uri.clone()
    }

    fn shut_down(&self) {
        E::block_on(self.server.shutdown());
        let is_over = self.is_over.lock().expect("it is shut down once");
        let served = is_over.recv_timeout(SOON).expect("who is shut down no longer serves");
        served.expect("serving ends in peace");
    }

    fn stats(&self) -> Option<server::Stats> {
        self.server.stats()
    }
}

struct DrivenPolicy<E: Executor>(PolicyClient<E::Runtime>);

impl<E: Executor> Policy for DrivenPolicy<E> {
    fn another(&self) -> Arc<dyn Policy> {
        Arc::new(Self(self.0.clone()))
    }

    fn metadata(&self) -> Result<Map, CallError> {
        E::block_on(self.0.metadata())
    }

    fn reset(&self) -> Result<ResetResult, CallError> {
        E::block_on(self.0.reset())
    }

    fn observe(&self) -> Result<Arc<Observation>, CallError> {
        E::block_on(self.0.observe())
    }

    fn step(&self, action: Action) -> Result<StepResult, CallError> {
        E::block_on(self.0.step(action))
    }

    fn next_obs_within(&self, timeout: Duration) -> Result<Option<Arc<Observation>>, CallError> {
        let deadline = Instant::now() + timeout;
        let next = async { self.0.next_obs().await.map(Some) };
        let late = async {
            E::Runtime::sleep_until(deadline).await;
            Ok(None)
        };
        E::block_on(or(next, late))
    }

    fn next_obs(&self) -> Result<Arc<Observation>, CallError> {
        E::block_on(self.0.next_obs())
    }

    fn close(&self) {
        E::block_on(self.0.clone().close());
    }

    calls_that_do_not_wait!();
}
