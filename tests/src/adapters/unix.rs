//! The adapters once more, over Unix sockets.

use std::sync::Arc;

use crate::Recorder;
use chiral_driver::ConnectError;

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};

/// An adapter whose robots and policies meet over Unix sockets; addresses are paths.
pub struct OverUnix(pub &'static dyn Adapter);

impl Adapter for OverUnix {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        self.0.serve(&self.uri(address), robot, settings)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        self.0.connect(uri, settings)
    }

    fn uri(&self, address: &str) -> String {
        format!("unix:{address}")
    }
}
