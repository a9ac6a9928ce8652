//! `chiral bench`: what the line between robot and policy costs, beside what a bare socket costs,
//! sample by sample in one run; and what it does to a control loop.

mod bare;
mod control_loop;
mod floor;
mod measure;
mod report;
mod robot;
mod samples;
mod server;
mod tungstenite;

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

pub(crate) use control_loop::{Options as LoopOptions, run as run_loop};
pub(crate) use server::{Options as ServerOptions, run as run_server};

use measure::{ActionLatency, Observing};
use report::{Report, Run};
use server::ServerProcess;

use crate::adapter::{Adapter, Client, Settings};
use crate::{args, output, transport};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A running server to measure. Without it, servers are started for 1 and for 8 cameras, and
    /// the socket's floor and the one-way latency of actions are measured as well.
    uri: Option<String>,
    /// The numbers of RGB-D cameras to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    cameras: Vec<usize>,
    /// What carries the connection, on both sides; several, as in tokio,blocking, are measured
    /// side by side.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Adapter::default()])]
    adapter: Vec<Adapter>,
    /// What carries the messages; several, as in ws,zenoh, are measured side by side.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Transport::Ws])]
    transport: Vec<Transport>,
    /// Round trips to measure of each kind.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Seconds of streaming, and of idling, while the latency of actions is measured; or of each
    /// way to run the control loop.
    #[arg(long, default_value = "10", value_parser = args::seconds)]
    seconds: Duration,
    /// Milliseconds that the measured robot takes over an observation, waiting as its adapter
    /// does: what a slow camera does to the latency of actions. Zero for a snapshot.
    #[arg(long, default_value_t = 0)]
    observe_takes_ms: u64,
    /// Rates of the action dispatch to measure, in hertz; none to leave it out.
    #[arg(long, value_delimiter = ',')]
    dispatch: Vec<f64>,
    /// Measure instead how even a robot's own 1 kHz loop is that pulls its actions: without chiral,
    /// with actions at 50 Hz, and with 8 RGB-D cameras streaming at 30 Hz besides. On the blocking
    /// adapter.
    #[arg(long, conflicts_with_all = [
        "uri", "cameras", "adapter", "transport", "samples", "observe_takes_ms", "dispatch",
    ])]
    control_loop: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    /// WebSocket, through chiral's own session.
    Ws,
    /// WebSocket, through tungstenite's, on tokio.
    Tungstenite,
    /// Zenoh, over TCP.
    Zenoh,
    /// Zenoh, with cameras that write to memory which both processes share.
    ZenohShm,
}

impl Transport {
    /// What the adapters have it as; `None` where they do not.
    fn ours(self) -> Option<transport::Transport> {
        match self {
            Self::Ws => Some(transport::Transport::Ws),
            Self::Tungstenite => None,
            Self::Zenoh => Some(transport::Transport::Zenoh),
            Self::ZenohShm => Some(transport::Transport::ZenohShm),
        }
    }

    fn is_zenoh(self) -> bool {
        matches!(self, Self::Zenoh | Self::ZenohShm)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ours() {
            Some(transport) => transport.fmt(f),
            None => f.write_str("tungstenite"),
        }
    }
}

/// What one client and one server of a run are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    adapter: Adapter,
    transport: Transport,
}

