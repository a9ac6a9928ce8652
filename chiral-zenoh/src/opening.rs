use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;

use crate::error::Error;

/// Something that Zenoh is doing on a thread of its own, because it blocks: a future of the
/// result, for any runtime. [`wait`](Self::wait) is for those without one. Dropping it gives it up.
#[must_use = "dropping it gives it up"]
#[derive(Debug)]
pub struct Opening<T> {
    result: oneshot::Receiver<Result<T, Error>>,
    given_up: Arc<GivenUp>,
}

impl<T: Send + 'static> Opening<T> {
    /// Does the work on a thread.
    pub(crate) fn spawn(work: impl FnOnce(&GivenUp) -> Result<T, Error> + Send + 'static) -> Self {
        let (sender, result) = oneshot::channel();
        let given_up = Arc::new(GivenUp::default());
        let of_thread = Arc::clone(&given_up);
        let sender = Arc::new(Mutex::new(Some(sender)));
        let of_failure = Arc::clone(&sender);
        let send = move |sender: &Mutex<Option<oneshot::Sender<_>>>, result| {
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Who gave up waiting does not get it: it is dropped here, where it may block.
            sender.map(|sender| sender.send(result));
        };
        let thread = std::thread::Builder::new().name("chiral-zenoh-open".to_owned());
        let started = thread.spawn(move || send(&sender, work(&of_thread)));
        if let Err(error) = started {
            send(&of_failure, Err(Error::Thread(error.to_string())));
        }
        Self { result, given_up }
    }

    /// Waits for the result, blocking the thread.
    ///
    /// # Errors
    /// As the call that started it says.
    pub fn wait(self) -> Result<T, Error> {
        futures_lite::future::block_on(self)
    }
}

impl<T> Future for Opening<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.result).poll(cx);
        result.map(|result| result.unwrap_or(Err(Error::GivenUp)))
    }
}

impl<T> Drop for Opening<T> {
    fn drop(&mut self) {
        self.given_up.set();
    }
}

/// Whether nobody waits any more; the work looks at it whenever it pauses.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl GivenUp {
    fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Pauses, and fails at once when nobody waits any more.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Error> {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_set, time, |is_set| !*is_set);
        let (is_set, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_set { Err(Error::GivenUp) } else { Ok(()) }
    }
}
