//! A policy's connection to a robot.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chiral_blocking::{Builder, ConnectError, PolicyClient};
use chiral_proto::client::Reconnect;

use crate::access::ClientAccess;

/// How long the robot may take to confirm a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects. The timeout is for the connection and then for each answer.
pub(crate) fn connect(
    uri: &str,
    timeout: Duration,
    access: &ClientAccess,
) -> anyhow::Result<PolicyClient> {
    Ok(access.apply(builder(timeout))?.connect(uri)?)
}

/// Connects to a robot of this program's own.
pub(crate) fn connect_to_own(uri: &str, timeout: Duration) -> Result<PolicyClient, ConnectError> {
    builder(timeout).connect(uri)
}

fn builder(timeout: Duration) -> Builder {
    PolicyClient::builder().connect_timeout(timeout).request_timeout(timeout)
}

/// As [`connect`]; a connection that is lost is made again, if that takes no longer than the timeout.
pub(crate) fn supervised(
    uri: &str,
    timeout: Duration,
    access: &ClientAccess,
) -> anyhow::Result<PolicyClient> {
    let reconnect = Reconnect { give_up_after: Some(timeout), ..Reconnect::holding_calls() };
    Ok(access.apply(builder(timeout))?.reconnect(reconnect).connect(uri)?)
}

/// Closes the connection. A robot that does not confirm it in time is left to a thread, which the
/// end of the process ends.
pub(crate) fn close(client: PolicyClient) -> anyhow::Result<()> {
    let (closed, is_closed) = mpsc::channel();
    thread::Builder::new().name("close".to_owned()).spawn(move || {
        client.close();
        // The receiver is gone after the timeout.
        let _ = closed.send(());
    })?;
    // Whether the robot has confirmed it makes no difference here.
    let _ = is_closed.recv_timeout(CLOSE_TIMEOUT);
    Ok(())
}
