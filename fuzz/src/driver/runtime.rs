//! A runtime of one thread that runs tasks only when it is told to, on the virtual clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use chiral_driver::address::StreamAddress;
use chiral_driver::{AsyncTimer, BoxFuture, Runtime};

use super::clock::Clock;
use super::stream::Stream;
use super::{network, progress, random};

/// Timers that may go off in one call of [`Executor::wait`], each followed by the tasks it wakes;
/// the rest of the time passes at once.
const STOPS: usize = 100;
/// How far the time goes on at least in [`Executor::finish`], however many timers there are.
const STRIDE: Duration = Duration::from_millis(20);

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Task>,
    woken: Arc<Mutex<VecDeque<u64>>>,
    timers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    /// How many threads there are to give.
    threads: u8,
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

struct Task {
    name: &'static str,
    /// `None` while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: u64,
    is_queued: AtomicBool,
    woken: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.woken.lock().expect("no panic is survived").push_back(self.id);
        }
    }
}

/// A task, to be dropped before its end.
#[derive(Debug, Clone, Copy)]
pub struct TaskId(u64);

/// Begins a task; it runs when the executor does.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> TaskId {
    STATE.with_borrow_mut(|state| {
        let id = state.next_id();
        let woken = Arc::clone(&state.woken);
        let waker = Arc::new(TaskWaker { id, is_queued: AtomicBool::new(false), woken });
        Arc::clone(&waker).wake();
        state.tasks.insert(id, Task { name, future: Some(Box::pin(task)), waker });
        TaskId(id)
    })
}

/// Runs the tasks of this thread. There is one at a time; its drop drops them all.
pub struct Executor {
    pub clock: Clock,
    /// Whether the task that was woken last runs first.
    last_first: bool,
}

impl Executor {
    /// One without a task. `threads` is how many threads it has to give.
    pub fn start(last_first: bool, threads: u8) -> Self {
        STATE.with_borrow_mut(|state| *state = State { threads, ..State::default() });
        network::start();
        random::start();
        progress::made();
        Self { clock: Clock::start(), last_first }
    }

    /// Runs tasks until none is woken.
    ///
    /// # Panics
    /// When that does not come to an end: a finding.
    pub fn run(&self) {
        progress::made();
        while self.run_one() {}
    }

    fn run_one(&self) -> bool {
        let next = STATE.with_borrow_mut(|state| {
            let mut woken = state.woken.lock().expect("no panic is survived");
            if self.last_first { woken.pop_back() } else { woken.pop_front() }
        });
        let Some(id) = next else { return false };
        let task = STATE.with_borrow_mut(|state| {
            let task = state.tasks.get_mut(&id)?;
            Some((task.name, task.future.take()?, Arc::clone(&task.waker)))
        });
        // It may have been dropped after it was woken.
        let Some((name, mut future, waker)) = task else { return true };
        progress::polled(name);
        waker.is_queued.store(false, Ordering::Relaxed);
        let polled = future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker)));
        if polled.is_ready() {
            drop(future);
            STATE.with_borrow_mut(|state| state.tasks.remove(&id));
            progress::made();
        } else {
            STATE.with_borrow_mut(|state| {
                if let Some(task) = state.tasks.get_mut(&id) {
                    task.future = Some(future);
                }
            });
        }
        true
    }

    /// Lets time pass, and runs what becomes due.
    pub fn wait(&self, time: Duration) {
        self.wait_for(time, || false);
    }

    /// Lets time pass until something is so, and runs what becomes due. False if it was not so in
    /// time.
    pub fn wait_for(&self, most: Duration, is_so: impl Fn() -> bool) -> bool {
        let end = Instant::now() + most;
        self.run();
        for _ in 0..STOPS {
            if is_so() {
                return true;
            }
            let Some(due) = next_timer().filter(|due| *due <= end) else { break };
            self.go_to(due);
        }
        self.go_to(end);
        is_so()
    }

    fn go_to(&self, time: Instant) {
        self.clock.advance(time.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let due = STATE.with_borrow_mut(|state| {
            let later = state.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        });
        due.into_values().for_each(Waker::wake);
        self.run();
    }

    /// Lets time pass until no task is left.
    ///
    /// # Panics
    /// When one is left that waits for nothing, or for longer than `most`: a finding.
    pub fn finish(&self, most: Duration) {
        self.run();
        let end = Instant::now() + most;
        while !tasks().is_empty() {
            let due = next_timer().unwrap_or_else(|| panic!("no end, no timer: {:?}", tasks()));
            assert!(due <= end, "no end within {most:?}: {:?}", tasks());
            self.go_to(due.max(Instant::now() + STRIDE));
        }
        assert_eq!(next_timer(), None, "a timer outlives its task");
    }

    /// Drops a task, if it has not ended.
    pub fn cancel(&self, TaskId(id): TaskId) {
        let task = STATE.with_borrow_mut(|state| state.tasks.remove(&id));
        drop(task);
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // A task may begin others as it is dropped.
        loop {
            let tasks = STATE.with_borrow_mut(|state| std::mem::take(&mut state.tasks));
            if tasks.is_empty() {
                return;
            }
        }
    }
}

fn tasks() -> Vec<&'static str> {
    STATE.with_borrow(|state| state.tasks.values().map(|task| task.name).collect())
}

fn next_timer() -> Option<Instant> {
    STATE.with_borrow(|state| state.timers.keys().next().map(|(due, _)| *due))
}

/// Waits on the virtual clock.
pub(super) fn sleep(time: Duration) -> Timer {
    FuzzRuntime::timer(Instant::now() + time)
}

/// The runtime as the driver sees it. Its sockets are those of [`network`]; nothing can be listened
/// on.
pub struct FuzzRuntime;

impl Runtime for FuzzRuntime {
    type Timer = Timer;
    type Stream = Stream;
    type Listener = ();

    fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        spawn(name, task);
    }

    fn spawn_thread(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let left = STATE.with_borrow_mut(|state| {
            let left = state.threads.checked_sub(1);
            state.threads = left.unwrap_or_default();
            left
        });
        left.ok_or(io::ErrorKind::WouldBlock)?;
        spawn(name, task);
        Ok(())
    }

    fn timer(at: Instant) -> Timer {
        Timer { at, id: STATE.with_borrow_mut(State::next_id) }
    }

    async fn look_up(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        network::look_up(port).await
    }

    async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
        network::connect(address).await
    }

    async fn listen(_: &StreamAddress) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept((): &()) -> io::Result<(Stream, String)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn local_address((): &()) -> io::Result<StreamAddress> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A timer of the virtual clock.
pub struct Timer {
    at: Instant,
    id: u64,
}

impl Timer {
    fn forget(&self) {
        STATE.with_borrow_mut(|state| state.timers.remove(&(self.at, self.id)));
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= Instant::now() {
            self.forget();
            progress::polled("a timer that has gone off");
            return Poll::Ready(());
        }
        STATE.with_borrow_mut(|state| state.timers.insert((self.at, self.id), cx.waker().clone()));
        Poll::Pending
    }
}

impl AsyncTimer for Timer {
    fn reset(&mut self, at: Instant) {
        self.forget();
        self.at = at;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}
