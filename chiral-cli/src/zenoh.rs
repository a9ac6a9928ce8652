//! Named robots on a Zenoh network.

use std::time::Duration;

#[cfg(feature = "zenoh")]
use anyhow::Context as _;
use chiral_proto::Map;
#[cfg(feature = "zenoh")]
use chiral_zenoh::{AccessControl, Config, Identity, RobotName};

use crate::usage::UsageError;
#[cfg(feature = "zenoh")]
use crate::usage::ensure_usage;
#[cfg(feature = "zenoh")]
use crate::zenoh_acl::By;
use crate::zenoh_acl::Options as AclOptions;

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

/// The access control of a router, as JSON5.
///
/// # Errors
/// When a name is none of a robot, or one user is to serve several.
#[cfg(feature = "zenoh")]
pub(crate) fn access_control(options: &AclOptions) -> anyhow::Result<String> {
    let identity = |who: &str| match options.by {
        By::User => Identity::User(who.to_owned()),
        By::Certificate => Identity::Certificate(who.to_owned()),
    };
    ensure_usage!(
        options.robot.is_none() || options.names.len() == 1,
        "found --robot with {} names, expected one: call it for each robot, or let each be served by \
         a user of its name",
        options.names.len()
    );
    let mut access = AccessControl::new();
    for name in &options.names {
        let robot: RobotName = name.parse().map_err(UsageError::new)?;
        let server = identity(options.robot.as_deref().unwrap_or(name));
        let policies = match &options.policies[..] {
            [] => vec![identity(&format!("{name}-policy"))],
            policies => policies.iter().map(|who| identity(who)).collect(),
        };
        access = access.with_robot(robot, server, policies);
    }
    Ok(access.to_string())
}

#[cfg(not(feature = "zenoh"))]
pub(crate) fn access_control(options: &AclOptions) -> anyhow::Result<String> {
    missing(&format!("zenoh-acl --name {}", options.names.join(" --name ")))
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
