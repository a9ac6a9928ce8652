use std::time::Duration;

use chiral_proto::Map;
use chiral_proto::server::Config;
use chiral_proto::ws::{Keepalive, Request};

use super::accept_hook::{Accept, Rejection};
#[cfg(feature = "tls")]
use crate::tls::TlsServer;
use crate::token::Token;

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The state machine's settings: limits, the queue of actions, how old an observation may be
    /// on which an action was decided. Its watchdog is set by [`watchdog`](Self::watchdog).
    pub machine: Config,
    /// When a robot that gets no action is told to hold still. Default: [`Watchdog::Default`].
    pub watchdog: Watchdog,
    /// When to ping the client, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    pub keepalive: Option<Keepalive>,
    /// How long `PolicyServer::shutdown` waits for requests that are being answered. Default: 5 s.
    pub shutdown_timeout: Duration,
    /// Runs the robot's code in two threads of its own while a policy is connected, one for what
    /// moves the robot and one for what observes it. Default: `false`, in the task of the
    /// connection.
    ///
    /// For a robot whose methods block their thread, on a driver library or a lock: as part of a
    /// task they would hold up the connection. The threads' wake-ups add some 0.1 ms to each call.
    pub robot_threads: bool,
    /// Whether a robot that pulls its commands is asked for observations too, as
    /// [`Command::Observe`](crate::Command::Observe): a simulator that renders in its loop. Default:
    /// `false`, they are answered from its sensors, and the loop need not look up in time.
    pub pull_observations: bool,
    /// What a policy is told of a robot that fails. Default: [`FailureText::Errors`].
    pub failure_text: FailureText,
    /// Gives the robot to the newest policy: it takes the robot over from the one before, whose
    /// connection is closed with 1013 and the reason. Default: `false`; the newer one is refused,
    /// and a client of this crate waits for its turn.
    ///
    /// Two policies that connect again whenever they are closed take the robot from each other
    /// without end. In Zenoh's compatible mode it has no effect: Zenoh lets nobody in beside the
    /// policy that there is.
    pub take_over: bool,
    /// The token that each request for a WebSocket has to have; see [`token`](Self::token()).
    /// Default: none.
    pub token: Option<Token>,
    /// Certificate and key of a server that speaks TLS; see [`tls`](Self::tls()). Default: none.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsServer>,
    /// Looks at each request for a WebSocket before it is admitted; see
    /// [`accept`](Self::accept()). Default: every request is.
    pub accept: Accept,
}

impl ServerConfig {
    /// Lets in those policies alone whose request has this token: `Builder::token` of theirs.
    /// Others are answered with 401, before [`accept`](Self::accept()) and the robot hear of them,
    /// and after ten wrong ones within a minute their host, or IPv6 network, is answered with 429
    /// for the rest of it, whatever it sends.
    ///
    /// A server with a token cannot be bound to another transport than WebSocket. What the program
    /// has accepted itself as a transport (`serve_transport`, `serve_websocket`, `accepting`) is not
    /// asked for it.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Speaks TLS, and nothing else, on the TCP address that the server is bound to: its URI is then
    /// `wss://host:port`. The TLS handshake is a part of the time that a client has for its
    /// handshake. A server with TLS cannot be bound to another transport, nor to a Unix socket;
    /// streams that the program brings itself (`serve_stream`) stay as they are.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self, reason = "as with TLS"))]
    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Whether the program finds out who a policy is before it lets it in.
    pub(crate) fn authenticates(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.as_ref().is_some_and(TlsServer::authenticates_clients) {
            return true;
        }
        self.token.is_some() || self.accept.is_set()
    }

    /// Has a function look at each request for a WebSocket before the robot or the policy that it
    /// has notices anything: path, `Host`, `Origin`, a token. What it rejects is answered with an
    /// HTTP status and a reason. It runs with the connection and must not block; if it panics, the
    /// request is refused with 500.
    ///
    /// Without such a function, requests of web pages are refused, and all others accepted: a browser
    /// lets any page connect to any computer, loopback included, and says so in `Origin`. With a
    /// function it is the function that decides, about pages too.
    ///
    /// Only a WebSocket begins with a request. A server that has such a function cannot be bound to
    /// another transport: over Zenoh, access control is that of Zenoh's own configuration. What the
    /// program has accepted itself (`serve_transport`, `serve_websocket`, `accepting`) it is not
    /// asked about.
    ///
    /// ```
    /// use chiral_driver::{Rejection, ServerConfig};
    ///
    /// let config = ServerConfig::default().accept(|request| {
    ///     match request.header("Authorization") {
    ///         Some("Bearer 1234") if request.header("Origin").is_none() => Ok(()),
    ///         _ => Err(Rejection::new(401, "a token is needed")),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn accept(
        mut self,
        accept: impl Fn(&Request) -> Result<(), Rejection> + Send + Sync + 'static,
    ) -> Self {
        self.accept = Accept::new(accept);
        self
    }

    /// What a network is told of a robot before a policy asks
    /// ([`Acceptor::set_metadata`](crate::Acceptor::set_metadata)): what its policy is told, its contract
    /// included. `pulls` says whether it pulls its commands.
    pub fn announced(&self, metadata: Map, pulls: bool) -> Map {
        self.machine(pulls).metadata(metadata)
    }

    /// The settings of the machine of a robot that pulls its commands, or is called.
    pub(crate) fn machine(&self, pulls: bool) -> Config {
        let mut machine = self.machine.clone();
        self.watchdog.apply(&mut machine, pulls);
        machine
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            machine: Config::default(),
            watchdog: Watchdog::Default,
            keepalive: Some(Keepalive::default()),
            shutdown_timeout: Duration::from_secs(5),
            robot_threads: false,
            pull_observations: false,
            failure_text: FailureText::Errors,
            take_over: false,
            token: None,
            #[cfg(feature = "tls")]
            tls: None,
            accept: Accept::default(),
        }
    }
}

/// When a robot that gets no action is told to hold still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Watchdog {
    /// As the machine's settings or the rate of its
    /// [action specification](chiral_proto::ActionSpec::rate) say. Where they say nothing, after
    /// [`PULL_WATCHDOG`](Self::PULL_WATCHDOG) for a robot that pulls its commands, and never for one
    /// that is called.
    #[default]
    Default,
    /// After this long without an action, counted from the connection on.
    After(Duration),
    /// Never, nor by a declared rate: the robot itself sees to it that it does not go on moving.
    Off,
}

impl Watchdog {
    /// What a robot that pulls its commands has by default: half a second, five periods of a
    /// policy at 10 Hz.
    pub const PULL_WATCHDOG: Duration = Duration::from_millis(500);

    /// The machine's settings for a robot of this kind.
    fn apply(self, machine: &mut Config, pulls: bool) {
        match self {
            Self::Default if pulls && machine.action_spec.declaration().rate.is_none() => {
                machine.watchdog.get_or_insert(Self::PULL_WATCHDOG);
            }
            Self::Default => {}
            Self::After(silence) => machine.watchdog = Some(silence),
            Self::Off => {
                machine.watchdog = None;
                machine.action_spec = machine.action_spec.clone().hold_after(0);
            }
        }
    }
}

/// What a policy is told of a robot that fails. The server's log has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FailureText {
    /// Only that the robot failed.
    Nothing,
    /// The text of an error that the robot returned; of a panic only that there was one.
    #[default]
    Errors,
    /// The text of panics too.
    Everything,
}
