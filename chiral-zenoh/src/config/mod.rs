mod endpoint;
mod robot;
mod uri;
mod zenoh_config;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chiral_proto::wire::Limits;

use crate::authentication::Secret;
use crate::error::Error;

pub use endpoint::{Endpoint, EndpointError};
pub use robot::{RobotName, RobotNameError};
pub use uri::UriError;
pub(crate) use zenoh_config::Role;

/// Where robot and policy meet, and how: everything that opens a [`Listener`](crate::Listener) or a
/// [`ZenohTransport`](crate::ZenohTransport).
///
/// It is written as a URI, in one of two forms:
///
/// - `tcp/host:port`: the plain one, where the server listens and to which the client connects.
///   It is what peers without this crate understand ([compatible mode](crate#compatible-mode)).
/// - `zenoh:tcp/host:port?robot=arm-3&shm=on`: the same with options. Several endpoints are set
///   apart by commas; none at all is right where an option says how to get to the network.
///
/// | option | meaning |
/// |---|---|
/// | `robot=NAME` | keys of this robot's own ([namespaced mode](crate#namespaced-mode)) |
/// | `secret-file=PATH` | the file of the [`Secret`] that robot and policy share; with `robot=` |
/// | `connect=ENDPOINT` | connect to it on either side: a router; may be repeated |
/// | `listen=ENDPOINT` | listen on it on either side; may be repeated |
/// | `mode=client`, `mode=peer` | Zenoh's mode; default: `client` where nothing is listened on |
/// | `scouting=on` | find others by multicast and gossip; default: `off` |
/// | `shm=on` | shared memory, if the peer has it too (feature `shm`); default: `off` |
/// | `config=PATH` | a [configuration file of Zenoh's own](crate#zenohs-own-configuration) |
///
/// In options, and in endpoints before the `?`, the characters `%`, `&`, `,`, `?`, `#` and space
/// are written as `%25`, `%26`, `%2C`, `%3F`, `%23` and `%20`.
///
/// ```
/// use chiral_zenoh::Config;
///
/// let config: Config = "zenoh:?robot=arm-3&connect=tcp/router:7447".parse()?;
/// assert_eq!(config.robot().map(|robot| robot.as_str()), Some("arm-3"));
///
/// // The same, by builder.
/// let built = Config::new().with_robot("arm-3".parse()?).connect_to("tcp/router:7447".parse()?);
/// assert_eq!(built, config);
/// assert_eq!(built.to_string(), "zenoh:?robot=arm-3&connect=tcp/router:7447");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) connect: Vec<Endpoint>,
    pub(crate) robot: Option<RobotName>,
    pub(crate) secret: Option<Secret>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) mode: Option<Mode>,
    pub(crate) scouting: bool,
    pub(crate) shared_memory: bool,
    pub(crate) shared_memory_len: usize,
    pub(crate) zenoh_file: Option<PathBuf>,
    pub(crate) lease: Duration,
    pub(crate) limits: Limits,
}

/// Zenoh's mode of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Talks to one router or peer, and never to others that it hears of.
    Client,
    /// Talks to every endpoint that it is given, and can be connected to.
    Peer,
}

