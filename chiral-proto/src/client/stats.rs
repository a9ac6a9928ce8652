use std::fmt;
use std::time::Duration;

use super::cameras::CameraStats;
use super::timing::LatencyStats;
use crate::stats::{Histogram, Meter};

/// What a [`Client`](super::Client) has counted since it was made.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames handed to the transport.
    pub frames_sent: u64,
    /// Bytes handed to the transport, its own framing not counted.
    pub bytes_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes received, the transport's own framing not counted.
    pub bytes_received: u64,
    /// Of the frames received, those that came [in segments](super::Client::handle_segments):
    /// through memory shared with the robot.
    pub frames_in_place: u64,
    /// Observations received, of the stream and otherwise.
    pub observations: Meter,
    /// How long ago the latest observation arrived; `None` before the first.
    pub observation_age: Option<Duration>,
    /// The cameras of the latest observation, in its order.
    pub cameras: Vec<CameraStats>,
    /// From a request handed to the transport to its answer.
    pub round_trip: Histogram,
    /// Stream ticks that were skipped, because the request of an earlier one was still waiting, or
    /// because the stream was stopped before it left.
    pub stream_ticks_missed: u64,
    /// Actions handed to the transport.
    pub actions: Meter,
    /// Rows of the plan handed to the transport, each of which is a step of the
    /// [timeline](crate::timeline).
    pub steps: u64,
    /// Dispatch ticks that found no row to send, whether something was sent in its place or not.
    pub starvations: u64,
    /// Of the starved ticks, those at which an action was repeated or held, as
    /// [`Starved`](crate::timeline::Starved) says.
    pub held: u64,
    /// Dispatch ticks that were skipped, because the caller or the transport was late, or because
    /// the dispatch was stopped before the action left.
    pub dispatch_ticks_missed: u64,
    /// Actions that were not sent because they had waited longer than
    /// [`Config::max_age`](super::Config::max_age).
    pub actions_expired: u64,
    /// Actions that were not sent because they were cleared, replaced, discarded, not needed, or
    /// left at the end.
    pub actions_dropped: u64,
    /// Actions that the client has clamped, because the robot would.
    pub actions_clamped: u64,
    /// Rows that were not sent because their step had passed when their chunk came.
    pub rows_skipped: u64,
    /// Rows that were averaged into a newer one.
    pub rows_blended: u64,
    /// Chunks that came later than their
    /// [`max_delay`](crate::timeline::FollowOptions::max_delay).
    pub chunks_late: u64,
    /// Chunks that were left out: those of these that were discarded for it, and those decided on an
    /// observation that came through a connection which was lost.
    pub chunks_discarded: u64,
    /// Where the time went between what the sensors captured and the actions that the robot was
    /// given, as far as the robot tells.
    pub latency: LatencyStats,
    /// Requests that got no answer in time, of the stream too.
    pub requests_timed_out: u64,
    /// How often nothing came for [`Config::silence`](super::Config::silence) although an answer
    /// was waited for.
    pub silences: u64,
    /// Requests that were sent again, on a lossy transport.
    pub retries: u64,
    /// Answers that nobody waited for: on a lossy transport, or to requests given up.
    pub strays: u64,
    /// How often the connection was made again.
    pub reconnects: u64,
}

impl Stats {
    /// The share of repeated and held actions in all that were sent on ticks, from 0 to 1; `None`
    /// before the first.
    pub fn held_ratio(&self) -> Option<f64> {
        let sent = self.steps + self.held;
        (sent > 0).then(|| self.held as f64 / sent as f64)
    }
}

/// A table of a few lines, for a log or a terminal.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sent          {} frames, {} bytes", self.frames_sent, self.bytes_sent)?;
        writeln!(
            f,
            "received      {} frames, {} bytes",
            self.frames_received, self.bytes_received
        )?;
        writeln!(
            f,
            "observations  {}, {} ticks missed",
            self.observations, self.stream_ticks_missed
        )?;
        writeln!(f, "round trip    {}", self.round_trip)?;
        writeln!(
            f,
            "actions       {}; {} starvations, {} ticks missed, {} expired, {} dropped",
            self.actions,
            self.starvations,
            self.dispatch_ticks_missed,
            self.actions_expired,
            self.actions_dropped
        )?;
        writeln!(
            f,
            "timeline      {} steps, {} held; {} rows skipped, {} blended; {} chunks late, {} discarded",
            self.steps,
            self.held,
            self.rows_skipped,
            self.rows_blended,
            self.chunks_late,
            self.chunks_discarded
        )?;
        writeln!(f, "latency       {}", self.latency)?;
        write!(
            f,
            "requests      {} timed out, {} retried, {} strays, {} silences",
            self.requests_timed_out, self.retries, self.strays, self.silences
        )?;
        if self.reconnects > 0 {
            write!(f, "\nconnection    made again {} times", self.reconnects)?;
        }
        for camera in &self.cameras {
            let CameraStats { name, frames, unchanged_for, .. } = camera;
            write!(f, "\ncamera        {name}: {frames} frames, the last {unchanged_for:.1?} ago")?;
        }
        Ok(())
    }
}
