//! The keys under which everything is published.

use crate::config::RobotName;

/// The two directions of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// From the policy to the robot.
    pub(crate) c2s: String,
    /// From the robot to the policy.
    pub(crate) s2c: String,
}

impl Keys {
    /// The keys that peers without this crate know.
    pub(crate) fn compatible() -> Self {
        Self { c2s: "chiral/c2s".to_owned(), s2c: "chiral/s2c".to_owned() }
    }

    /// The keys of one policy's connection to a robot. No later policy has them, so that it never
    /// receives what was meant for an earlier one, and `session` is not an id that others can list.
    pub(crate) fn session(robot: &RobotName, session: &str) -> Self {
        let session = format!("chiral/{robot}/session/{session}");
        Self { c2s: format!("{session}/c2s"), s2c: format!("{session}/s2c") }
    }
}

/// Where the close message to whoever reads `key` is published.
pub(crate) fn close(key: &str) -> String {
    format!("{key}/close")
}

/// A robot's liveliness token; `*` for `node` is whichever robot bears the name.
pub(crate) fn robot_token(robot: &str, node: &str) -> String {
    format!("chiral/{robot}/robot/{node}")
}

/// The robot in the key of a liveliness token.
pub(crate) fn robot_of_token(key: &str) -> Option<RobotName> {
    key.strip_prefix("chiral/")?.split('/').next()?.parse().ok()
}

/// A policy's liveliness token.
pub(crate) fn policy_token(robot: &RobotName, policy: &str) -> String {
    format!("chiral/{robot}/policy/{policy}")
}

/// Where a policy requests to drive the robot.
pub(crate) fn admission(robot: &RobotName) -> String {
    format!("chiral/{robot}/ask")
}

/// Where anybody requests a robot's metadata.
pub(crate) fn metadata(robot: &str) -> String {
    format!("chiral/{robot}/metadata")
}
