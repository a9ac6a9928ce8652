//! A policy's connection to a robot.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chiral_blocking::{ConnectError, PolicyClient};
use chiral_proto::client::Reconnect;

/// How long the robot may take to confirm a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects. The timeout is for the connection and then for each answer.
pub(crate) fn connect(uri: &str, timeout: Duration) -> Result<PolicyClient, ConnectError> {
    PolicyClient::builder().connect_timeout(timeout).request_timeout(timeout).connect(uri)
}

/// As [`connect`]; a connection that is lost is made again, if that takes no longer than the timeout.
pub(crate) fn supervised(uri: &str, timeout: Duration) -> Result<PolicyClient, ConnectError> {
    let reconnect = Reconnect { give_up_after: Some(timeout), ..Reconnect::holding_calls() };
    let builder = PolicyClient::builder().reconnect(reconnect);
    builder.connect_timeout(timeout).request_timeout(timeout).connect(uri)
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
