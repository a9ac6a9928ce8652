//! `chiral serve`: a simulated robot, for a policy under development and for load tests.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use chiral_proto::ConnectionError;
use chiral_tokio::PolicyServer;
use clap::Args;

use crate::output;
use crate::robot::{SimulatedRobot, Spec, Witness};
use crate::text::printable;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes any that is free.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8765")]
    bind: String,

    #[command(flatten)]
    robot: Spec,

    /// Print `{"listening": URI}` on standard output once the robot can be reached.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    // From here on a signal ends the robot in an orderly way.
    let mut interrupted = Interrupts::listen()?;
    let robot = Arc::new(SimulatedRobot::start(options.robot, Announcer)?);
    let server = PolicyServer::bind(&options.bind)
        .await
        .with_context(|| format!("cannot listen on {}", options.bind))?;
    let uri = format!("ws://{}", server.local_addr()?);
    output::note(&format!("listening on {uri}; Ctrl-C ends it"));
    if options.json {
        output::print(&format!("{}\n", serde_json::json!({ "listening": uri })))?;
    }
    let until_interrupted = async {
        interrupted.next().await;
        tokio::select! {
            () = server.shutdown() => Ok(()),
            () = interrupted.next() => bail!("interrupted again: policy and robot were not told"),
        }
    };
    let serving = async { server.serve(robot).await.context("the server failed") };
    tokio::try_join!(serving, until_interrupted)?;
    output::note("the robot is at rest");
    Ok(())
}

/// Says who comes and goes.
struct Announcer;

impl Witness for Announcer {
    fn connected(&self) {
        output::note("a policy has connected");
    }

    fn disconnected(&self, reason: &ConnectionError) {
        output::note(&printable(&format!("the policy has gone: {reason}")));
    }
}

/// Ctrl-C and, on Unix, SIGTERM.
struct Interrupts {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

#[cfg(unix)]
impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let signals = [interrupt, terminate].into_iter().collect::<Result<Vec<_>, _>>();
        let signals = signals.context("signals cannot be listened for")?;
        Ok(Self { signals: signals.try_into().expect("there are two") })
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        // Without a way to hear of it, the robot serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
