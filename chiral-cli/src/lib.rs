//! The command `chiral`: see a robot and its policy at work, try one without the other, measure the
//! connection between them, and look into frames.
//!
//! This library exists for the program and for the project's own benchmarks. It promises nothing
//! to anybody else.

mod access;
mod args;
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "tls")]
mod cert;
mod client;
mod completions;
mod demo;
mod describe;
#[doc(hidden)]
pub mod helper;
mod inspect;
mod interrupts;
#[doc(hidden)]
pub mod output;
mod probe;
mod robot;
#[doc(hidden)]
pub mod samples;
mod send;
mod serve;
mod text;
#[doc(hidden)]
pub mod ticks;
mod transport;
mod usage;
mod zenoh;
mod zenoh_acl;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use usage::UsageError;

/// The interface between a robot and the policy that drives it.
#[derive(Parser)]
#[command(name = "chiral", version, about, max_term_width = 100)]
struct Cli {
    /// Log more: once for connections, twice for everything.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
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
    /// Send a robot one action, or a few, by hand.
    Send(send::Options),
    /// Measure latency and throughput beside a bare socket's.
    Bench(bench::Options),
    /// The robot of `bench`.
    #[command(hide = true)]
    BenchRobot(bench::RobotOptions),
    /// Make a certificate and a key for a robot that speaks TLS.
    #[cfg(feature = "tls")]
    Cert(cert::Options),
    /// Decode one frame from a file or standard input.
    Inspect(inspect::Options),
    /// Print the access control of a Zenoh router, which keeps others away from a robot's keys.
    ZenohAcl(zenoh_acl::Options),
    /// Print a completion script for a shell.
    Completions(completions::Options),
}

/// Runs the program: reads its arguments, writes its results to standard output, and everything
/// else to standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.verbose);
    exit_code(match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::DemoRobot(options) => demo::run_robot(&options),
        Command::Serve(options) => serve::run(options),
        Command::Probe(options) => probe::run(&options),
        Command::Send(options) => send::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::BenchRobot(options) => bench::run_robot(&options),
        #[cfg(feature = "tls")]
        Command::Cert(options) => cert::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::ZenohAcl(options) => zenoh_acl::run(&options),
        Command::Completions(options) => completions::run(&options),
    })
}

/// Prints an error, if there is one.
#[doc(hidden)]
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // A peer may have had a say in it.
    output::note(&text::printable(&format!("chiral: {error:#}")));
    if UsageError::is_behind(&error) { UsageError::EXIT_CODE.into() } else { ExitCode::FAILURE }
}

/// Logs go to standard error, so that standard output is the command's result alone.
fn log(verbose: u8) {
    // Zenoh warns of what is intended, and logs errors while it closes that are none; what matters
    // comes as an error of ours.
    let (level, of_zenoh) = match verbose {
        0 => (LevelFilter::WARN, LevelFilter::OFF),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    let targets = Targets::new().with_default(level).with_target("zenoh", of_zenoh);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}
