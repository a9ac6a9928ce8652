use std::time::Duration;

use super::reconnect::WhenLost;
use crate::wire::Limits;

/// How a [`Client`](super::Client) behaves.
///
/// ```
/// use std::time::Duration;
/// use chiral_proto::client::Config;
///
/// let config = Config { max_age: Some(Duration::from_millis(500)), ..Config::default() };
/// assert_eq!(config.stream_window, 1);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Bounds on what the server may send.
    pub limits: Limits,
    /// How many actions may wait in the queue; `usize::MAX` for any number. Default: 1024.
    ///
    /// Those that wait for no tick, but for the transport, are at most 1024 in any case.
    pub queue_capacity: usize,
    /// [`Event::QueueLong`](super::Event::QueueLong) tells, once, when so many actions wait in the
    /// queue. Default: `None`, never, as a full queue is an error of the call that finds it so. For a
    /// queue without a bound.
    pub queue_warning: Option<usize>,
    /// An action that has waited longer than this is never sent. Default: `None`, no bound.
    ///
    /// Set it to the longest time for which a plan of the policy stays right. It bounds the time
    /// that an action waits here, until the transport takes it. The adapters' TCP connections take
    /// it only when the system has sent what was written before (on Linux; elsewhere, and over
    /// Unix sockets and streams of the user's own, it may wait in the system's buffers too). What
    /// is under way in the network, or unread at the robot's end, no policy can call back: only
    /// the robot can refuse that, by
    /// [`server::Config::max_obs_age`](crate::server::Config::max_obs_age).
    pub max_age: Option<Duration>,
    /// How many requests of the observation stream may be in flight. Default: 1, so that the
    /// robot answers one while the policy has one. More hides a long round trip.
    pub stream_window: usize,
    /// How many requests may wait for their answer, the stream's included. Default: 64.
    pub pending_requests: usize,
    /// The deadline of a request for metadata or an observation that is made without one, and of
    /// each request of the stream. It does not run while the robot is at a reset or a step, before
    /// which it answers nothing else. Less than a millisecond counts as one. Default: 10 s; `None`
    /// waits for ever.
    pub request_timeout: Option<Duration>,
    /// The deadline of a reset or a step that is made without one. Both take as long as the
    /// robot's motion does. Default: 120 s; `None` waits for ever.
    pub motion_timeout: Option<Duration>,
    /// [`Event::Silent`](super::Event::Silent) tells when something needs an answer and nothing at
    /// all has come from the server for this long. It is not measured while the robot is at a
    /// reset or a step. Less than a millisecond counts as one. Default: 2 s; `None` never tells.
    pub silence: Option<Duration>,
    /// [`Event::Undispatched`](super::Event::Undispatched) tells, once, when actions have waited in
    /// the queue for this long and no dispatch runs that would send them. Default: 1 s; `None`
    /// never tells.
    pub undispatched: Option<Duration>,
    /// [`Event::CameraStalled`](super::Event::CameraStalled) tells when the observations that come
    /// have shown the same image of a camera for this long. Default: 2 s; `None` never tells.
    pub camera_stall: Option<Duration>,
    /// Whether actions leave as `float32`, whatever dtype they were given in. Default: true, as
    /// every existing robot server reads `float32`, and the C++ one nothing else. With `false`
    /// they keep their dtype.
    pub float32_actions: bool,
    /// Whether actions are numbered and say how long their observation was held. A robot that
    /// understands it tells in its observations which action was the last, how old the images are,
    /// and where the time went ([`Observation::timing`](crate::Observation::timing),
    /// [`Stats::latency`](super::Stats::latency)); others ignore it. Default: true.
    pub timing: bool,
    /// For a transport that may lose or repeat messages. Default: `None`, a reliable one.
    pub lossy: Option<Lossy>,
    /// What becomes of the client when its connection is lost. An adapter sets it, by its option
    /// `reconnect`; for a loop of your own see
    /// [`Client::begin_connection`](super::Client::begin_connection). Default: it ends.
    pub when_lost: WhenLost,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            queue_capacity: 1024,
            queue_warning: None,
            max_age: None,
            stream_window: 1,
            pending_requests: 64,
            request_timeout: Some(Duration::from_secs(10)),
            motion_timeout: Some(Duration::from_secs(120)),
            silence: Some(Duration::from_secs(2)),
            undispatched: Some(Duration::from_secs(1)),
            camera_stall: Some(Duration::from_secs(2)),
            float32_actions: true,
            timing: true,
            lossy: None,
            when_lost: WhenLost::End,
        }
    }
}

/// How to live with a transport that may lose or repeat messages, but keeps their order.
///
/// One request of a kind is then in flight at a time. Metadata and observations are asked for
/// again, but not while the robot is at a reset or a step; a reset, a step or an action never is.
/// Answers that nobody waits for are passed over; one that the transport repeats only after the next
/// request of its kind was sent cannot be told from the answer to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lossy {
    /// After this long without an answer, metadata and observations are asked for again; less
    /// than a millisecond counts as one. Default: 500 ms.
    pub retry_after: Duration,
    /// For how long after a request is over another answer to it may still arrive. When one may,
    /// because the request was given up or sent more than once, the next request of the kind
    /// waits that long, so that the answer cannot be taken for its own. Default: 1 s.
    pub linger: Duration,
}

impl Lossy {
    /// What asks more often only fills the transport.
    pub(super) const SHORTEST_RETRY: Duration = Duration::from_millis(1);
}

impl Default for Lossy {
    fn default() -> Self {
        Self { retry_after: Duration::from_millis(500), linger: Duration::from_secs(1) }
    }
}
