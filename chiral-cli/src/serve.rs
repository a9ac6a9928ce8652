//! `chiral serve`: a simulated robot, for a policy under development and for load tests.

use std::sync::{Arc, mpsc};

use anyhow::{Context as _, bail};
use chiral_proto::ConnectionError;
use clap::Args;

use crate::adapter::{Adapter, Server};
use crate::robot::{SimulatedRobot, Spec, Witness};
use crate::text::printable;
use crate::{interrupts, output, zenoh};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen: HOST:PORT for WebSocket or, with Zenoh, tcp/HOST:PORT or zenoh:…, as in
    /// "zenoh:?connect=tcp/router:7447". Port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8765")]
    bind: String,

    /// The robot's name on Zenoh, under which any number of robots share a network.
    #[arg(long = "robot", value_name = "NAME")]
    name: Option<String>,

    /// What carries the connection.
    #[arg(long, value_enum, default_value_t)]
    adapter: Adapter,

    #[command(flatten)]
    robot: Spec,

    /// Print `{"listening": URI}` on standard output once the robot can be reached.
    #[arg(long)]
    json: bool,
}

/// What ends the robot.
enum News {
    Interrupted,
    AtRest,
}

pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let address = match &options.name {
        None => options.bind.clone(),
        Some(name) => zenoh::named(&options.bind, name)?,
    };
    let (sender, news) = mpsc::channel();
    let interrupted = sender.clone();
    // From here on a signal ends the robot in an orderly way.
    interrupts::listen(move || {
        // Whoever listened may have ended already.
        let _ = interrupted.send(News::Interrupted);
    })?;
    let robot = Arc::new(SimulatedRobot::start(options.robot, Announcer)?);
    let server = Server::start(options.adapter, &address, robot)
        .with_context(|| format!("cannot listen on {address}"))?;
    let uri = server.uri()?;
    output::note(&format!("listening on {uri}; Ctrl-C ends it"));
    if options.json {
        output::print(&format!("{}\n", serde_json::json!({ "listening": uri })))?;
    }
    news.recv()?;
    std::thread::Builder::new().name("shutdown".to_owned()).spawn(move || {
        server.shutdown();
        drop(server);
        // After a second interrupt nobody waits for this.
        let _ = sender.send(News::AtRest);
    })?;
    match news.recv()? {
        News::AtRest => output::note("the robot is at rest"),
        News::Interrupted => bail!("interrupted again: policy and robot were not told"),
    }
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
