//! The rows of a run, and whether it stayed as it was.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::figures::{Figures, Phase, Seen};
use super::line::SoakLine;
use super::usage::Usage;

/// By how much the last quarter may be above the first one: a share, and a number besides, because the
/// relay's connections come and go.
const RSS: (f64, f64) = (0.1, 16.0);
const THREADS: (f64, f64) = (0.1, 8.0);
const DESCRIPTORS: (f64, f64) = (0.1, 8.0);
/// Milliseconds: other programs have their turns, too.
const LATENCY: (f64, f64) = (1.0, 5.0);
/// Below which share of the first quarter's the last one's rate must not be.
const RATE: f64 = 0.8;

/// One row: a minute, or what is left of the run.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    minutes: f64,
    obs_hz: f64,
    round_trip_p50_ms: f64,
    round_trip_p99_ms: f64,
    #[serde(flatten)]
    usage: Usage,
    #[serde(flatten)]
    totals: Totals,
}

/// Since the beginning, of all lines.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Totals {
    connections: u64,
    broken: u64,
    not_connected: u64,
    actions: u64,
    holds: u64,
    refused: u64,
    forbidden: u64,
}

impl Totals {
    fn of(lines: &[SoakLine]) -> Self {
        let mut totals = Self::default();
        for line in lines {
            let counts = &line.counts;
            totals.connections += counts.policies.load(Ordering::Relaxed);
            totals.broken += line.broken();
            totals.not_connected += line.refused();
            totals.actions += counts.applied.load(Ordering::Relaxed);
            totals.holds += counts.holds.load(Ordering::Relaxed);
            totals.refused += counts.refused.load(Ordering::Relaxed);
            totals.forbidden += counts.forbidden.load(Ordering::Relaxed);
        }
        totals
    }
}

impl Row {
    pub(super) fn new(elapsed: Duration, minute: &Seen, usage: Usage, lines: &[SoakLine]) -> Self {
        Self {
            minutes: (elapsed.as_secs_f64() / 6.0).round() / 10.0,
            obs_hz: minute.hz(),
            round_trip_p50_ms: minute.quantile_ms(0.5),
            round_trip_p99_ms: minute.quantile_ms(0.99),
            usage,
            totals: Totals::of(lines),
        }
    }
}

/// One figure in the first and the last quarter.
#[derive(Debug, Serialize)]
struct Compared {
    figure: &'static str,
    first: f64,
    last: f64,
    /// The most, or for a rate the least, that the last one may be.
    bound: f64,
    is_flat: bool,
}

impl Compared {
    fn at_most(figure: &'static str, first: f64, last: f64, (share, more): (f64, f64)) -> Self {
        let bound = first * (1.0 + share) + more;
        Self { figure, first, last, bound, is_flat: last <= bound }
    }
}

/// Whether it stayed as it was.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    compared: Vec<Compared>,
    totals: Totals,
    /// Lines whose robot never had a policy, or applied nothing.
    idle: Vec<String>,
    passed: bool,
}

impl Verdict {
    pub(super) fn is_passed(&self) -> bool {
        self.passed
    }

    /// What was not as it should be, in words.
    pub(super) fn faults(&self) -> String {
        let grown = self.compared.iter().filter(|compared| !compared.is_flat);
        let grown = grown.map(|compared| {
            let Compared { figure, first, last, bound, .. } = compared;
            format!("{figure} went from {first:.1} to {last:.1}, expected {bound:.1}")
        });
        let forbidden = self.totals.forbidden;
        let forbidden = (forbidden > 0)
            .then(|| format!("{forbidden} actions were applied that were not sent or not allowed"));
        let idle = self.idle.iter().map(|line| format!("{line} did nothing"));
        grown.chain(forbidden).chain(idle).collect::<Vec<_>>().join("; ")
    }
}

/// What is reported.
pub(super) struct Report {
    json: bool,
    lines: usize,
    rows: usize,
    samples: [Vec<Usage>; Phase::COUNT],
}

impl Report {
    pub(super) fn new(json: bool, lines: usize) -> Self {
        Self { json, lines, rows: 0, samples: Default::default() }
    }

    pub(super) fn sample(&mut self, phase: Phase, usage: Usage) {
        self.samples[phase as usize].push(usage);
    }

