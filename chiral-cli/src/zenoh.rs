//! Named robots on a Zenoh network.

use std::time::Duration;

use chiral_proto::Map;

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
    use chiral_driver::zenoh::Config;
    let config: Config = address.parse().map_err(|error| {
        anyhow::anyhow!("--robot names a robot on Zenoh: {error}, as in --bind tcp/0.0.0.0:7447")
    })?;
    if let Some(other) = config.robot() {
        anyhow::bail!("found --robot {robot} and robot={other} in the address, expected one name");
    }
    Ok(config.with_robot(robot.parse()?).to_string())
}

/// The named robots on a network.
#[cfg(feature = "zenoh")]
pub(crate) fn robots(uri: &str, timeout: Duration) -> anyhow::Result<Vec<Robot>> {
    let robots = chiral_driver::zenoh::robots(uri.parse()?, timeout).wait()?.into_iter();
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
    anyhow::bail!(
        "found {option}, expected a program that was built with Zenoh: build chiral-cli with \
         `--features zenoh`"
    )
}
