//! Every adapter, message layer and transport, measured beside each other in one run.
//!
//! `chiral bench` measures the adapter of the command in the same way.
//!
//! ```sh
//! cargo run --release -p chiral-bench -- --adapter tokio,smol,blocking
//! cargo run --release -p chiral-bench -- --transport ws,tungstenite
//! cargo run --release -p chiral-bench --features zenoh-shm -- --transport ws,zenoh,zenoh-shm
//! cargo run --release -p chiral-bench -- --control-loop
//! cargo run --release -p chiral-bench --features zenoh -- soak --minutes 60
//! ```

mod bare;
mod control_loop;
mod line;
mod policy;
mod process;
mod robot;
mod soak;
mod tungstenite;

use std::process::ExitCode;

use chiral_cli::bench::{BenchRobot, CommonOptions, Report, measure};
use clap::{Args, Parser, Subcommand};

use line::{Adapter, Line, Transport};
use process::RobotProcess;

/// Measure every adapter, message layer and transport beside each other.
#[derive(Debug, Parser)]
#[command(max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    process: Option<Process>,
}

#[derive(Debug, Args)]
struct Options {
    /// The numbers of RGB-D cameras to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    cameras: Vec<usize>,
    /// What carries the connection, on both sides.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Adapter::Tokio])]
    adapter: Vec<Adapter>,
    /// What carries the messages.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Transport::Ws])]
    transport: Vec<Transport>,
    /// Milliseconds that the robot takes over an observation, waiting as its adapter does: what a
    /// slow camera does to the latency of actions. Zero for a snapshot.
    #[arg(long, default_value_t = 0)]
    observe_takes_ms: u64,
    /// Measure instead how even a robot's own 1 kHz loop is that pulls its actions: without chiral,
    /// with actions at 50 Hz, and with 8 RGB-D cameras streaming at 30 Hz besides. On the blocking
    /// adapter.
    #[arg(long, conflicts_with_all = [
        "cameras", "adapter", "transport", "samples", "observe_takes_ms", "dispatch",
    ])]
    control_loop: bool,
    #[command(flatten)]
    common: CommonOptions,
}

/// What else there is: another measurement, and the other processes of a run, which starts them.
#[derive(Debug, Subcommand)]
enum Process {
    /// Run robots and policies of all adapters and transports over bad networks, and see whether rates,
    /// latencies, memory, threads and descriptors stay as they are; exits with 1 when they do not.
    Soak(soak::Options),
    /// Serves the robot that is measured.
    #[command(hide = true)]
    Robot(process::Options),
    /// Runs the control loop that is measured.
    #[command(hide = true)]
    ControlLoop(control_loop::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    chiral_cli::exit_code(match cli.process {
        None => run(&cli.options),
        Some(Process::Soak(options)) => soak::run(&options),
        Some(Process::Robot(options)) => process::run(&options),
        Some(Process::ControlLoop(options)) => control_loop::run(&options),
    })
}

fn run(options: &Options) -> anyhow::Result<()> {
    let settings = options.common.settings()?;
    if options.control_loop {
        return control_loop::measure(&settings, &options.common);
    }
    BenchRobot::check(&options.cameras)?;
    let lines = Line::all(&options.adapter, &options.transport)?;
    let mut report = Report::default();
    for &cameras in &options.cameras {
        let robot = RobotProcess::start(cameras, options.observe_takes_ms, &lines)?;
        let subjects = robot.connect()?;
        measure(subjects, cameras, robot.payload_len(), robot.floor()?, &settings, &mut report)?;
        robot.stop()?;
    }
    options.common.print(&report)
}
