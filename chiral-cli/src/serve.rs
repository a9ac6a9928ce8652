//! `chiral serve`: a simulated robot, for a policy under development and for load tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;
use chiral_blocking::{PolicyServer, ServerConfig, Watchdog};
use chiral_proto::{ConnectionError, DEFAULT_ADDRESS, server};
use clap::Args;

use crate::access::ServerAccess;
use crate::robot::{RobotListener, SimulatedRobot, Spec};
use crate::text::printable;
use crate::usage::UsageError;
use crate::{args, interrupts, output, zenoh};

#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen: HOST:PORT for WebSocket or, with Zenoh, tcp/HOST:PORT or zenoh:…, as in
    /// "zenoh:?connect=tcp/router:7447". Port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS)]
    bind: String,

    /// The robot's name on Zenoh, under which any number of robots share a network.
    #[arg(long = "robot", value_name = "NAME")]
    name: Option<String>,

    /// Hold the robot still after so long without an action, 0 for never.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = args::seconds)]
    watchdog: Duration,

    /// Give the robot to the newest policy: the one before is closed. Without it, a newer one waits
    /// for its turn.
    #[arg(long)]
    take_over: bool,

    #[command(flatten)]
    robot: Spec,

    #[command(flatten)]
    access: ServerAccess,

    /// Print `{"listening": URI}` on standard output once the robot can be reached.
    #[arg(long)]
    json: bool,
}

/// What ends the robot.
enum Event {
    Interrupted,
    ShutDown,
}

pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let address = match &options.name {
        None => options.bind.clone(),
        Some(name) => zenoh::named(&options.bind, name)?,
    };
    let (sender, events) = mpsc::channel();
    let interrupted = sender.clone();
    // From here on a signal ends the robot in an orderly way.
    interrupts::listen(move || {
        // The receiver may be gone already.
        let _ = interrupted.send(Event::Interrupted);
    })?;
    let machine = server::Config { action_spec: options.robot.action_spec(), ..Default::default() };
    let robot = SimulatedRobot::start(options.robot, Announcer::default())?;
    let server = bind(&address, machine, options.watchdog, options.take_over, &options.access)?;
    server.spawn(robot)?;
    let uri = server.uri()?;
    output::note(&format!("listening on {uri}; Ctrl-C ends it"));
    if options.json {
        output::print(&format!("{}\n", serde_json::json!({ "listening": uri })))?;
    }
    events.recv()?;
    std::thread::Builder::new().name("shutdown".to_owned()).spawn(move || {
        server.shutdown();
        // After a second interrupt nobody waits for this.
        let _ = sender.send(Event::ShutDown);
    })?;
    match events.recv()? {
        Event::ShutDown => output::note("the robot is at rest"),
        Event::Interrupted => bail!("interrupted again: the shutdown was not completed"),
    }
    Ok(())
}

fn bind(
    address: &str,
    machine: server::Config,
    watchdog: Duration,
    take_over: bool,
    access: &ServerAccess,
) -> anyhow::Result<PolicyServer> {
    let watchdog = if watchdog.is_zero() { Watchdog::Off } else { Watchdog::After(watchdog) };
    let config = ServerConfig { machine, watchdog, take_over, ..ServerConfig::default() };
    let config = access.apply(config)?;
    let refused = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidInput => UsageError::new(error).into(),
        _ => anyhow::Error::from(error),
    };
    PolicyServer::bind_with(address, config).map_err(refused)
}

/// Says who comes and goes, and which actions had no effect.
#[derive(Default)]
struct Announcer {
    ignored_actions: AtomicU64,
}

impl RobotListener for Announcer {
    /// A policy sends many: only the 1st, 10th, 100th and so on are announced.
    fn action_ignored(&self, why: &str) {
        let count = self.ignored_actions.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 10_u64.pow(count.ilog10()) {
            output::note(&format!("an action was ignored: {why} ({count} so far)"));
        }
    }

    fn connected(&self) {
        output::note("a policy has connected");
    }

    fn disconnected(&self, reason: &ConnectionError) {
        output::note(&printable(&format!("the policy has gone: {reason}")));
    }
}
