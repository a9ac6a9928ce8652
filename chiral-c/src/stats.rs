//! What was counted.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::ptr;

use chiral_blocking::proto::stats::{Histogram, Meter};

use crate::client::chiral_client;
use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, c_text, chiral_status, guard, guard_or};
use crate::memory;
use crate::server::chiral_server;
use crate::sized::{self, sized};

/// What a client has counted so far. Times are in seconds, rates in hertz.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_client_stats {
    /// `sizeof(chiral_client_stats)`.
    pub size: usize,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Observations received.
    pub observations: u64,
    /// Their mean rate; 0 before the second.
    pub observation_hz: f64,
    /// How long ago the latest observation arrived; negative before the first.
    pub observation_age: f64,
    /// From asking to having: what half of all stay below.
    pub round_trip_p50: f64,
    /// What 99 in 100 stay below.
    pub round_trip_p99: f64,
    /// The longest.
    pub round_trip_max: f64,
    /// Ticks of the observation stream that were skipped, as the request before was still open.
    pub stream_ticks_missed: u64,
    /// Actions sent.
    pub actions: u64,
    /// Their mean rate; 0 before the second.
    pub action_hz: f64,
    /// Rows of plans sent.
    pub steps: u64,
    /// Dispatch ticks that found no row.
    pub starvations: u64,
    /// Of them, those at which an action was repeated or held.
    pub held: u64,
    /// Dispatch ticks that came late.
    pub dispatch_ticks_missed: u64,
    /// Actions that had waited for longer than `max_age`.
    pub actions_expired: u64,
    /// Actions that were cleared, replaced, or left at the end.
    pub actions_dropped: u64,
    /// Rows whose step had passed when their chunk came.
    pub rows_skipped: u64,
    /// Rows that were blended with those of an older plan.
    pub rows_blended: u64,
    /// Chunks that came too late.
    pub chunks_late: u64,
    /// Of them, those of which nothing was taken.
    pub chunks_discarded: u64,
    /// Actions that were clamped to what the robot's contract allows.
    pub actions_clamped: u64,
    /// Requests without an answer in time.
    pub requests_timed_out: u64,
    /// How often the robot was silent.
    pub silences: u64,
    /// How often the connection was made again.
    pub reconnects: u64,
}

/// What a server has counted of the policy that is connected. Times are in seconds, rates in hertz.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_server_stats {
    /// `sizeof(chiral_server_stats)`.
    pub size: usize,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Observations sent.
    pub observations: u64,
    /// Their mean rate; 0 before the second.
    pub observation_hz: f64,
    /// From a request's arrival to its answer: what half of all stay below.
    pub response_time_p50: f64,
    /// What 99 in 100 stay below.
    pub response_time_p99: f64,
    /// Actions received.
    pub actions: u64,
    /// Their mean rate; 0 before the second.
    pub action_hz: f64,
    /// Actions that the robot was not given, as a newer one came first.
    pub dropped_superseded: u64,
    /// As they had waited too long.
    pub dropped_too_old: u64,
    /// As they were decided on too old an observation.
    pub dropped_stale_observation: u64,
    /// As what waited took too many bytes.
    pub dropped_over_budget: u64,
    /// As they are not what the robot takes.
    pub dropped_refused: u64,
    /// As the robot was not armed, or had been stopped since they were decided.
    pub dropped_not_armed: u64,
    /// As the connection ended first.
    pub dropped_disconnected: u64,
    /// How often the robot was told to hold still because no action had come.
    pub watchdog_alarms: u64,
}

sized!(chiral_client_stats, chiral_server_stats);

fn hz(meter: &Meter) -> f64 {
    meter.hz().unwrap_or(0.0)
}

fn quantile(histogram: &Histogram, share: f64) -> f64 {
    histogram.quantile(share).as_secs_f64()
}

/// What a client has counted so far.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_get_stats(
    client: *const chiral_client,
    stats: *mut chiral_client_stats,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let counted = unsafe { memory::borrow(client, "client")? }.0.stats();
        let value = chiral_client_stats {
            bytes_sent: counted.bytes_sent,
            bytes_received: counted.bytes_received,
            observations: counted.observations.count(),
            observation_hz: hz(&counted.observations),
            observation_age: counted.observation_age.map_or(-1.0, |age| age.as_secs_f64()),
            round_trip_p50: quantile(&counted.round_trip, 0.5),
            round_trip_p99: quantile(&counted.round_trip, 0.99),
            round_trip_max: counted.round_trip.max().as_secs_f64(),
            stream_ticks_missed: counted.stream_ticks_missed,
            actions: counted.actions.count(),
            action_hz: hz(&counted.actions),
            steps: counted.steps,
            starvations: counted.starvations,
            held: counted.held,
            dispatch_ticks_missed: counted.dispatch_ticks_missed,
            actions_expired: counted.actions_expired,
            actions_dropped: counted.actions_dropped,
            rows_skipped: counted.rows_skipped,
            rows_blended: counted.rows_blended,
            chunks_late: counted.chunks_late,
            chunks_discarded: counted.chunks_discarded,
            actions_clamped: counted.actions_clamped,
            requests_timed_out: counted.requests_timed_out,
            silences: counted.silences,
            reconnects: counted.reconnects,
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(stats, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// What a server has counted of the policy that is connected; `CHIRAL_NOTHING` when there is none.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_get_stats(
    server: *const chiral_server,
    stats: *mut chiral_server_stats,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let server = unsafe { memory::borrow(server, "server")? };
        let Some(counted) = server.server.stats() else { return Ok(CHIRAL_NOTHING) };
        let value = chiral_server_stats {
            bytes_sent: counted.bytes_sent,
            bytes_received: counted.bytes_received,
            observations: counted.observations.count(),
            observation_hz: hz(&counted.observations),
            response_time_p50: quantile(&counted.response_time, 0.5),
            response_time_p99: quantile(&counted.response_time, 0.99),
            actions: counted.actions.count(),
            action_hz: hz(&counted.actions),
            dropped_superseded: counted.actions_dropped.superseded,
            dropped_too_old: counted.actions_dropped.too_old,
            dropped_stale_observation: counted.actions_dropped.stale_observation,
            dropped_over_budget: counted.actions_dropped.over_budget,
            dropped_refused: counted.actions_dropped.refused,
            dropped_not_armed: counted.actions_dropped.not_armed,
            dropped_disconnected: counted.actions_dropped.disconnected,
            watchdog_alarms: counted.watchdog_alarms,
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(stats, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// What a client has counted so far, as a table for a person. Valid until the thread asks for another
/// table or event.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_stats_text(client: *const chiral_client) -> *const c_char {
    guard_or(ptr::null(), || {
        // SAFETY: as the header asks of callers.
        Ok(keep(&unsafe { memory::borrow(client, "client")? }.0.stats().to_string()))
    })
}

/// What a server has counted, as a table for a person; empty when no policy is connected. Valid until
/// the thread asks for another table or event.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_server_stats_text(server: *const chiral_server) -> *const c_char {
    guard_or(ptr::null(), || {
        // SAFETY: as the header asks of callers.
        let stats = unsafe { memory::borrow(server, "server")? }.server.stats();
        Ok(keep(&stats.map(|stats| stats.to_string()).unwrap_or_default()))
    })
}

pub(crate) fn keep(text: &str) -> *const c_char {
    thread_local! {
        static TABLE: RefCell<CString> = RefCell::default();
    }
    let text = c_text(text);
    let kept = TABLE.try_with(|table| {
        table.replace(text);
        table.borrow().as_ptr()
    });
    kept.unwrap_or(c"".as_ptr())
}
