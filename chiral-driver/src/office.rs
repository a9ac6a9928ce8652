use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_proto::ConnectionError;
use chiral_proto::server::{Server, Stats};

use crate::drive::drive;
use crate::operate::{ServerSide, answer_requests, begin, move_robot};
use crate::robot::Robot;
use crate::runtime::{Runtime, by};
use crate::server::ServerConfig;
use crate::shared::{Shared, now};
use crate::transport::Transport;

/// How many handshakes may be going on at once; when another one comes the oldest is given up.
const HANDSHAKES: u64 = 32;
/// How long a policy waits for the one before it that may just be going: its end and the new
/// connection reach the server independently.
const HANDOVER: Duration = Duration::from_millis(250);

/// Sees to it that the robot has one policy at a time.
pub(crate) struct Office {
    pub(crate) config: ServerConfig,
    state: Mutex<State>,
    changed: event_listener::Event,
}

#[derive(Default)]
struct State {
    /// The connection of the policy that has the robot.
    current: Option<Arc<Shared<ServerSide>>>,
    /// Policies that were let in, and those of them with which the robot is done.
    let_in: u64,
    done: u64,
    /// Connections that have come, let in or not.
    arrivals: u64,
    shutting_down: bool,
}

/// Why a policy is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEntry {
    #[error("this robot already has a policy; it takes one at a time")]
    Taken,
    #[error("the robot's server is shutting down")]
    ShuttingDown,
}

impl Office {
    pub(crate) fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default(), changed: event_listener::Event::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify(usize::MAX);
        result
    }

    /// Waits until `ready` finds something in the state.
    async fn until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
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

    /// Notes that a connection has come, and returns its number.
    pub(crate) fn arrive(&self) -> u64 {
        self.change(|state| {
            state.arrivals += 1;
            state.arrivals
        })
    }

    /// Waits until the handshake of a connection, by its number, is not worth going on with.
    pub(crate) async fn until_unwanted(&self, arrival: u64) {
        self.until(|state| {
            let is_unwanted = state.shutting_down || state.arrivals >= arrival + HANDSHAKES;
            is_unwanted.then_some(())
        })
        .await;
    }

    /// Takes the robot for a new connection, if it is free or is just becoming so.
    pub(crate) async fn enter<R: Runtime>(&self) -> Result<Arc<Shared<ServerSide>>, NoEntry> {
        let free = self.until(|state| {
            if state.shutting_down {
                return Some(Err(NoEntry::ShuttingDown));
            }
            // One that only waits for its peer to answer the close no longer has the robot.
            if state.current.as_ref().is_some_and(|current| current.error().is_none()) {
                return None;
            }
            let shared = Shared::new(ServerSide::new(Server::new(self.config.machine.clone())));
            state.current = Some(Arc::clone(&shared));
            Some(Ok(shared))
        });
        by::<R, _>(now() + HANDOVER, free).await.unwrap_or(Err(NoEntry::Taken))
    }

    /// Gives the robot free.
    pub(crate) fn leave(&self, shared: &Arc<Shared<ServerSide>>) {
        self.change(|state| state.current.take_if(|current| Arc::ptr_eq(current, shared)));
    }

    /// Operates the robot for a connection that has [entered](Self::enter), to its end. When this
    /// is dropped, the connection is closed.
    pub(crate) async fn operate<R: Runtime, B: Robot>(
        self: &Arc<Self>,
        shared: Arc<Shared<ServerSide>>,
        transport: impl Transport,
        robot: Arc<B>,
    ) -> ConnectionError {
        let hang_up = HangUp(Arc::clone(&shared));
        let turn = Turn {
            number: self.change(|state| {
                state.let_in += 1;
                state.let_in - 1
            }),
            office: Arc::clone(self),
            shared: Arc::clone(&shared),
        };
        let (office, ended) = (Arc::clone(self), Arc::clone(&shared));
        R::spawn(drive::<R, _>(Arc::clone(&shared), transport, move || office.leave(&ended)));
        let apart = self.config.robot_threads;
        let operating = run::<R>(apart, async move {
            let shared = Arc::clone(&turn.shared);
            turn.has_come().await;
            begin(&shared, &*robot).await;
            let moving = move_robot(Arc::clone(&shared), Arc::clone(&robot));
            let (done, moved) = futures_channel::oneshot::channel::<()>();
            let moving = run::<R>(apart, async move {
                moving.await;
                drop(done);
            });
            check_started(&shared, moving);
            answer_requests(shared, robot).await;
            let _ = moved.await;
            drop(turn);
        });
        check_started(&shared, operating);
        shared.wait_for_end().await;
        drop(hang_up);
        shared.error().unwrap_or(ConnectionError::ClosedLocally)
    }

    /// Takes no more policies, and waits until the one that there is has its answers and the robot
    /// is at rest.
    pub(crate) async fn shut_down(&self) {
        self.take_leave(self.config.shutdown_timeout);
        self.until(|state| {
            let is_at_rest = state.current.is_none() && state.done == state.let_in;
            is_at_rest.then_some(())
        })
        .await;
    }

    /// Takes no more policies, and sends the one that there is away, after `grace` at the latest.
    pub(crate) fn take_leave(&self, grace: Duration) {
        let current = self.change(|state| {
            state.shutting_down = true;
            state.current.clone()
        });
        if let Some(current) = current {
            current.call(|side, now| side.machine.shut_down(now + grace));
        }
    }

    pub(crate) async fn until_shut_down(&self) {
        self.until(|state| state.shutting_down.then_some(())).await;
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.lock().shutting_down
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        let current = self.lock().current.clone()?;
        let side = current.lock();
        Some(side.machine.stats())
    }
}

/// Runs a task of the robot's code, as the settings say.
fn run<R: Runtime>(apart: bool, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    if apart {
        return R::spawn_apart(task);
    }
    R::spawn(task);
    Ok(())
}

/// Ends the connection when the robot's part of it could not be started.
fn check_started(shared: &Shared<ServerSide>, started: io::Result<()>) {
    if let Err(error) = started {
        let why = format!("the system has no thread for it: {error}");
        tracing::error!("the robot failed: {why}");
        shared.call(|side, _| side.machine.fail(why));
    }
}

/// A policy's turn with the robot, from when it was let in until the robot is done with it.
struct Turn {
    number: u64,
    office: Arc<Office>,
    shared: Arc<Shared<ServerSide>>,
}

impl Turn {
    /// Waits until the robot is done with the policies before.
    async fn has_come(&self) {
        self.office.until(|state| (state.done == self.number).then_some(())).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The connection has ended, unless the robot's task could not be run to its end.
        self.shared.call(|side, _| side.machine.close());
        self.office.change(|state| state.done += 1);
    }
}

/// Closes a connection, if it is not closed yet, once nobody serves it any more.
struct HangUp(Arc<Shared<ServerSide>>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.call(|side, _| side.machine.close());
    }
}