    pub(super) fn row(&mut self, row: Row) -> anyhow::Result<String> {
        if self.json {
            return Ok(format!("{}\n", serde_json::to_string(&row)?));
        }
        let mut text = String::new();
        if self.rows == 0 {
            let lines = self.lines;
            writeln!(text, "{lines} robots, each with a policy that connects again and again")?;
            writeln!(
                text,
                "{:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>6} {:>8} {:>7} {:>9} {:>6} {:>7} {:>9}",
                "minutes",
                "obs Hz",
                "p50 ms",
                "p99 ms",
                "RSS MiB",
                "threads",
                "files",
                "policies",
                "broken",
                "actions",
                "holds",
                "refused",
                "forbidden"
            )?;
        }
        self.rows += 1;
        let Row { minutes, obs_hz, round_trip_p50_ms, round_trip_p99_ms, usage, totals } = row;
        writeln!(
            text,
            "{minutes:>7.1} {obs_hz:>7.2} {round_trip_p50_ms:>7.2} {round_trip_p99_ms:>7.2} \
             {:>8.1} {:>7} {:>6} {:>8} {:>7} {:>9} {:>6} {:>7} {:>9}",
            usage.rss_mib,
            usage.threads,
            usage.descriptors,
            totals.connections,
            totals.broken + totals.not_connected,
            totals.actions,
            totals.holds,
            totals.refused,
            totals.forbidden
        )?;
        Ok(text)
    }

    pub(super) fn verdict(&self, figures: &Figures, lines: &[SoakLine]) -> Verdict {
        let [first, last] = [Phase::First, Phase::Last];
        let median = |phase: Phase, of: fn(&Usage) -> f64| {
            let mut values: Vec<f64> = self.samples[phase as usize].iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let usage = |figure, of: fn(&Usage) -> f64, tolerance| {
            Compared::at_most(figure, median(first, of), median(last, of), tolerance)
        };
        let [seen_first, seen_last] = [first, last].map(|phase| figures.of(phase));
        let latency = |figure, quantile| {
            let [first, last] = [&seen_first, &seen_last].map(|seen| seen.quantile_ms(quantile));
            Compared::at_most(figure, first, last, LATENCY)
        };
        let [hz_first, hz_last] = [seen_first.hz(), seen_last.hz()];
        let compared = vec![
            usage("RSS (MiB)", |usage| usage.rss_mib, RSS),
            usage("threads", |usage| usage.threads as f64, THREADS),
            usage("descriptors", |usage| usage.descriptors as f64, DESCRIPTORS),
            latency("round trip, p50 (ms)", 0.5),
            latency("round trip, p90 (ms)", 0.9),
            Compared {
                figure: "observations (Hz)",
                first: hz_first,
                last: hz_last,
                bound: RATE * hz_first,
                is_flat: hz_last >= RATE * hz_first,
            },
        ];
        let is_idle = |line: &&SoakLine| line.counts.applied.load(Ordering::Relaxed) == 0;
        let idle: Vec<String> = lines.iter().filter(is_idle).map(SoakLine::name).collect();
        let totals = Totals::of(lines);
        let is_flat = compared.iter().all(|compared| compared.is_flat);
        let passed = is_flat && totals.forbidden == 0 && idle.is_empty();
        Verdict { compared, totals, idle, passed }
    }

    pub(super) fn verdict_text(&self, verdict: &Verdict) -> anyhow::Result<String> {
        if self.json {
            return Ok(format!("{}\n", serde_json::to_string(verdict)?));
        }
        let mut text = "\nfirst quarter, last quarter, and what the last one may be\n".to_owned();
        for Compared { figure, first, last, bound, is_flat } in &verdict.compared {
            let word = if *is_flat { "flat" } else { "NOT FLAT" };
            writeln!(text, "{figure:<22} {first:>8.2} {last:>8.2} {bound:>8.2}  {word}")?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rss_mib: f64, threads: usize, descriptors: usize) -> Usage {
        Usage { rss_mib, threads, descriptors }
    }

    /// The verdict on a run that takes this in its first and its last quarter.
    fn verdict(first: Usage, last: Usage, hz: [u64; 2]) -> Verdict {
        let mut report = Report::new(false, 0);
        let figures = Figures::default();
        for (phase, usage, hz) in [(Phase::First, first, hz[0]), (Phase::Last, last, hz[1])] {
            report.sample(phase, usage);
            figures.set_phase(phase);
            for _ in 0..100 {
                figures.note_observation(Duration::from_secs(1) / hz as u32);
                figures.note_round_trip(Duration::from_millis(2));
            }
        }
        report.verdict(&figures, &[])
    }

    #[test]
    fn what_stays_as_it_is_passes() {
        let verdict = verdict(usage(100.0, 50, 60), usage(110.0, 58, 68), [30, 28]);
        assert!(verdict.is_passed(), "{}", verdict.faults());
    }

    #[test]
    fn what_grows_does_not_pass_and_is_named() {
        let before = usage(100.0, 50, 60);
        for (last, hz, fault) in [
            (usage(130.0, 50, 60), [30, 30], "RSS (MiB) went from 100.0 to 130.0, expected 126.0"),
            (usage(100.0, 70, 60), [30, 30], "threads went from 50.0 to 70.0, expected 63.0"),
            (usage(100.0, 50, 90), [30, 30], "descriptors went from 60.0 to 90.0, expected 74.0"),
            (before, [30, 20], "observations (Hz) went from 30.0 to 20.0, expected 24.0"),
        ] {
            let verdict = verdict(before, last, hz);
            assert!(!verdict.is_passed());
            assert_eq!(verdict.faults(), fault);
        }
    }
}
