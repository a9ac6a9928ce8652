//! `chiral bench`: what the line between robot and policy costs, beside what a bare socket costs,
//! sample by sample in one run.

mod floor;
mod measure;
mod report;
mod server;

use std::time::Duration;

use anyhow::Context as _;
use chiral_tokio::PolicyClient;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

pub(crate) use server::{Options as ServerOptions, run as run_server};

use measure::{ActionLatency, Observing};
use report::{Dispatch, Report, Run};
use server::ServerProcess;

use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A running server to measure. Without it, servers are started for 1 and for 8 cameras, and
    /// the socket's floor and the one-way latency of actions are measured as well.
    uri: Option<String>,
    /// The numbers of RGB-D cameras to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    cameras: Vec<usize>,
    /// Whose WebSocket message layer to measure; both, side by side, when repeated.
    #[arg(long, value_enum, default_values_t = [Transport::Ws])]
    transport: Vec<Transport>,
    /// Round trips to measure of each kind.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Seconds of streaming, and of idling, while the latency of actions is measured.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Milliseconds that the measured robot takes over an observation, asynchronously: what a slow
    /// camera does to the latency of actions. Zero for a snapshot.
    #[arg(long, default_value_t = 0)]
    observe_takes_ms: u64,
    /// Rates of the action dispatch to measure, in hertz; none to leave it out.
    #[arg(long, value_delimiter = ',')]
    dispatch: Vec<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A WebSocket message layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Chiral's own session.
    Ws,
    /// Tungstenite's.
    Tungstenite,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Tungstenite => "tungstenite",
        }
    }
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let report = match &options.uri {
        Some(uri) => measure_given(uri, &options).await?,
        None => measure_own(&options).await?,
    };
    if options.json {
        output::print(&format!("{}\n", serde_json::to_string(&report)?))
    } else {
        output::print(&report.to_string())
    }
}

/// Measures a server that somebody else has started: what a client can see.
async fn measure_given(uri: &str, options: &Options) -> anyhow::Result<Report> {
    let client = PolicyClient::builder()
        .connect_timeout(Duration::from_secs(5))
        .connect(uri)
        .await
        .context("nothing to measure")?;
    let first = client.observe().await?;
    let mut observing = Observing::default();
    let progress = ProgressBar::new(options.samples as u64);
    for _ in 0..options.samples {
        observing.observe(&client).await?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let obs_hz = measure::stream(&client, options.seconds).await?;
    let run = Run::new(Transport::Ws, first.cameras.len(), measure::payload_len(&first))
        .observed(&observing, obs_hz);
    let dispatch = measure_dispatch(&client, options).await?;
    client.close().await;
    Ok(Report { runs: vec![run], dispatch })
}

/// Measures servers of our own, in processes of their own.
async fn measure_own(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for &cameras in &options.cameras {
        let server = ServerProcess::start(cameras, options.observe_takes_ms).await?;
        let mut lines = Vec::new();
        for &transport in &options.transport {
            let client = server.connect(transport).await?;
            lines.push((transport, client, Observing::default()));
            // One policy at a time: the next transport has a server of its own behind its port.
        }
        let bytes = server.payload_len;
        let progress =
            ProgressBar::new(options.samples as u64).with_message(format!("{cameras} cameras"));
        let mut floor = floor::Client::connect(&server.floor, bytes)?;
        for sample in 0..options.samples {
            for (_, client, observing) in &mut lines {
                observing.observe_beside(client, &mut floor, sample).await?;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        for (transport, client, observing) in lines {
            let idle = ActionLatency::measure(&client, options.seconds).await?;
            let before = server.cpu_seconds(&client).await?;
            client.start_obs_stream(chiral_proto::Rate::hz(30.0)?)?;
            let loaded = ActionLatency::measure(&client, options.seconds).await?;
            client.stop_obs_stream();
            let stats = client.stats();
            let after = server.cpu_seconds(&client).await?;
            let run = Run::new(transport, cameras, bytes)
                .observed(&observing, measure::recent_hz(&stats))
                .acted(idle, loaded)
                .burnt(after - before, options.seconds * 30.0 * bytes as f64);
            report.runs.push(run);
            if report.dispatch.is_empty() {
                report.dispatch = measure_dispatch(&client, options).await?;
            }
            client.close().await;
        }
        server.stop().await?;
    }
    Ok(report)
}

async fn measure_dispatch(
    client: &PolicyClient,
    options: &Options,
) -> anyhow::Result<Vec<Dispatch>> {
    let mut rates = Vec::new();
    for &asked in &options.dispatch {
        rates.push(measure::dispatch(client, asked, options.seconds).await?);
    }
    Ok(rates)
}
