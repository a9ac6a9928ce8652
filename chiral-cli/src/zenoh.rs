//! Named robots on a Zenoh network.

use std::time::Duration;

#[cfg(feature = "zenoh")]
use anyhow::Context as _;
use chiral_proto::Map;
#[cfg(feature = "zenoh")]
use chiral_zenoh::Config;

use crate::usage::UsageError;
#[cfg(feature = "zenoh")]
use crate::usage::ensure_usage;

/// A robot that is on a network.
#[derive(Debug)]
pub(crate) struct Robot {
    pub(crate) name: String,
    /// What it says of itself; `None` when it did not answer.
    pub(crate) metadata: Option<Map>,
}

/// Puts a robot's name into the address at which it is to be served.
///
/// # Errors
/// When the address is none of Zenoh's, or has another name already.
#[cfg(feature = "zenoh")]
pub(crate) fn named(address: &str, robot: &str) -> anyhow::Result<String> {
    let config = config(address).context("--robot names a robot on Zenoh")?;
    if let Some(other) = config.robot() {
        let message =
            format!("found --robot {robot} and robot={other} in the address, expected one name");
        return Err(UsageError::new(message).into());
    }
    Ok(config.with_robot(robot.parse().map_err(UsageError::new)?).to_string())
}

/// Reads an address of Zenoh's. Zenoh itself takes any text with a slash for one.
#[cfg(feature = "zenoh")]
fn config(address: &str) -> anyhow::Result<Config> {
    let is_address = !address.contains("://");
    ensure_usage!(
        is_address,
        "found {address}, expected tcp/HOST:PORT or zenoh:… for a Zenoh network"
    );
    Ok(address.parse().map_err(UsageError::new)?)
}

/// The named robots on a network.
#[cfg(feature = "zenoh")]
pub(crate) fn robots(uri: &str, timeout: Duration) -> anyhow::Result<Vec<Robot>> {
    let robots = chiral_zenoh::robots(config(uri)?, timeout).wait()?.into_iter();
    let robots =
        robots.map(|robot| Robot { name: robot.name.to_string(), metadata: robot.metadata });
    Ok(robots.collect())
}

#[cfg(not(feature = "zenoh"))]
pub(crate) fn named(_: &str, _: &str) -> anyhow::Result<String> {
    missing("--robot")
}

#[cfg(not(feature = "zenoh"))]
pub(crate) fn robots(_: &str, _: Duration) -> anyhow::Result<Vec<Robot>> {
    missing("--list")
}

#[cfg(not(feature = "zenoh"))]
fn missing<T>(option: &str) -> anyhow::Result<T> {
    let message = format!(
        "found {option}, expected a program that was built with Zenoh: build chiral-cli with \
         `--features zenoh`"
    );
    Err(UsageError::new(message).into())
}
