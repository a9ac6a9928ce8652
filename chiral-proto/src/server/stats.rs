use std::fmt;

use super::drops::DropCounts;
use super::timing::LatencyStats;
use crate::ContractStatus;
use crate::sensors::CameraStats;
use crate::stats::{Histogram, Meter};

/// What a [`Server`](super::Server) has counted since it was made.
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
    /// Observations handed to the transport, of resets and steps too.
    pub observations: Meter,
    /// From a request's arrival to its answer being handed to the transport.
    pub response_time: Histogram,
    /// Actions received, of legacy steps too.
    pub actions: Meter,
    /// Those of them that the robot was never told, by reason.
    pub actions_dropped: DropCounts,
    /// Where the time went between what the sensors captured and the actions decided on it.
    pub latency: LatencyStats,
    /// How the connection keeps to the [contract](super::Config::action_spec). Periods that are being
    /// missed are counted when time passes the machine.
    pub contract: ContractStatus,
    /// How often the robot was told to hold still because no action had come.
    pub watchdog_alarms: u64,
    /// The cameras of the [sensors](super::Server::set_sensors), if they were given: the age of
    /// each, among others.
    pub cameras: Vec<CameraStats>,
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
        writeln!(f, "observations  {}", self.observations)?;
        writeln!(f, "response time {}", self.response_time)?;
        write!(
            f,
            "actions       {}; dropped {}; {} watchdog alarms",
            self.actions, self.actions_dropped, self.watchdog_alarms
        )?;
        write!(f, "\nlatency       {}", self.latency)?;
        let ContractStatus { periods, refused, clamped, not_armed, stops, .. } = self.contract;
        if u64::from(periods) + refused + clamped + not_armed + stops > 0 {
            write!(f, "\ncontract      {}", self.contract)?;
        }
        self.cameras.iter().try_for_each(|camera| write!(f, "\ncamera        {camera}"))
    }
}
