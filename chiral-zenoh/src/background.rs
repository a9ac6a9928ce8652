use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;

use crate::error::Error;

/// A call of Zenoh's that blocks and therefore runs on a thread of its own: a future of its result,
/// for any runtime. Without one, [`wait`](Self::wait) for it. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
#[derive(Debug)]
pub struct Background<T> {
    result: oneshot::Receiver<Result<T, Error>>,
    cancellation: Arc<Cancellation>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the call on a thread.
    pub(crate) fn spawn(
        work: impl FnOnce(&Cancellation) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        let (sender, result) = oneshot::channel();
        let cancellation = Arc::new(Cancellation::default());
        let thread_cancellation = Arc::clone(&cancellation);
        let sender = Arc::new(Mutex::new(Some(sender)));
        let failure_sender = Arc::clone(&sender);
        let send = move |sender: &Mutex<Option<oneshot::Sender<_>>>, result| {
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            // When nobody waits any more the result is dropped here, where that may block.
            sender.map(|sender| sender.send(result));
        };
        let thread = std::thread::Builder::new().name("chiral-zenoh-open".to_owned());
        let started = thread.spawn(move || send(&sender, work(&thread_cancellation)));
        if let Err(error) = started {
            send(&failure_sender, Err(Error::Thread(error.to_string())));
        }
        Self { result, cancellation }
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
        self.cancellation.set();
    }
}

/// Whether nobody waits for a call any more. The call looks at it whenever it sleeps.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Cancellation {
    fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Sleeps, and fails at once when nobody waits any more.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Error> {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_set, time, |is_set| !*is_set);
        let (is_set, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_set { Err(Error::Cancelled) } else { Ok(()) }
    }
}
