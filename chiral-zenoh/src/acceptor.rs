use std::io;

#[cfg(feature = "shm")]
use chiral_driver::Extension;
use chiral_driver::{Acceptor, BoxFuture, Incoming};
use chiral_proto::Map;
use chiral_proto::wire::Limits;

use crate::config::Config;
use crate::error::Error;
use crate::server::Listener;

/// The acceptor for a URI: `tcp/host:port` or `zenoh:…`, as [`Config`] describes it. It listens, or
/// has connected to its router, when this returns. `limits` bound what may be received.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) when the URI or the configuration cannot be used,
/// [`AddrInUse`](io::ErrorKind::AddrInUse) when a robot of the name is on the network already; else
/// [`Other`](io::ErrorKind::Other). The inner error is a [`UriError`](crate::UriError) or an
/// [`Error`].
pub async fn acceptor(uri: &str, limits: &Limits) -> io::Result<Box<dyn Acceptor>> {
    let config: Config =
        uri.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let listener = Listener::open(config.with_limits(limits.clone())).await;
    Ok(Box::new(listener.map_err(into_io)?))
}

fn into_io(error: Error) -> io::Error {
    let kind = match error {
        Error::Config(_) => io::ErrorKind::InvalidInput,
        Error::NameTaken(_) => io::ErrorKind::AddrInUse,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Its [extension](Acceptor::extension) is its [`SharedMemory`](crate::SharedMemory), with the
/// feature `shm` and when the configuration asks for it.
impl Acceptor for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async {
            let transport = Box::new(Self::accept(self).await);
            Ok(Incoming { transport, peer: "Zenoh".to_owned() })
        })
    }

    fn uri(&self) -> String {
        Self::uri(self)
    }

    fn wants_metadata(&self) -> bool {
        self.is_named()
    }

    fn set_metadata(&self, metadata: Map) {
        Self::set_metadata(self, metadata);
    }

    fn let_take_over(&self) {
        Self::let_take_over(self);
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        let closing = Self::close(self);
        Box::pin(async { closing.await.map_err(into_io) })
    }

    #[cfg(feature = "shm")]
    fn extension(&self) -> Option<Extension> {
        self.shared_memory().map(|memory| std::sync::Arc::new(memory.clone()) as Extension)
    }
}
