//! The robot with the loop that is measured, in a process of its own.

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chiral_blocking::{Commands, PolicyServer, Robot as _};
use chiral_cli::bench::BenchRobot;
use chiral_cli::output;
use chiral_cli::ticks::Ticks;
use chiral_proto::{Map, Rate};
use clap::Args;

use super::{CAMERAS, LOOP_HZ, Round};

/// The robot whose loop is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// No cameras, and nothing of chiral.
    #[arg(long)]
    bare: bool,
}

/// Says where the robot is, and then runs its loop for as many seconds as each line of standard
/// input says, and says what it measured.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.bare {
        output::print("null\n")?;
        return answer(None);
    }
    let robot = BenchRobot::start(CAMERAS, &(Arc::new(|picture| picture) as _))?;
    let server = PolicyServer::bind("127.0.0.1:0")?;
    let mut commands = server.pull(robot.sensors(), Map::new().with("robot", "chiral bench"))?;
    let uri = format!("ws://{}", server.local_addr()?);
    output::print(&format!("{}\n", serde_json::to_string(&uri)?))?;
    answer(Some(&mut commands))
}

fn answer(mut commands: Option<&mut Commands>) -> anyhow::Result<()> {
    for seconds in io::stdin().lock().lines() {
        let seconds: f64 = serde_json::from_str(&seconds?)?;
        let round = control(commands.as_deref_mut(), Duration::try_from_secs_f64(seconds)?)?;
        output::print(&format!("{}\n", serde_json::to_string(&round)?))?;
    }
    Ok(())
}

/// The loop.
fn control(mut commands: Option<&mut Commands>, duration: Duration) -> anyhow::Result<Round> {
    let rate = Rate::hz(LOOP_HZ)?;
    let room = (duration.as_secs_f64() * LOOP_HZ) as usize + 1;
    let mut round = Round {
        off: Vec::with_capacity(room),
        empty_calls: Vec::with_capacity(room),
        full_calls: Vec::with_capacity(room),
        missed: 0,
    };
    let start = Instant::now();
    let mut ticks = Ticks::starting(start, rate);
    let mut rounds = 0;
    let mut last = None;
    loop {
        let now = Instant::now();
        let tick = ticks.next(now);
        if tick > start + duration {
            break;
        }
        thread::sleep(tick.saturating_duration_since(now));
        let woke = Instant::now();
        rounds += 1;
        if let Some(last) = last.replace(woke) {
            round.off.push(nanoseconds(woke.duration_since(last).abs_diff(rate.period())));
        }
        if let Some(commands) = &mut commands {
            let action = commands.try_next_action();
            let took = nanoseconds(woke.elapsed());
            if action.is_some() { &mut round.full_calls } else { &mut round.empty_calls }
                .push(took);
        }
    }
    // Those after the end, which a late last wake-up skips too, are not this round's.
    let due = (duration.as_secs_f64() * LOOP_HZ).round() as u64;
    round.missed = due.saturating_sub(rounds);
    Ok(round)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
