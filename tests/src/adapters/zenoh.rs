//! The adapters once more, over Zenoh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use crate::Recorder;
use chiral_driver::ConnectError;
use chiral_zenoh::Error;

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};

/// An adapter whose robots and policies meet over Zenoh.
pub struct OverZenoh {
    adapter: &'static dyn Adapter,
    how: How,
}

/// Which keys they use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The two that every peer knows.
    Compatible,
    /// The robot's own.
    Named,
}

impl OverZenoh {
    /// In compatible mode.
    pub const fn compatible(adapter: &'static dyn Adapter) -> Self {
        Self { adapter, how: How::Compatible }
    }

    /// In namespaced mode.
    pub const fn named(adapter: &'static dyn Adapter) -> Self {
        Self { adapter, how: How::Named }
    }
}

impl Adapter for OverZenoh {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let serving = self.adapter.serve(&self.uri(address), robot, settings);
        note_name(&serving.uri());
        serving
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        self.adapter.connect(uri, settings)
    }

    fn uri(&self, address: &str) -> String {
        match self.how {
            How::Compatible => format!("tcp/{address}"),
            How::Named => format!("zenoh:tcp/{address}?robot={}", name_at(address)),
        }
    }

    fn is_refusal(&self, error: &ConnectError) -> bool {
        let ConnectError::Transport(error) = error else { return false };
        let Some(error) = error.downcast_ref::<Error>() else { return false };
        match self.how {
            // Zenoh does not let a second session in, and the policy tries again until its time is
            // over.
            How::Compatible => matches!(error, Error::NoRobot { .. }),
            How::Named => {
                matches!(error, Error::Busy(why) if why.ends_with("is driven by another policy"))
            }
        }
    }

    fn requests_metadata_to_connect(&self) -> bool {
        self.how == How::Compatible
    }
}

/// The names of the robots that were served last, by their ports.
static NAMES: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

fn names() -> MutexGuard<'static, HashMap<String, String>> {
    NAMES.lock().expect("nothing panics with it")
}

fn note_name(uri: &str) {
    if let Some((address, name)) = uri.split_once("?robot=")
        && let Some((_, port)) = address.rsplit_once(':')
    {
        names().insert(port.to_owned(), name.to_owned());
    }
}

/// The name of the robot at an address: the same for the same port, also when it is started again
/// there, and another one for each robot that is given any port.
fn name_at(address: &str) -> String {
    static ROBOTS: AtomicU32 = AtomicU32::new(0);
    match address.rsplit(':').next().expect("it has a port") {
        "0" => format!("robot-{}", ROBOTS.fetch_add(1, Ordering::Relaxed)),
        port => names().get(port).cloned().unwrap_or_else(|| format!("robot-at-{port}")),
    }
}
