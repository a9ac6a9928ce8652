//! The wait for a server that does not take the connection yet: when to try again, when to give
//! up, and what is told of it meanwhile.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chiral_proto::client::Backoff;
use chiral_proto::ws::{HandshakeError, redacted};

use super::cancel::CancelToken;
use super::settings::ClientSettings;
use crate::error::ConnectError;
use crate::panic::panic_message;

/// How soon a server that is not there yet is tried again, always.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long the pause between two tries becomes, at most, where each costs somebody else's time:
/// a name server's, or that of a server which has another policy. It doubles from one try to the
/// next.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a host's name is looked up before it is one that does not exist.
const LOOK_UPS: u32 = 5;
/// How long one try may take, from the look-up of the name to the end of the handshake.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a thread that connects notices that nobody waits any more.
const CANCELLATION_STEP: Duration = Duration::from_millis(50);
/// How often the user's hook is called.
const HOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after the first line of the log the second one comes, and how long after that each
/// further one.
const LOG_INTERVALS: [Duration; 2] = [Duration::from_secs(9), Duration::from_secs(60)];

/// What a client waits for, for how long it has, and what it has found.
///
/// Its text is a whole line: `waiting for a robot at ws://arm:8765 for 3 s: Connection refused`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Waiting<'a> {
    /// The URI at which it looks for a robot.
    pub uri: &'a str,
    /// For how long.
    pub waited: Duration,
    /// What stood in the way last, in words.
    pub found: &'a str,
}

impl fmt::Display for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, waited, found } = self;
        write!(f, "waiting for a robot at {uri} for {} s: {found}", waited.as_secs())
    }
}

type Call = dyn Fn(&Waiting<'_>) + Send + Sync;

/// What is called while a client waits; by default nothing.
#[derive(Clone, Default)]
pub struct OnWaiting(Option<Arc<Call>>);

impl OnWaiting {
    /// Has a function called.
    pub fn new(call: impl Fn(&Waiting<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }

    /// Calls it. A panic of the user's function does not end the wait.
    fn call(&self, waiting: &Waiting<'_>) {
        if let Some(call) = &self.0
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(waiting)))
        {
            tracing::error!("`on_waiting` panicked: {}", panic_message(&*panic));
        }
    }
}

impl fmt::Debug for OnWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OnWaiting(a function)" } else { "OnWaiting(nothing)" })
    }
}

/// Why a try to connect came to nothing, where another one may come to something.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody is there.
    Absent(io::Error),
    /// The host's name cannot be looked up.
    UnknownHost(io::Error),
    /// The server is there and does not take the connection now: its robot has another policy, it
    /// is starting, or a proxy before it does not reach it.
    Refused(HandshakeError),
}

impl Failure {
    /// The failure of a look-up.
    pub fn of_look_up(error: io::Error) -> Self {
        // The system has no kind for it: it says in words that it could not ask.
        if error.to_string().contains("Temporary failure") {
            Self::Absent(error)
        } else {
            Self::UnknownHost(error)
        }
    }

    /// The error of a connection that is not tried again.
    pub fn into_error(self, uri: &str, waited: Duration) -> ConnectError {
        let uri = redacted(uri);
        match self {
            Self::Absent(last) => ConnectError::NoServer { uri, waited, last },
            Self::UnknownHost(error) => ConnectError::UnknownHost { uri, error },
            Self::Refused(error) => ConnectError::Handshake { uri, error },
        }
    }

