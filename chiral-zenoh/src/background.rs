use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use chiral_driver::client::CancelToken;
use futures_channel::oneshot;

use crate::error::Error;

/// A call of Zenoh's that blocks and therefore runs on a thread of its own: a future of its result,
/// for any runtime. Without one, [`wait`](Self::wait) for it. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
#[derive(Debug)]
pub struct Background<T> {
    result: oneshot::Receiver<Result<T, Error>>,
    cancel: CancelToken,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the call on a thread.
    pub(crate) fn spawn(
        work: impl FnOnce(&CancelToken) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        let (sender, result) = oneshot::channel();
        let cancel = CancelToken::new();
        let thread_cancel = cancel.clone();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let failure_sender = Arc::clone(&sender);
        let send = move |sender: &Mutex<Option<oneshot::Sender<_>>>, result| {
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            // When nobody waits any more the result is dropped here, where that may block.
            sender.map(|sender| sender.send(result));
        };
        let thread = std::thread::Builder::new().name("chiral-zenoh-open".to_owned());
        let started = thread.spawn(move || send(&sender, work(&thread_cancel)));
        if let Err(error) = started {
            send(&failure_sender, Err(Error::Thread(error.to_string())));
        }
        Self { result, cancel }
    }

    /// Waits for the result, blocking the thread.
    ///
    /// # Errors
    /// As the call that started it says.
    pub fn wait(self) -> Result<T, Error> {
        futures_lite::future::block_on(self)
    }
}

impl<T> Future for Background<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.result).poll(cx);
        result.map(|result| result.unwrap_or(Err(Error::Cancelled)))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Sleeps until an instant, and fails at once when nobody waits for the call any more.
pub(crate) fn sleep_until(cancel: &CancelToken, until: Instant) -> Result<(), Error> {
    if cancel.wait_until(until) { Err(Error::Cancelled) } else { Ok(()) }
}
