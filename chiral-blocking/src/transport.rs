//! A transport of whole frames, which has a thread of its own.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use chiral_driver::proto::ws::CloseCode;
use chiral_driver::server::{Arrival, EVICTION_STEP, finish_refused};
use chiral_driver::{Connection, Driver, FINISH_TIMEOUT, Progress, Refusal, State, Transport};

use crate::signal::Signal;
use crate::threads::Threads;

/// Starts the thread that drives a connection over a transport.
pub(crate) fn drive<S: State>(
    connection: Arc<Connection<S>>,
    transport: impl Transport,
    threads: &Arc<Threads>,
) -> io::Result<()> {
    let driver = Driver::new(connection, transport);
    threads.spawn("chiral-connection", move || run(driver))
}

/// Drives a connection to its end in this thread. The driver is gone then: its drop is an end, too,
/// and must not come when there is another connection.
pub(crate) fn run<S: State, T: Transport>(mut driver: Driver<S, T>) {
    let signal = Arc::<Signal>::default();
    let waker = Waker::from(Arc::clone(&signal));
    while let Progress::Waiting { until } = driver.poll(&mut Context::from_waker(&waker)) {
        signal.wait(until);
    }
}

/// Tells a policy that it is not let in, and waits a moment until it knows.
pub(crate) fn refuse(arrival: &Arrival, mut transport: impl Transport, refusal: Refusal) {
    let deadline = Instant::now() + FINISH_TIMEOUT;
    transport.close(Instant::now(), CloseCode::TRY_AGAIN_LATER, &refusal.to_string());
    let signal = Arc::<Signal>::default();
    let waker = Waker::from(Arc::clone(&signal));
    let mut refusing = pin!(finish_refused(&mut transport));
    while refusing.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        && Instant::now() < deadline
        && !arrival.is_evicted()
    {
        signal.wait(Some(deadline.min(Instant::now() + EVICTION_STEP)));
    }
}
