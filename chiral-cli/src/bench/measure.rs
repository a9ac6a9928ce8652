//! What is measured, and how.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_proto::{Map, Rate, instant_after};
use indicatif::{ProgressBar, ProgressStyle};

use super::connection::Connection;
use super::floor;
use super::report::{ActionLatency, BesideSpinner, Dispatch, Observing, Report, Run};
use super::robot::{process_cpu_seconds, stamped_action};
use super::spinner::Spinner;

/// Round trips in a row from one connection, before the next one has its turn.
const ROW: usize = 10;
/// Round trips before each row that are not counted: threads were asleep, and caches held another
/// connection's data.
const WARM_UP: usize = 2;
/// The rate of the stream beside which actions are timed.
const STREAM_HZ: f64 = 30.0;
const ACTION_HZ: f64 = 100.0;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Round trips of each kind.
    pub samples: usize,
    /// How long actions are timed in each condition, and each rate of the dispatch.
    pub seconds: Duration,
    /// Rates of the dispatch, hertz.
    pub dispatch: Vec<f64>,
}

/// Makes an exchange over something else than chiral, and returns how long it took.
pub type Exchange = Box<dyn FnMut() -> anyhow::Result<Duration>>;

/// A connection to a [`BenchRobot`](super::BenchRobot), and what it is made of.
pub struct Subject {
    pub adapter: &'static str,
    pub transport: &'static str,
    pub connection: Box<dyn Connection>,
    /// An exchange of the same bytes over the bare transport, where that is not a socket.
    pub bare: Option<Exchange>,
    /// Whether observations come through shared memory, where that is a question.
    pub shared_memory: Option<bool>,
}