    /// Whether another try is in vain: no socket can have the address.
    fn is_final(&self) -> bool {
        use io::ErrorKind::{InvalidFilename, InvalidInput, Unsupported};
        let Self::Absent(error) = self else { return false };
        matches!(error.kind(), InvalidInput | InvalidFilename | Unsupported)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(error) | Self::UnknownHost(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// How far a try to connect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The host's name is being looked up.
    LookUp,
    /// A socket is being connected.
    Connect,
    /// The opening handshake is being made.
    Handshake,
}

impl Stage {
    /// What it means that this takes long, in words.
    pub fn when_slow(self) -> &'static str {
        match self {
            Self::LookUp => "the look-up of the host's name has no answer",
            Self::Connect => "the host does not answer",
            Self::Handshake => {
                "the server accepted the connection and then was silent; is it a WebSocket server?"
            }
        }
    }

    /// The failure of a try that took too long.
    pub fn timed_out(self) -> Failure {
        Failure::Absent(io::Error::new(io::ErrorKind::TimedOut, self.when_slow()))
    }
}

/// The wait for a server that does not take the connection yet.
///
/// Whoever connects asks it after each try that failed when to make the next one
/// ([`retry_at`](Self::retry_at)), and has it tell what is waited for while a try takes long
/// ([`notice_at`](Self::notice_at), [`notice`](Self::notice)): the log, a second after the
/// beginning and then rarely, and the user's hook, every second.
#[derive(Debug)]
pub struct WaitForServer {
    uri: String,
    start: Instant,
    deadline: Option<Instant>,
    cancel: CancelToken,
    on_waiting: OnWaiting,
    /// When the hook is called next, and when the log is told.
    notice_at: Instant,
    log_at: Instant,
    is_logged: bool,
    /// Look-ups that failed, one after the other.
    failed_look_ups: u32,
    pace: Pace,
    /// The server's last answer: a last try that finds no time for one does not hide it.
    last_refusal: Option<HandshakeError>,
}

/// How the pauses between the tries grow.
#[derive(Debug)]
enum Pace {
    /// Where somebody is there who does not take the connection now; where nobody is, they do not
    /// grow.
    Connecting(Backoff),
    /// Always. They go on from one connection to the next.
    Reconnecting(Arc<Mutex<Backoff>>),
}

impl WaitForServer {
    /// The wait for a server that was connected before, and is tried again with these pauses.
    pub(super) fn again(
        uri: &str,
        settings: &ClientSettings,
        since: Instant,
        backoff: Option<Arc<Mutex<Backoff>>>,
    ) -> Self {
        let limit = settings.reconnect.as_ref().and_then(|reconnect| reconnect.give_up_after);
        let deadline = limit.and_then(|limit| since.checked_add(limit));
        let mut wait = Self { start: since, deadline, ..Self::new(uri, settings) };
        if let Some(backoff) = backoff {
            wait.pace = Pace::Reconnecting(backoff);
        }
        wait
    }

    /// A wait that begins now.
    pub fn new(uri: &str, settings: &ClientSettings) -> Self {
        let start = Instant::now();
        Self {
            uri: redacted(uri),
            start,
            deadline: settings.connect_timeout.and_then(|timeout| start.checked_add(timeout)),
            cancel: settings.cancel.clone(),
            on_waiting: settings.on_waiting.clone(),
            notice_at: start + HOOK_INTERVAL,
            log_at: start + HOOK_INTERVAL,
            is_logged: false,
            failed_look_ups: 0,
            pace: Pace::Connecting(Backoff::new(RETRY_INTERVAL, LONGEST_PAUSE)),
            last_refusal: None,
        }
    }

    /// The wait that this token gives up, in the place of the settings' own: for whoever connects in a
    /// thread that cannot be stopped.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Until when a thread that connects may sleep before it looks at what else is due:
    /// [`notice`](Self::notice), and whether it [was given up](Self::check_cancelled).
    pub fn wake_at(&self) -> Instant {
        self.notice_at.min(Instant::now() + CANCELLATION_STEP)
    }

    /// How long has been waited.
    pub fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// When the time for connecting is over, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When a try that begins now is given up.
    pub fn try_deadline(&self) -> Instant {
        let deadline = Instant::now() + TRY_TIMEOUT;
        self.deadline.map_or(deadline, |until| deadline.min(until))
    }

    /// Whether connecting was given up from elsewhere.
    ///
    /// # Errors
    /// When it was.
    pub fn check_cancelled(&self) -> Result<(), ConnectError> {
        if self.cancel.is_cancelled() { Err(ConnectError::Cancelled) } else { Ok(()) }
    }

    /// Blocks until an instant, or until connecting is given up from elsewhere.
    pub fn sleep_until(&self, until: Instant) {
        self.cancel.wait_until(until);
    }

    /// When to call [`notice`](Self::notice) next.
    pub fn notice_at(&self) -> Instant {
        self.notice_at
    }

