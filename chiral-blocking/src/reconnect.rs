//! The thread that drives a client's connection, and makes it again.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use chiral_driver::client::{
    CancelToken, ClientState, Outage, OutageProgress, SocketRoute, Supervisor,
};
use chiral_driver::proto::bytes::Bytes;
use chiral_driver::proto::ws::Session;
use chiral_driver::{ConnectError, Connector, Driver, Transport};
use futures_channel::oneshot;

use crate::connect::Builder;
use crate::link::Link;
use crate::signal::Signal;
use crate::stream::Stream;
use crate::threads::Threads;
use crate::transport::run;

/// The link that a client has now.
pub(crate) enum CurrentLink {
    /// The only one that it will have; `None` over a transport of frames.
    Only(Option<Arc<Link<ClientState>>>),
    /// One that is made again when it is lost; `None` meanwhile.
    Replaced(Mutex<Option<Arc<Link<ClientState>>>>),
}

impl CurrentLink {
    /// Over a transport of frames.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self::Only(None))
    }

    /// Sends what there is to send, as [`Link::try_send_inline`] does; false when there is no link.
    pub(crate) fn try_send_inline(&self) -> bool {
        match self {
            Self::Only(link) => link.as_ref().map(|link| link.try_send_inline()).is_some(),
            Self::Replaced(link) => {
                let link = link.lock().unwrap_or_else(PoisonError::into_inner).clone();
                link.map(|link| link.try_send_inline()).is_some()
            }
        }
    }

    fn set(&self, new: Option<Arc<Link<ClientState>>>) {
        if let Self::Replaced(link) = self {
            *link.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }
}

/// Starts the threads of a connection over a stream whose handshake is done: one reads, the other one
/// writes, and connects again where there is a route.
pub(crate) fn supervise_link(
    mut supervisor: Supervisor,
    stream: Box<dyn Stream>,
    session: Session,
    route: Option<SocketRoute>,
    threads: &Arc<Threads>,
) -> io::Result<Arc<CurrentLink>> {
    let connection = Arc::clone(supervisor.connection());
    let link = Link::start_reading(Arc::clone(&connection), stream, session, threads)?;
    // When its thread does not start, the drop of its work ends the other one.
    let mut writing = link.writing();
    let current = Arc::new(if supervisor.settings().reconnect.is_some() && route.is_some() {
        CurrentLink::Replaced(Mutex::new(Some(link)))
    } else {
        CurrentLink::Only(Some(link))
    });
    let (updated, group) = (Arc::clone(&current), Arc::clone(threads));
    threads.spawn("chiral-writer", move || {
        loop {
            writing.run();
            updated.set(None);
            let Some(outage) = supervisor.outage() else { return };
            let Some(route) = &route else { return };
            let connecting = connect_aside(route, &supervisor, &outage);
            let Some(connected) = wait_out(&outage, connecting) else { return };
            let started = connected.and_then(|(stream, surplus)| {
                let session = supervisor.settings().session(Instant::now(), &surplus)?;
                let link = Link::start_reading(Arc::clone(&connection), stream, session, &group);
                link.map_err(ConnectError::Thread)
            });
            let link = match started {
                Ok(link) => link,
                Err(error) => return supervisor.resume(Err(error)),
            };
            writing = link.writing();
            supervisor.resume(Ok(None));
            updated.set(Some(link));
        }
    })?;
    Ok(current)
}

/// Starts the thread of a connection over a transport of whole frames, which connects again where
/// there is a connector.
pub(crate) fn supervise_frames(
    mut supervisor: Supervisor,
    transport: impl Transport,
    connector: Option<Box<dyn Connector>>,
    threads: &Arc<Threads>,
) -> io::Result<()> {
    let connection = Arc::clone(supervisor.connection());
    // Begun here: should the thread not start, its drop finishes the connection.
    let mut driver =
        Driver::new(Arc::clone(&connection), Box::new(transport) as Box<dyn Transport>);
    threads.spawn("chiral-connection", move || {
        loop {
            run(driver);
            let Some(outage) = supervisor.outage() else { return };
            let Some(connector) = &connector else { return };
            let limits = &supervisor.settings().machine.limits;
            let connecting = async { connector.connect(limits, supervisor.wait(&outage)).await };
            let Some(connected) = wait_out(&outage, connecting) else { return };
            match connected {
                Ok(transport) => {
                    supervisor.resume(Ok(transport.extension()));
                    driver = Driver::new(Arc::clone(&connection), transport);
                }
                Err(error) => return supervisor.resume(Err(error)),
            }
        }
    })
}

/// Waits until the next connection is made, or cannot be; `None` when nobody needs it any more.
fn wait_out<T>(outage: &Outage<'_>, connecting: impl Future<Output = T>) -> Option<T> {
    let signal = Arc::<Signal>::default();
    let waker = Waker::from(Arc::clone(&signal));
    let mut connecting = pin!(connecting);
    loop {
        match outage.poll(&mut Context::from_waker(&waker), connecting.as_mut()) {
            OutageProgress::Connected(outcome) => return Some(outcome),
            OutageProgress::Over => return None,
            OutageProgress::Waiting { until } => signal.wait(until),
        }
    }
}

/// Connects a socket in a thread of its own, for that blocks: a future that is dropped has it give up
/// soon.
async fn connect_aside(
    route: &SocketRoute,
    supervisor: &Supervisor,
    outage: &Outage<'_>,
) -> Result<(Box<dyn Stream>, Bytes), ConnectError> {
    let cancel = CancelToken::new();
    let _cancel = CancelOnDrop(cancel.clone());
    let wait = supervisor.wait(outage).cancelled_by(cancel);
    let (builder, route) = (Builder::from(supervisor.settings().clone()), route.clone());
    let (connected, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("chiral-reconnect".to_owned());
    thread
        .spawn(move || {
            // Nobody may wait any more: then the connection is dropped.
            let _ = connected.send(builder.connect_socket(&route, wait));
        })
        .map_err(ConnectError::Thread)?;
    let gone = || ConnectError::Thread(io::Error::other("the thread that connects has panicked"));
    result.await.unwrap_or_else(|_| Err(gone()))
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
