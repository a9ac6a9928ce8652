use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_proto::ConnectionError;
use chiral_proto::server::{Server, Stats};

use crate::drive::drive;
use crate::operate::{ServerSide, answer_requests, move_robot};
use crate::robot::Robot;
use crate::runtime::{Runtime, by};
use crate::server::ServerConfig;
use crate::shared::{Shared, now};
use crate::transport::Transport;

/// How many handshakes may be going on at once; the next connection waits for one to end.
const HANDSHAKES: usize = 32;
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
    /// Connections whose robot tasks have not finished: the current one's, and one before it.
    operating: usize,
    handshakes: usize,
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

    /// Waits until one more handshake may go on.
    pub(crate) async fn begin_handshake(&self) {
        self.until(|state| {
            let free = state.handshakes < HANDSHAKES;
            state.handshakes += usize::from(free);
            free.then_some(())
        })
        .await;
    }

    pub(crate) fn end_handshake(&self) {
        self.change(|state| state.handshakes -= 1);
    }

    /// Takes the robot for a new connection, if it is free or is just becoming so.
    pub(crate) async fn enter<R: Runtime>(&self) -> Result<Arc<Shared<ServerSide>>, NoEntry> {
        let free = self.until(|state| {
            if state.shutting_down {
                return Some(Err(NoEntry::ShuttingDown));
            }
            if state.current.is_some() {
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

    /// Operates the robot for a connection that has [entered](Self::enter), to its end.
    pub(crate) async fn operate<R: Runtime, B: Robot>(
        self: &Arc<Self>,
        shared: Arc<Shared<ServerSide>>,
        transport: impl Transport,
        robot: Arc<B>,
    ) -> ConnectionError {
        let mine = self.change(|state| {
            state.operating += 1;
            state.operating
        });
        R::spawn(drive::<R, _>(Arc::clone(&shared), transport));
        let (office, served) = (Arc::clone(self), Arc::clone(&shared));
        R::spawn(async move {
            // The robot finishes with one policy before it begins with the next.
            if mine > 1 {
                office.until(|state| (state.operating == 1).then_some(())).await;
            }
            let moving = move_robot(Arc::clone(&served), Arc::clone(&robot));
            let (done, moved) = futures_channel::oneshot::channel::<()>();
            R::spawn(async move {
                moving.await;
                drop(done);
            });
            answer_requests(served, robot).await;
            let _ = moved.await;
            office.change(|state| state.operating -= 1);
        });
        shared.wait_for_end().await;
        self.leave(&shared);
        shared.error().unwrap_or(ConnectionError::ClosedLocally)
    }

    pub(crate) async fn shut_down(&self) {
        let current = self.change(|state| {
            state.shutting_down = true;
            state.current.clone()
        });
        if let Some(current) = current {
            let timeout = self.config.shutdown_timeout;
            current.call(|side, now| side.machine.shut_down(now + timeout));
        }
        self.until(|state| (state.current.is_none() && state.operating == 0).then_some(())).await;
    }

    pub(crate) async fn until_shut_down(&self) {
        self.until(|state| state.shutting_down.then_some(())).await;
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        let current = self.lock().current.clone()?;
        let side = current.lock();
        Some(side.machine.stats())
    }
}