impl Options {
    /// Every adapter with every transport.
    fn lines(&self) -> anyhow::Result<Vec<Line>> {
        let with_all =
            |&adapter| self.transport.iter().map(move |&transport| Line { adapter, transport });
        let lines: Vec<Line> = self.adapter.iter().flat_map(with_all).collect();
        for Line { adapter, transport } in &lines {
            ensure!(
                *transport != Transport::Tungstenite || *adapter == Adapter::Tokio,
                "found --transport {transport} with --adapter {adapter}, expected tokio: only \
                 there it is measured"
            );
            // Before a process is started that could not serve it.
            transport.ours().map(|transport| transport.loopback("bench")).transpose()?;
        }
        Ok(lines)
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(!options.seconds.is_zero(), "found --seconds 0, expected more");
    if options.control_loop {
        return control_loop::measure(options.seconds, options.json);
    }
    let report = match &options.uri {
        Some(uri) => measure_given(uri, options)?,
        None => measure_own(options)?,
    };
    if options.json {
        output::print(&format!("{}\n", serde_json::to_string(&report)?))
    } else {
        output::print(&report.to_string())
    }
}

/// Measures a server that somebody else has started: what a client can see, with one adapter after
/// the other.
fn measure_given(uri: &str, options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for &adapter in &options.adapter {
        let settings =
            Settings { connect_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
        let client = Client::connect(adapter, uri, settings).context("nothing to measure")?;
        let transport = match client.shares_memory() {
            None => Transport::Ws,
            Some(false) => Transport::Zenoh,
            Some(true) => Transport::ZenohShm,
        };
        let first = client.observe()?.observation;
        let mut observing = Observing::default();
        let progress = ProgressBar::new(options.samples as u64);
        for _ in 0..options.samples {
            observing.observe(&client)?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        let obs_hz = measure::stream(&client, options.seconds)?;
        let line = Line { adapter, transport };
        let run = Run::new(line, first.cameras.len(), measure::payload_len(&first));
        report.runs.push(run.observed(&observing, obs_hz));
        measure_dispatch(&mut report, adapter, &client, options)?;
        client.close();
    }
    Ok(report)
}

/// Measures servers of our own, in processes of their own.
fn measure_own(options: &Options) -> anyhow::Result<Report> {
    let lines = options.lines()?;
    let mut report = Report::default();
    for &cameras in &options.cameras {
        let server = ServerProcess::start(cameras, options.observe_takes_ms, &lines)?;
        let bytes = server.payload_len();
        let connect = |&line| Ok((line, server.connect(line)?, Observing::default()));
        let mut measured = lines.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        let progress =
            ProgressBar::new(options.samples as u64).with_message(format!("{cameras} cameras"));
        let mut yardsticks = server.yardsticks()?;
        for sample in 0..options.samples {
            for (line, client, observing) in &mut measured {
                observing.observe_beside(*line, client, &mut yardsticks, sample)?;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        for (line, client, observing) in measured {
            let idle = ActionLatency::measure(&client, options.seconds)?;
            let before = server::cpu_seconds(&client)?;
            client.start_obs_stream(chiral_proto::Rate::hz(30.0)?)?;
            let loaded = ActionLatency::measure(&client, options.seconds)?;
            client.stop_obs_stream();
            let stats = client.stats();
            let after = server::cpu_seconds(&client)?;
            let shares_memory = client.shares_memory();
            ensure!(
                line.transport != Transport::ZenohShm || shares_memory == Some(true),
                "the observations went over the network, expected shared memory: is there room in \
                 /dev/shm?"
            );
            let run = Run::new(line, cameras, bytes)
                .observed(&observing, measure::recent_hz(&stats))
                .sharing(shares_memory)
                .acted(idle, loaded)
                .burnt(after - before, options.seconds.as_secs_f64() * 30.0 * bytes as f64);
            report.runs.push(run);
            measure_dispatch(&mut report, line.adapter, &client, options)?;
            client.close();
        }
        server.stop()?;
    }
    Ok(report)
}

/// Measures the rates of the dispatch that were asked for, once for each adapter.
fn measure_dispatch(
    report: &mut Report,
    adapter: Adapter,
    client: &Client,
    options: &Options,
) -> anyhow::Result<()> {
    if report.dispatch.iter().all(|known| known.adapter != adapter) {
        for &asked in &options.dispatch {
            report.dispatch.push(measure::dispatch(adapter, client, asked, options.seconds)?);
        }
    }
    Ok(())
}
