//! The adapters that are built on chiral-driver differ in how they run a future.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::{Recorder, SOON};
use chiral_driver::client::ConnectionEvent;
use chiral_driver::{
    Builder, CallError, ConnectError, PolicyClient, PolicyServer, Robot, Runtime, ServerConfig,
};
use chiral_proto::client::{self, Misuse, NotFresh, NotQueued};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult, server,
};
use futures_channel::oneshot;
use futures_lite::future::or;

use super::calls_that_do_not_wait;
use crate::adapter::{
    Adapter, AfterEach, ClientSettings, MakeAction, Policy, ServerSettings, Serving,
};

/// Something that runs futures, and the adapter that fits it.
pub trait Executor: Send + Sync + 'static {
    /// The adapter.
    type Runtime: Runtime;

    /// Runs a future to its end, in the executor's context.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Runs a task, and blocks this thread until it is done. What is timed runs so: a future that
    /// this thread polled would cost wake-ups between it and the executor.
    ///
    /// # Panics
    /// When the task panics.
    fn run<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        Self::spawn(async move {
            // This very thread receives it.
            let _ = done.send(task.await);
        });
        result.recv().expect("the task does not panic")
    }

    /// Runs a future in the background.
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        Self::block_on(async { Self::Runtime::spawn("chiral-tests", task) });
    }
}

/// An adapter on chiral-driver, run by `E`.
pub struct Driven<E>(PhantomData<fn() -> E>);

impl<E> Driven<E> {
    /// The adapter.
    #[expect(clippy::new_without_default, reason = "it is for constants")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Executor> Driven<E> {
    /// Binds a server and serves the robot that is made for it, in the background.
    ///
    /// # Errors
    /// When it cannot listen at the address, or there is no robot.
    pub fn start<R: Robot>(
        &self,
        address: &str,
        config: ServerConfig,
        robot: impl FnOnce(&PolicyServer<E::Runtime>) -> io::Result<R>,
    ) -> io::Result<Box<dyn Serving>> {
        let server = E::block_on(PolicyServer::<E::Runtime>::bind_with(address, config))?;
        let robot = robot(&server)?;
        Ok(self.serve_on(server, robot))
    }

    /// Serves a robot on a server, in the background.
    ///
    /// # Panics
    /// When the server listens nowhere.
    pub fn serve_on(
        &self,
        server: PolicyServer<E::Runtime>,
        robot: impl Robot,
    ) -> Box<dyn Serving> {
        let uri = server.uri().expect("it listens");
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
        let is_over = Mutex::new(is_over);
        Box::new(DrivenServing::<E> { server, uri, is_over, _stop: stop })
    }

    /// A server's settings.
    pub fn config(&self, robot: &Recorder, settings: ServerSettings) -> ServerConfig {
        ServerConfig {
            machine: settings.machine,
            keepalive: settings.keepalive,
            shutdown_timeout: settings.shutdown_timeout,
            take_over: settings.take_over,
            accept: settings.accept,
            token: settings.token,
            tls: settings.tls,
            robot_threads: robot.blocks(),
            ..ServerConfig::default()
        }
    }

    /// A policy's settings.
    pub fn builder(&self, settings: ClientSettings) -> Builder<E::Runtime> {
        settings.into()
    }

    /// A policy on a client that is connected already.
    pub fn policy(&self, client: PolicyClient<E::Runtime>) -> Arc<dyn Policy> {
        Arc::new(DrivenPolicy::<E>(client))
    }
}

impl<E: Executor> Adapter for Driven<E> {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let config = self.config(&robot, settings);
        self.start(address, config, |_| Ok(robot)).expect("the loopback has an address left")
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(E::block_on(self.builder(settings).connect(uri))?))
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

    fn arm(&self) -> bool {
        self.server.arm()
    }

    fn stop_motion(&self) -> bool {
        self.server.stop_motion()
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
            E::Runtime::timer(deadline).await;
            Ok(None)
        };
        E::block_on(or(next, late))
    }

    fn next_obs(&self) -> Result<Arc<Observation>, CallError> {
        E::block_on(self.0.next_obs())
    }

    fn plan_low(&self) -> Result<(), CallError> {
        E::block_on(self.0.plan_low())
    }

    fn next_connection_event_within(&self, timeout: Duration) -> Option<ConnectionEvent> {
        let late = async {
            E::Runtime::timer(Instant::now() + timeout).await;
            None
        };
        E::block_on(or(self.0.next_connection_event(), late))
    }

    fn close(&self) {
        E::block_on(self.0.clone().close());
    }

    fn time_observations(
        &self,
        count: usize,
        mut after: AfterEach,
    ) -> Result<Vec<Duration>, CallError> {
        let client = self.0.clone();
        E::run(async move {
            let mut took = Vec::with_capacity(count);
            for done in 1..=count {
                let asked = Instant::now();
                client.observe().await?;
                took.push(asked.elapsed());
                after(done);
            }
            Ok(took)
        })
    }

    fn send_actions(
        &self,
        rate: Rate,
        end: Instant,
        mut action: MakeAction,
    ) -> Result<(), NotQueued> {
        let client = self.0.clone();
        E::run(async move {
            let mut next = Instant::now();
            while next < end {
                client.send_action(action())?;
                next = (next + rate.period()).max(Instant::now());
                E::Runtime::timer(next).await;
            }
            Ok(())
        })
    }

    calls_that_do_not_wait!();
}
