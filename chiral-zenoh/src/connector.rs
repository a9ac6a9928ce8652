use chiral_driver::client::WaitForServer;
use chiral_driver::{BoxFuture, ConnectError, Connector, Transport};
use chiral_proto::client::Lossy;
use chiral_proto::wire::Limits;

use crate::config::Config;
use crate::connect::{connect_waiting, lossy};

/// The connector for a URI: `tcp/host:port` or `zenoh:…`, as [`Config`] describes it.
///
/// ```
/// let connector = chiral_zenoh::connector("zenoh:?robot=arm-3&connect=tcp/router:7447");
/// assert!(connector.is_ok());
/// ```
///
/// # Errors
/// When the URI cannot be read: [`ConnectError::Transport`] with a [`UriError`](crate::UriError).
pub fn connector(uri: &str) -> Result<Box<dyn Connector>, ConnectError> {
    let config: Config = uri.parse().map_err(|error| ConnectError::Transport(Box::new(error)))?;
    Ok(Box::new(config))
}

/// A configuration connects policies to the robot that it names. The errors are
/// [`ConnectError::Transport`] with an [`Error`](crate::Error).
impl Connector for Config {
    fn connect(
        &self,
        limits: &Limits,
        wait: WaitForServer,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>> {
        let connecting = connect_waiting(self.clone().with_limits(limits.clone()), wait);
        Box::pin(async {
            let transport = connecting.await;
            let transport = transport.map_err(|error| ConnectError::Transport(Box::new(error)))?;
            Ok(Box::new(transport) as Box<dyn Transport>)
        })
    }

    fn uri(&self) -> String {
        self.to_string()
    }

    fn lossy(&self) -> Option<Lossy> {
        // In namespaced mode both sides are of this crate, which loses nothing.
        self.robot().is_none().then(lossy)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chiral_driver::client::ClientSettings;

    use super::*;

    #[test]
    fn the_client_retries_requests_only_in_compatible_mode() {
        let lossy = |uri| connector(uri).map(|connector| connector.lossy().is_some());
        assert!(lossy("tcp/localhost:7447").expect("it is a URI"));
        assert!(!lossy("zenoh:tcp/localhost:7447?robot=arm-3").expect("it is a URI"));
    }

    #[test]
    fn an_invalid_uri_is_a_transport_error() {
        let error = connector("zenoh:?robot=arm/3").map(drop).expect_err("a bad name");
        assert!(matches!(error, ConnectError::Transport(_)), "{error:?}");
        assert!(error.to_string().contains("arm/3"), "{error}");
    }

    #[test]
    fn a_connect_timeout_is_an_error_of_this_crate() {
        let connector = connector("tcp/127.0.0.1:1").expect("it is a URI");
        let connect_timeout = Some(Duration::from_millis(10));
        let settings = ClientSettings { connect_timeout, ..ClientSettings::default() };
        let wait = WaitForServer::new(&connector.uri(), &settings);
        let connecting = connector.connect(&Limits::default(), wait);
        let error = futures_lite::future::block_on(connecting).map(drop).expect_err("nobody");
        let ConnectError::Transport(error) = error else { panic!("{error:?}") };
        assert!(matches!(error.downcast_ref(), Some(crate::Error::NoRobot { .. })), "{error}");
    }
}
