//! The adapters once more, over Zenoh.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chiral_driver::ConnectError;
use chiral_driver::zenoh::Error;
use chiral_tests::Recorder;

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};

/// An adapter whose robots and policies meet over Zenoh.
pub(crate) struct OverZenoh {
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
    pub(crate) const fn compatible(adapter: &'static dyn Adapter) -> Self {
        Self { adapter, how: How::Compatible }
    }

    /// In namespaced mode.
    pub(crate) const fn named(adapter: &'static dyn Adapter) -> Self {
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
        self.adapter.serve(&self.uri(address), robot, settings)
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
        let ConnectError::Zenoh(error) = error else { return false };
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

/// The name of the robot at an address: the same for the same port, and another one for each robot
/// that is given any port.
fn name_at(address: &str) -> String {
    static ROBOTS: AtomicU32 = AtomicU32::new(0);
    match address.rsplit(':').next().expect("it has a port") {
        "0" => format!("robot-{}", ROBOTS.fetch_add(1, Ordering::Relaxed)),
        port => format!("robot-at-{port}"),
    }
}