    /// Tells what is waited for, if it is time to. `found` is what stands in the way, in words.
    pub fn notice(&mut self, found: &str) {
        let now = Instant::now();
        if now < self.notice_at {
            return;
        }
        self.notice_at = now + HOOK_INTERVAL;
        let waiting = Waiting { uri: &self.uri, waited: now - self.start, found };
        self.on_waiting.call(&waiting);
        if self.log_at <= now {
            tracing::warn!("{waiting}");
            self.log_at = now + LOG_INTERVALS[usize::from(self.is_logged)];
            self.is_logged = true;
        }
    }

    /// When to try again after a try that failed.
    ///
    /// # Errors
    /// When the time for connecting is over by then, another try would come to the same, or connecting
    /// was given up from elsewhere.
    pub fn retry_at(&mut self, failure: Failure) -> Result<Instant, ConnectError> {
        self.check_cancelled()?;
        self.failed_look_ups = match failure {
            Failure::UnknownHost(_) => self.failed_look_ups + 1,
            Failure::Absent(_) | Failure::Refused(_) => 0,
        };
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let failure = match self.last_refusal.take() {
            Some(refusal) if is_late && matches!(failure, Failure::Absent(_)) => {
                Failure::Refused(refusal)
            }
            _ => failure,
        };
        if let Failure::Refused(refusal) = &failure {
            self.last_refusal = Some(refusal.clone());
        }
        // A name that was found before may be one that the robot itself announces.
        let is_unknown =
            matches!(self.pace, Pace::Connecting(_)) && self.failed_look_ups >= LOOK_UPS;
        let is_final = failure.is_final() || is_unknown;
        let retry_at = match failure {
            _ if is_final => None,
            Failure::Absent(_) => self.retry_soon(&failure.to_string()),
            Failure::UnknownHost(_) | Failure::Refused(_) => self.retry_later(&failure.to_string()),
        };
        retry_at.ok_or_else(|| failure.into_error(&self.uri, self.waited()))
    }

    /// When to try again where nobody is; `None` when the time is over by then.
    pub fn retry_soon(&mut self, found: &str) -> Option<Instant> {
        let pause = match &mut self.pace {
            Pace::Connecting(backoff) => {
                backoff.restart();
                RETRY_INTERVAL
            }
            Pace::Reconnecting(backoff) => next_pause(backoff),
        };
        self.retry_after(pause, found)
    }

    /// As [`retry_soon`](Self::retry_soon), where somebody is who does not take the connection now:
    /// after a pause that grows.
    pub fn retry_later(&mut self, found: &str) -> Option<Instant> {
        let pause = match &mut self.pace {
            Pace::Connecting(backoff) => backoff.next_pause(),
            Pace::Reconnecting(backoff) => next_pause(backoff),
        };
        self.retry_after(pause, found)
    }

    fn retry_after(&mut self, pause: Duration, found: &str) -> Option<Instant> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now + RETRY_INTERVAL) {
            return None;
        }
        self.notice(found);
        // A last try just before the end finds a robot that became free in a long pause.
        let last = self.deadline.and_then(|deadline| deadline.checked_sub(RETRY_INTERVAL));
        Some(last.map_or(now + pause, |last| (now + pause).min(last)))
    }
}

fn next_pause(backoff: &Mutex<Backoff>) -> Duration {
    backoff.lock().unwrap_or_else(PoisonError::into_inner).next_pause()
}

#[cfg(test)]
mod tests {
    use chiral_proto::client::Reconnect;

    use super::*;

    fn wait(timeout: Option<Duration>) -> WaitForServer {
        let settings = ClientSettings { connect_timeout: timeout, ..ClientSettings::default() };
        WaitForServer::new("ws://robot:8765", &settings)
    }

    fn refused() -> Failure {
        Failure::Refused(HandshakeError::Refused {
            status: 503,
            reason: String::new(),
            location: None,
            body: "taken".to_owned(),
        })
    }

    fn absent() -> Failure {
        Failure::Absent(io::ErrorKind::ConnectionRefused.into())
    }

    /// The pause that a failure brings.
    fn pause(wait: &mut WaitForServer, failure: Failure) -> Duration {
        let now = Instant::now();
        wait.retry_at(failure).expect("it is tried again") - now
    }

