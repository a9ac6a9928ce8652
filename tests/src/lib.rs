//! What the end-to-end tests and the benchmarks share: every adapter behind one trait, a robot that
//! records what it is told, and bare sockets.

/// The project's README and guides, whose examples compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/server-guide.md")]
    struct ServerGuide;
    #[doc = include_str!("../../docs/client-guide.md")]
    struct ClientGuide;
    #[doc = include_str!("../../docs/type-reference.md")]
    struct TypeReference;
}

pub mod adapter;
pub mod adapters;
pub mod certificates;
#[path = "../../chiral-proto/tests/support/contract.rs"]
#[expect(dead_code, reason = "the tests of the core use more of it")]
mod contract;
pub mod fault_relay;
pub mod faulty_session;
mod patience;
mod raw;
mod recorder;
pub mod sockets;

use std::sync::Arc;
use std::time::Duration;

use chiral_tokio::{PolicyServer, ServerConfig};

pub use patience::Patience;
pub use raw::{Opcode, Raw, RawServer, message};
pub use recorder::{Entry, Fault, Recorder, Work};

/// Timeout for what takes no time on an idle machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Awaits a future that must complete soon.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let Ok(done) = tokio::time::timeout(SOON, future).await else {
            panic!("still waiting after {SOON:?} at {caller}")
        };
        done
    }
}

/// Polls a condition until it holds.
///
/// # Panics
/// When it does not hold soon.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// A robot that is being served over a loopback socket.
pub struct Served {
    /// The robot.
    pub robot: Arc<Recorder>,
    /// Its server.
    pub server: PolicyServer,
    /// The server's URI.
    pub uri: String,
    /// The task that serves; the second handle to the server is in it.
    pub serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// Serves a robot with default settings, and on its own threads if it blocks.
    pub async fn new(robot: Recorder) -> Self {
        let robot_threads = robot.blocks();
        Self::with(robot, ServerConfig { robot_threads, ..ServerConfig::default() }).await
    }

    /// Serves a robot.
    ///
    /// # Panics
    /// When there is no loopback interface.
    pub async fn with(robot: Recorder, config: ServerConfig) -> Self {
        let robot = Arc::new(robot);
        let server = PolicyServer::bind_with("127.0.0.1:0", config).await.expect("loopback");
        let address = server.local_addr().expect("it is bound");
        let (handle, kept) = (server.clone(), Arc::clone(&robot));
        let serving = tokio::spawn(async move { handle.serve(robot).await });
        Self { robot: kept, server, uri: format!("ws://{address}"), serving }
    }
}

/// Blocks until a condition holds.
///
/// # Panics
/// When it does not hold soon.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut patience = Patience::new(SOON);
    while !is_so() {
        assert!(!patience.is_over(), "{what}: still not so after {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many entries a folder has, such as those under `/proc/self`.
///
/// # Panics
/// When there is no such folder.
pub fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("the folder is there").count()
}
