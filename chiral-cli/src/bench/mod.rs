//! `chiral bench`: what the connection between robot and policy costs, beside what a bare socket
//! costs, sample by sample in one run.
//!
//! It measures the adapter of this program. The project's benchmarks measure the others in the same
//! way, through [`Connection`].

mod connection;
pub mod floor;
mod measure;
mod process;
mod report;
mod robot;
mod spinner;

use std::fmt::Display;
use std::time::Duration;

use anyhow::Context as _;
use chiral_driver::address::Scheme;
use clap::Args;
use serde::Serialize;

pub use connection::{AfterEach, Connection, MakeAction};
pub use measure::{Exchange, Settings, Subject, measure};
pub use report::Report;
pub use robot::{BenchRobot, payload_len};

pub use crate::robot::Deliver;

pub(crate) use process::{Options as RobotOptions, run as run_robot};

use crate::access::ClientAccess;
use crate::usage::ensure_usage;
use crate::{args, client, output};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Options {
    /// A running robot to measure: HOST:PORT, or a URI. Without it, robots are started with 1 and
    /// with 8 cameras, and the socket's floor and the one-way latency of actions are measured too.
    uri: Option<String>,
    /// The numbers of RGB-D cameras to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8], conflicts_with = "uri")]
    cameras: Vec<usize>,
    #[command(flatten)]
    common: CommonOptions,

    #[command(flatten)]
    access: ClientAccess,
}

/// How much is measured, and how the result is printed.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// Round trips to measure of each kind.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Seconds for which the latency of actions is measured, each: idle, beside a stream, and
    /// beside a stream and a busy processor.
    #[arg(long, default_value = "10", value_parser = args::seconds)]
    seconds: Duration,
    /// Rates of the action dispatch to measure, in hertz; none to leave it out.
    #[arg(long, value_delimiter = ',')]
    dispatch: Vec<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl CommonOptions {
    /// How much is measured.
    ///
    /// # Errors
    /// When it is nothing, or at a rate that cannot be.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let Self { samples, seconds, ref dispatch, .. } = *self;
        ensure_usage!(samples > 0, "found --samples 0, expected more");
        ensure_usage!(!seconds.is_zero(), "found --seconds 0, expected more");
        for hz in dispatch {
            let rate = chiral_proto::Rate::hz(*hz);
            ensure_usage!(rate.is_ok(), "found --dispatch {hz}, expected hertz, as in 50");
        }
        Ok(Settings { samples, seconds, dispatch: dispatch.clone() })
    }

    /// Prints what was measured.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, report: &(impl Serialize + Display)) -> anyhow::Result<()> {
        if self.json {
            output::print(&format!("{}\n", serde_json::to_string(report)?))
        } else {
            output::print(&report.to_string())
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let settings = options.common.settings()?;
    let mut report = Report::default();
    if let Some(uri) = &options.uri {
        let uri = args::uri(uri);
        let robot = client::connect(&uri, CONNECT_TIMEOUT, &options.access)
            .context("nothing to measure")?;
        let first = robot.observe()?;
        let transport = match Scheme::of(&uri) {
            Scheme::SecureWebSocket => "wss",
            Scheme::WebSocket | Scheme::Unix(_) => "ws",
            Scheme::Other => "zenoh",
        };
        let subject = subject(robot, transport);
        let (cameras, bytes) = (first.cameras.len(), payload_len(&first));
        measure::measure_given(&subject, cameras, bytes, &settings, &mut report)?;
        subject.connection.close();
    } else {
        BenchRobot::check(&options.cameras)?;
        for &cameras in &options.cameras {
            let (process, addresses) = process::start(cameras)?;
            let robot = client::connect_to_own(&addresses.robot, CONNECT_TIMEOUT)?;
            let bytes = addresses.payload_len;
            let floor = floor::Client::connect(&addresses.floor, bytes)?;
            let subjects = vec![subject(robot, "ws")];
            measure(subjects, cameras, bytes, floor, &settings, &mut report)?;
            process.stop()?;
        }
    }
    options.common.print(&report)
}

fn subject(robot: chiral_blocking::PolicyClient, transport: &'static str) -> Subject {
    let connection = Box::new(robot);
    Subject { adapter: "blocking", transport, connection, bare: None, shared_memory: None }
}
