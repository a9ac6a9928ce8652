//! `chiral`: see a robot and its policy at work, try one without the other, measure the line
//! between them, and look into frames.

mod adapter;
mod args;
mod bench;
mod demo;
mod describe;
mod helper;
mod inspect;
mod interrupts;
mod output;
mod probe;
mod robot;
mod serve;
mod text;
mod ticks;
mod transport;
mod zenoh;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The interface between a robot and the policy that drives it.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// Log more: once for connections, twice for everything.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a simulated robot and a policy that drives it from the pixels.
    Demo(demo::Options),
    /// The robot of `demo`.
    #[command(hide = true)]
    DemoRobot(demo::RobotOptions),
    /// Serve a simulated robot.
    Serve(serve::Options),
    /// Connect to a robot and show what it has and how fast it answers.
    Probe(probe::Options),
    /// Measure latency and throughput against the socket's floor.
    Bench(bench::Options),
    /// The measured side of `bench`.
    #[command(hide = true)]
    BenchServer(bench::ServerOptions),
    /// The measured side of `bench --control-loop`.
    #[command(hide = true)]
    BenchLoop(bench::LoopOptions),
    /// Decode one frame from a file or standard input.
    Inspect(inspect::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.verbose);
    let done = match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::DemoRobot(options) => demo::run_robot(&options),
        Command::Serve(options) => serve::run(options),
        Command::Probe(options) => probe::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::BenchServer(options) => bench::run_server(&options),
        Command::BenchLoop(options) => bench::run_loop(&options),
        Command::Inspect(options) => inspect::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A peer may have had a say in it.
            output::note(&text::printable(&format!("chiral: {error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error, so that standard output is the command's result alone.
fn log(verbose: u8) {
    // Zenoh warns of what is meant to be so, and of what comes in another order while it ends;
    // what matters comes as an error of ours.
    let (level, of_zenoh) = match verbose {
        0 => (LevelFilter::WARN, LevelFilter::OFF),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    let targets = Targets::new().with_default(level).with_target("zenoh", of_zenoh);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}
