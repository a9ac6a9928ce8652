//! Any adapter over TLS: with one certificate, which every policy pins.

use std::sync::{Arc, LazyLock};

use chiral_driver::{ConnectError, TlsClient, TlsServer};

use crate::Recorder;
use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};
use crate::certificates::Identity;

/// An adapter, over TLS.
pub struct OverTls<'a>(pub &'a dyn Adapter);

/// The settings of a server that has the certificate.
pub fn server() -> TlsServer {
    TLS.0.clone()
}

/// The settings of a client that takes it alone.
pub fn client() -> TlsClient {
    TLS.1.clone()
}

static TLS: LazyLock<(TlsServer, TlsClient)> = LazyLock::new(|| {
    let identity = Identity::self_signed();
    (identity.server(), identity.pinned())
});

impl Adapter for OverTls<'_> {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let settings = ServerSettings { tls: Some(server()), ..settings };
        self.0.serve(address, robot, settings)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let settings = ClientSettings { tls: Some(client()), ..settings };
        self.0.connect(uri, settings)
    }

    fn uri(&self, address: &str) -> String {
        format!("wss://{address}")
    }
}