    #[test]
    fn pauses_grow_only_where_somebody_is_there() {
        let mut wait = wait(None);
        let about = |found: Duration, millis| {
            assert!((millis..millis + 90).contains(&found.as_millis()), "{found:?}");
        };
        for millis in [100, 200, 400, 800, 1000, 1000] {
            about(pause(&mut wait, refused()), millis);
        }
        for _ in 0..3 {
            about(pause(&mut wait, absent()), 100);
        }
        about(pause(&mut wait, refused()), 100);
    }

    #[test]
    fn connecting_again_has_pauses_that_grow_whatever_stands_in_the_way() {
        let reconnect =
            Reconnect { give_up_after: Some(Duration::from_secs(60)), ..<_>::default() };
        let settings =
            ClientSettings { reconnect: Some(reconnect.clone()), ..ClientSettings::default() };
        let backoff = Arc::new(Mutex::new(reconnect.backoff(1)));
        let again = |since| {
            WaitForServer::again("ws://robot:8765", &settings, since, Some(Arc::clone(&backoff)))
        };
        let unknown = || Failure::of_look_up(io::Error::other("Name or service not known"));
        let mut wait = again(Instant::now());
        let mut longest = Duration::from_millis(100);
        for failure in [absent(), unknown(), refused(), absent(), unknown()] {
            let pause = pause(&mut wait, failure);
            assert!(pause <= longest + Duration::from_millis(90), "{pause:?}, {longest:?}");
            assert!(pause >= longest / 2, "{pause:?}, {longest:?}");
            longest *= 2;
        }
        for _ in 0..LOOK_UPS {
            pause(&mut wait, unknown());
        }
        let Some(since) = Instant::now().checked_sub(Duration::from_secs(61)) else { return };
        let error = again(since).retry_at(absent()).expect_err("it is given up");
        assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    }

    #[test]
    fn an_unknown_name_is_told_after_a_few_tries_in_a_row() {
        let unknown = || Failure::of_look_up(io::Error::other("Name or service not known"));
        let mut wait = wait(None);
        for failure in [unknown(), unknown(), absent(), unknown(), unknown(), unknown(), unknown()]
        {
            wait.retry_at(failure).expect("it is tried again");
        }
        let error = wait.retry_at(unknown()).expect_err("it is enough");
        assert!(matches!(error, ConnectError::UnknownHost { .. }), "{error:?}");
        let offline = io::Error::other("Temporary failure in name resolution");
        assert!(matches!(Failure::of_look_up(offline), Failure::Absent(_)));
    }

    #[test]
    fn the_last_answer_is_told_when_the_time_is_over() {
        let mut wait = wait(Some(Duration::from_millis(50)));
        let error = wait.retry_at(refused()).expect_err("there is no time");
        assert!(error.to_string().contains("taken"), "{error}");
        let error = wait.retry_at(absent()).expect_err("there is no time");
        assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    }

    #[test]
    fn a_last_try_that_has_no_time_does_not_hide_the_answer_before() {
        let mut wait = wait(Some(Duration::from_millis(150)));
        wait.retry_at(refused()).expect("there is time for a last try");
        std::thread::sleep(Duration::from_millis(150));
        let error = wait.retry_at(Stage::Handshake.timed_out()).expect_err("it is over");
        assert!(error.to_string().contains("taken"), "{error}");
    }

    #[test]
    fn a_panic_of_the_hook_does_not_end_the_wait() {
        let calls = Arc::<Mutex<u32>>::default();
        let count = Arc::clone(&calls);
        let on_waiting = OnWaiting::new(move |_| {
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            panic!("the display is gone");
        });
        let settings = ClientSettings { on_waiting, ..ClientSettings::default() };
        let mut wait = WaitForServer::new("ws://robot:8765", &settings);
        for _ in 0..2 {
            wait.notice_at = Instant::now();
            wait.retry_at(absent()).expect("it is tried again");
        }
        assert_eq!(*calls.lock().unwrap_or_else(PoisonError::into_inner), 2);
    }

    #[test]
    fn a_last_try_comes_before_the_deadline() {
        let mut wait = wait(Some(Duration::from_millis(700)));
        wait.pace = Pace::Connecting(Backoff::new(LONGEST_PAUSE, LONGEST_PAUSE));
        let pause = pause(&mut wait, refused());
        assert!((500..=600).contains(&pause.as_millis()), "{pause:?}");
    }
}
