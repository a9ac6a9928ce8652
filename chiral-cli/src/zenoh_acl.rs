//! `chiral zenoh-acl`: who may use which robot's keys on a Zenoh router.

use clap::{Args, ValueEnum};

use crate::{output, zenoh};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The robot's name on Zenoh; may be repeated, for the robots of one router.
    #[arg(long = "name", value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,

    /// By what the router knows who has connected.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: By,

    /// The user or common name that serves the robot. Default: its name.
    #[arg(long, value_name = "WHO")]
    pub(crate) robot: Option<String>,

    /// A user or common name that may drive the robot; may be repeated. Default: NAME-policy.
    #[arg(long = "policy", value_name = "WHO")]
    pub(crate) policies: Vec<String>,
}

/// By what a router knows who has connected to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The user's name, with a password.
    #[default]
    User,
    /// The common name in the client's certificate, with TLS.
    Certificate,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    output::print(&zenoh::access_control(options)?)?;
    Ok(())
}