/// How long a peer may be silent, by default.
const LEASE: Duration = Duration::from_secs(5);
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of shared memory, by default: room for seven observations of 8 RGB-D cameras of 640×480.
const SHARED_MEMORY: usize = 128 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            listen: Vec::new(),
            connect: Vec::new(),
            robot: None,
            secret: None,
            secret_file: None,
            mode: None,
            scouting: false,
            shared_memory: false,
            shared_memory_len: SHARED_MEMORY,
            zenoh_file: None,
            lease: LEASE,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Nothing given: the server then listens on `tcp/0.0.0.0:7447`, the client connects to
    /// `tcp/localhost:7447`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an endpoint at which the two meet: the server listens on it, the client connects.
    #[must_use]
    pub fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The configuration of a policy of the robot that has this one and listens on `endpoints`.
    pub(crate) fn for_clients(&self, endpoints: &[Endpoint]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            connect: self.connect.clone(),
            robot: self.robot.clone(),
            secret: self.secret.clone(),
            secret_file: self.secret_file.clone(),
            shared_memory: self.shared_memory,
            ..Self::default()
        }
    }

    /// Adds an endpoint to connect to, on either side: a router, mostly.
    #[must_use]
    pub fn connect_to(mut self, endpoint: Endpoint) -> Self {
        self.connect.push(endpoint);
        self
    }

    /// Adds an endpoint to listen on, on either side.
    #[must_use]
    pub fn listen_on(mut self, endpoint: Endpoint) -> Self {
        self.listen.push(endpoint);
        self
    }

    /// Everything under the keys of this robot. Without it: [compatible
    /// mode](crate#compatible-mode).
    #[must_use]
    pub fn with_robot(mut self, robot: RobotName) -> Self {
        self.robot = Some(robot);
        self
    }

    /// The secret that the robot and its policies share: each shows the other that it has it, and
    /// nobody else can send in their name ([what it defends](crate#who-may-drive-the-robot)). It
    /// goes over a [file](Self::with_secret_file), is never written in a URI, and needs a robot with
    /// a name.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// As [`with_secret`](Self::with_secret), from a file, which is read when the configuration is
    /// used ([`Secret::read`]).
    #[must_use]
    pub fn with_secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_file = Some(path.into());
        self
    }

    /// Zenoh's mode. Default: [`Mode::Peer`] for who listens, else [`Mode::Client`].
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Whether to find others by multicast, and to connect to those that others speak of. Default:
    /// no; only the endpoints that were given are used.
    #[must_use]
    pub fn with_scouting(mut self, scouting: bool) -> Self {
        self.scouting = scouting;
        self
    }

    /// Whether observations go through shared memory when the peer is on this machine and has it
    /// too. Default: no. Without the crate's feature `shm` opening fails with that said.
    #[must_use]
    pub fn with_shared_memory(mut self, shared_memory: bool) -> Self {
        self.shared_memory = shared_memory;
        self
    }

    /// Bytes of shared memory that a robot sets aside. Default: 128 MiB. It should hold four observations: one at the sensors, one under
    /// way, and those that the policy keeps. What does not fit goes over the network.
    #[must_use]
    pub fn with_shared_memory_len(mut self, bytes: usize) -> Self {
        self.shared_memory_len = bytes;
        self
    }

    /// A [configuration file of Zenoh's own](crate#zenohs-own-configuration).
    #[must_use]
    pub fn with_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.zenoh_file = Some(path.into());
        self
    }

    /// After how long without a sign of life the peer is to take this side for gone. Default: 5 s; at
    /// most a day.
    /// It matters when a machine loses its power or its network; a process that dies is noticed at
    /// once.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.min(LONGEST_LEASE);
        self
    }

    /// Bounds on what the peer may send; here only [`Limits::frame_len`] matters, the others are
    /// the state machine's business.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The robot whose keys are used; `None` in compatible mode.
    pub fn robot(&self) -> Option<&RobotName> {
        self.robot.as_ref()
    }

    /// Whether shared memory is asked for.
    pub fn shared_memory(&self) -> bool {
        self.shared_memory
    }

    /// The configuration file of Zenoh's own, if there is one.
    pub fn config_file(&self) -> Option<&Path> {
        self.zenoh_file.as_deref()
    }

    /// The secret, if there is one.
    pub(crate) fn secret(&self) -> Result<Option<Secret>, Error> {
        let secret = match (&self.secret, &self.secret_file) {
            (None, None) => return Ok(None),
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                Secret::read(path).map_err(|error| Error::Config(error.to_string()))?
            }
        };
        if self.robot.is_none() {
            return Err(Error::Config(
                "found a secret without the robot's name, expected `robot=NAME`: the peers of robots \
                 without a name know no secrets"
                    .to_owned(),
            ));
        }
        Ok(Some(secret))
    }

    /// Whether nothing says how to get to the network.
    fn is_bare(&self) -> bool {
        self.endpoints.is_empty()
            && self.listen.is_empty()
            && self.connect.is_empty()
            && self.zenoh_file.is_none()
            && !self.scouting
    }
}
