//! No test waits for ever: each case runs beside a supervisor that knows how far it has come.

use std::cell::RefCell;
use std::panic::{Location, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chiral_tests::{Patience, SOON};

use crate::adapter::Policy;

/// How long a case may make no progress. Longer than any wait that has a limit of its own.
const LIMIT: Duration = Duration::from_secs(15);

/// A while in which nothing must happen. What wrongly could would, mostly, within it.
pub(crate) const A_WHILE: Duration = Duration::from_millis(20);

/// Where a case was seen last, and for how long it may go unseen.
type Post = Arc<Mutex<(&'static Location<'static>, Patience)>>;

thread_local! {
    static POST: RefCell<Option<Post>> = const { RefCell::new(None) };
}

/// Runs a case in a thread of its own, and gives it up when it is stuck.
#[track_caller]
pub(crate) fn run(case: impl FnOnce() + Send + 'static) {
    let post = Arc::new(Mutex::new((Location::caller(), Patience::new(LIMIT))));
    let (over, is_over) = channel::<()>();
    let theirs = Arc::clone(&post);
    let name = thread::current().name().unwrap_or("a case").to_owned();
    let case = thread::Builder::new().name(name).spawn(move || {
        POST.set(Some(theirs));
        case();
        drop(over);
    });
    let case = case.expect("the system has a thread left");
    loop {
        {
            let (seen_at, patience) = &mut *post.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(!patience.is_over(), "stuck for {LIMIT:?}, at or behind {seen_at}");
        }
        if is_over.recv_timeout(Patience::LOOK) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
    }
    if let Err(panic) = case.join() {
        resume_unwind(panic);
    }
}

/// Something that may block, and must be over soon.
#[track_caller]
pub(crate) fn soon<T>(wait: impl FnOnce() -> T) -> T {
    let caller = Location::caller();
    seen(caller);
    let done = wait();
    seen(caller);
    done
}

fn seen(at: &'static Location<'static>) {
    POST.with_borrow(|post| {
        if let Some(post) = post {
            *post.lock().unwrap_or_else(PoisonError::into_inner) = (at, Patience::new(LIMIT));
        }
    });
}

/// Looks again and again until something is so.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    seen(Location::caller());
    let mut patience = Patience::new(SOON);
    while !is_so() {
        assert!(!patience.is_over(), "still not so after {SOON:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does something that may block in a thread of its own.
pub(crate) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Aside<T> {
    let (done, is_done) = channel();
    let thread = thread::spawn(move || {
        // Who asked may have gone.
        let _ = done.send(work());
    });
    Aside { is_done, thread }
}

/// Makes a call that waits, without waiting for it.
pub(crate) fn ask<T: Send + 'static>(
    policy: &Arc<dyn Policy>,
    call: impl FnOnce(&dyn Policy) -> T + Send + 'static,
) -> Aside<T> {
    let policy = policy.another();
    aside(move || call(&*policy))
}

/// What is being done in another thread.
pub(crate) struct Aside<T> {
    is_done: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T> Aside<T> {
    /// Waits until it is done.
    #[track_caller]
    pub(crate) fn done(self) -> T {
        seen(Location::caller());
        let mut patience = Patience::new(SOON);
        loop {
            match self.is_done.recv_timeout(Patience::LOOK) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => {
                    assert!(!patience.is_over(), "still waiting after {SOON:?}");
                }
                Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                    Err(panic) => resume_unwind(panic),
                    Ok(()) => unreachable!("it has sent what it made"),
                },
            }
        }
    }

    /// Whether it is done.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }
}