/// Measures connections beside each other, and beside a bare socket that exchanges as many bytes:
/// a row of round trips from one, then from the next, so that what else the computer does falls on
/// all of them.
///
/// # Errors
/// When a connection or an exchange fails.
pub fn measure(
    mut subjects: Vec<Subject>,
    cameras: usize,
    bytes: usize,
    floor: floor::Client,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<()> {
    let floor = Arc::new(Mutex::new(floor));
    let progress = progress_bar(cameras);
    // Sockets, buffers and caches.
    observe_in_rows(&mut subjects, &floor, 2 * ROW, &progress)?;
    let mut runs = Vec::new();
    let observed = observe_in_rows(&mut subjects, &floor, settings.samples, &progress)?;
    for (subject, observing) in subjects.iter().zip(observed) {
        let connection = &*subject.connection;
        let mut run = Run::new(subject, cameras, bytes, &observing);
        progress.set_message(format!("actions on {}", subject.adapter));
        run.action_ms_idle = Some(time_actions(connection, settings.seconds)?);
        let cpu_before = cpu_seconds(connection)?;
        let (latency, hz) = time_actions_beside_stream(connection, settings.seconds)?;
        let moved = settings.seconds.as_secs_f64() * STREAM_HZ * bytes as f64 / 1e9;
        run.action_ms_loaded = Some(latency);
        run.obs_hz = hz;
        run.cpu_s_per_gb = cpu_seconds(connection)?
            .zip(cpu_before)
            .map(|(after, before)| (after - before) / moved);
        runs.push(run);
    }
    let spinner = Spinner::start()?;
    let samples = settings.samples.div_ceil(3);
    let observed = observe_in_rows(&mut subjects, &floor, samples, &progress)?;
    for ((subject, observing), run) in subjects.iter().zip(observed).zip(&mut runs) {
        progress.set_message(format!("actions on {}, beside a spinner", subject.adapter));
        let (latency, hz) = time_actions_beside_stream(&*subject.connection, settings.seconds)?;
        run.beside_spinner = Some(BesideSpinner::new(&observing, latency, hz));
    }
    drop(spinner);
    progress.finish_and_clear();
    report.runs.extend(runs);
    for subject in &subjects {
        if report.dispatch.iter().all(|known| known.adapter != subject.adapter) {
            for &asked in &settings.dispatch {
                let dispatch = measure_dispatch(subject, asked, settings.seconds)?;
                report.dispatch.push(dispatch);
            }
        }
        subject.connection.close();
    }
    Ok(())
}

/// Measures a robot that somebody else has started: what a policy can see.
///
/// # Errors
/// When the connection fails.
pub(super) fn measure_given(
    subject: &Subject,
    cameras: usize,
    bytes: usize,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<()> {
    let connection = &*subject.connection;
    let mut observing = Observing::default();
    for count in rows(settings.samples) {
        connection.time_observations(WARM_UP, Box::new(|_| {}))?;
        observing.observe.extend(connection.time_observations(count, Box::new(|_| {}))?);
    }
    let mut run = Run::new(subject, cameras, bytes, &observing);
    connection.start_stream(Rate::hz(STREAM_HZ)?)?;
    std::thread::sleep(settings.seconds);
    connection.stop_stream();
    run.obs_hz = recent_hz(connection);
    report.runs.push(run);
    for &asked in &settings.dispatch {
        report.dispatch.push(measure_dispatch(subject, asked, settings.seconds)?);
    }
    Ok(())
}

/// Drawn on standard error, and only where that is a terminal.
fn progress_bar(cameras: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}");
    let style = style.expect("the template is well-formed");
    ProgressBar::new_spinner().with_style(style).with_prefix(format!("{cameras} camera(s)"))
}

/// The rows in which so many samples are taken.
fn rows(samples: usize) -> impl Iterator<Item = usize> {
    (0..samples).step_by(ROW).map(move |done| ROW.min(samples - done))
}

/// So many round trips from each, in rows that take turns.
fn observe_in_rows(
    subjects: &mut [Subject],
    floor: &Arc<Mutex<floor::Client>>,
    samples: usize,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Observing>> {
    let mut left = samples;
    let mut observed: Vec<Observing> = subjects.iter().map(|_| Observing::default()).collect();
    for count in rows(samples) {
        progress.set_message(format!("{left} round trips"));
        progress.tick();
        left -= count;
        for (subject, observing) in subjects.iter_mut().zip(&mut observed) {
            observe_row(subject, floor, count, observing)?;
        }
    }
    Ok(observed)
}

/// A row of observations, and beside each an exchange over the bare socket in the same thread:
/// which of the two comes first alternates. Then a row of exchanges over the bare transport.
fn observe_row(
    subject: &mut Subject,
    floor: &Arc<Mutex<floor::Client>>,
    count: usize,
    observing: &mut Observing,
) -> anyhow::Result<()> {
    let beside = Arc::clone(floor);
    let (sender, exchanged) = mpsc::channel();
    let after = move |done: usize| {
        let due = if done < WARM_UP { 1 } else { exchanges_after(done - WARM_UP, count) };
        let mut floor = beside.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..due {
            // Received at the end of this row.
            let _ = sender.send((done, floor.exchange()));
        }
    };
    let took = subject.connection.time_observations(WARM_UP + count, Box::new(after))?;
    observing.observe.extend(took.into_iter().skip(WARM_UP));
    for (done, took) in exchanged {
        let took = took.context("the exchange over the bare socket failed")?;
        observing.floor.extend((done > WARM_UP).then_some(took));
    }
    if let Some(exchange) = &mut subject.bare {
        for done in 0..WARM_UP + count {
            let took = exchange()?;
            observing.bare.extend((done >= WARM_UP).then_some(took));
        }
    }
    Ok(())
}

/// How many exchanges follow observation `n` of so many, the first of which is 1: each observation
/// with an odd number has its exchange after it, each other one before it.
fn exchanges_after(n: usize, count: usize) -> usize {
    if n.is_multiple_of(2) { 0 } else { 1 + usize::from(n < count) }
}

/// The rate of the last observations.
fn recent_hz(connection: &dyn Connection) -> f64 {
    connection.stats().observations.recent_hz().unwrap_or(0.0)
}

/// How long actions take from the policy's call to the robot's, while observations stream; and the
/// rate of these.
fn time_actions_beside_stream(
    connection: &dyn Connection,
    seconds: Duration,
) -> anyhow::Result<(ActionLatency, f64)> {
    connection.start_stream(Rate::hz(STREAM_HZ)?)?;
    let latency = time_actions(connection, seconds)?;
    connection.stop_stream();
    Ok((latency, recent_hz(connection)))
}

/// Sends actions, each stamped with the time of the call, and asks the robot what it measured.
fn time_actions(connection: &dyn Connection, seconds: Duration) -> anyhow::Result<ActionLatency> {
    connection.reset().context("the robot did not forget what it measured before")?;
    let end = instant_after(Instant::now(), seconds);
    connection.send_actions(Rate::hz(ACTION_HZ)?, end, Box::new(stamped_action))?;
    let metadata = connection.metadata()?;
    let number =
        |key: &str| number(&metadata, key).with_context(|| format!("the robot says no {key}"));
    Ok(ActionLatency {
        p50: number("action_p50_ms")?,
        p99: number("action_p99_ms")?,
        max: number("action_max_ms")?,
        count: number("action_count")? as u64,
    })
}

fn number(metadata: &Map, key: &str) -> Option<f64> {
    metadata.get(key)?.as_f64()
}

/// CPU seconds of both processes so far, where the systems tell.
fn cpu_seconds(connection: &dyn Connection) -> anyhow::Result<Option<f64>> {
    let robots = number(&connection.metadata()?, "cpu_seconds");
    Ok(process_cpu_seconds().zip(robots).map(|(own, robots)| own + robots))
}

/// Dispatches a queue that never runs empty, and compares the rate with the one asked for.
fn measure_dispatch(subject: &Subject, asked: f64, seconds: Duration) -> anyhow::Result<Dispatch> {
    let connection = &*subject.connection;
    let before = connection.stats();
    let start = Instant::now();
    connection.start_dispatch(Rate::hz(asked)?)?;
    // Between two ticks, so that exactly the ticks of these seconds are counted.
    let end = start + seconds.saturating_sub(Duration::from_secs_f64(0.5 / asked));
    while Instant::now() < end {
        connection.fill_queue(256)?;
        let pause = end.saturating_duration_since(Instant::now());
        std::thread::sleep(pause.min(Duration::from_millis(100)));
    }
    connection.stop_dispatch();
    let after = connection.stats();
    let sent = after.actions.count() - before.actions.count();
    Ok(Dispatch {
        adapter: subject.adapter,
        asked_hz: asked,
        achieved_hz: sent as f64 / seconds.as_secs_f64(),
        ticks_missed: after.dispatch_ticks_missed - before.dispatch_ticks_missed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_observation_has_its_exchange_before_it_or_after_it() {
        for count in 1..=10 {
            let total: usize =
                (0..=count).map(|n| if n == 0 { 0 } else { exchanges_after(n, count) }).sum();
            assert_eq!(total, count);
        }
    }
}
