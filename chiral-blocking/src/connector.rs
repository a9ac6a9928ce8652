//! Which transports this adapter was built with beside sockets.

use std::io;

use chiral_driver::proto::wire::Limits;
use chiral_driver::{Acceptor, ConnectError, Connector};

/// A connector for a URI.
pub(crate) fn connector(uri: &str) -> Result<Box<dyn Connector>, ConnectError> {
    #[cfg(feature = "zenoh")]
    return chiral_zenoh::connector(uri);
    #[cfg(not(feature = "zenoh"))]
    Err(ConnectError::no_connector(uri))
}

/// An acceptor for a URI.
pub(crate) fn acceptor(uri: &str, limits: &Limits) -> io::Result<Box<dyn Acceptor>> {
    #[cfg(feature = "zenoh")]
    return futures_lite::future::block_on(chiral_zenoh::acceptor(uri, limits));
    #[cfg(not(feature = "zenoh"))]
    {
        let _ = limits;
        Err(chiral_driver::server::no_acceptor(uri))
    }
}
