//! `chiral probe`: what a robot has, how fast it answers, and what its cameras see.

mod list;
mod live;
mod report;
mod snapshot;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use chiral_proto::{DEFAULT_URI, Rate};
use clap::Args;

use crate::access::ClientAccess;
use crate::describe::to_json;
use crate::{args, client, output};
use report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// Where the robot is: HOST:PORT, ws://HOST:PORT or, with Zenoh, tcp/HOST:PORT or zenoh:…, as in
    /// "zenoh:?robot=arm-3&connect=tcp/router:7447" [default: `ws://localhost:8765`, with --list
    /// `tcp/localhost:7447`].
    uri: Option<String>,

    /// List the named robots on a Zenoh network, with what they say of themselves.
    #[arg(long, conflicts_with_all = ["seconds", "rate", "snapshot"])]
    list: bool,

    /// How long to wait for the robot, and then for each of its answers.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = args::seconds)]
    timeout: Duration,

    #[command(flatten)]
    access: ClientAccess,

    /// How long to measure rates and latency; 0 leaves that out.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = args::seconds)]
    seconds: Duration,

    /// How often to ask for an observation while measuring.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = args::rate)]
    rate: Rate,

    /// Connect again when the connection is lost while it is measured, for as long as --timeout says,
    /// and tell how often that was.
    #[arg(long, conflicts_with = "list")]
    reconnect: bool,

    /// Write what the cameras see to this folder, as PNG: at most 64 files and 256 MiB.
    #[arg(long, value_name = "DIR")]
    snapshot: Option<PathBuf>,

    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Where robots are looked for.
const DEFAULT_NETWORK: &str = "tcp/localhost:7447";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.list {
        return list::run(options);
    }
    let uri = args::uri(options.uri.as_deref().unwrap_or(DEFAULT_URI));
    let connect = if options.reconnect { client::supervised } else { client::connect };
    let client = connect(&uri, options.timeout, &options.access)?;
    let metadata = client.metadata().context("the robot did not describe itself")?;
    let mut observation = client.observe().context("the robot gave no observation")?;
    let mut report = Report::new(&uri, metadata, &observation);
    if !options.json {
        output::print(&report.sensors_text(&observation))?;
    }
    if !options.seconds.is_zero() {
        let (live, last) = live::measure(&client, options.rate, options.seconds)?;
        observation = last;
        if !options.json {
            output::print(&live.to_string())?;
        }
        report.live = Some(live);
    }
    client::close(client)?;
    if let Some(folder) = &options.snapshot {
        let files = snapshot::write(folder, &observation, snapshot::Caps::default())?;
        if !options.json {
            output::print(&snapshot::to_text(&files))?;
        }
        report.snapshot = Some(files);
    }
    if options.json {
        output::print(&(to_json(&report, false)? + "\n"))?;
    }
    Ok(())
}
