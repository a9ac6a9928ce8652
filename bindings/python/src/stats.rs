//! Statistics as the dataclasses of `chiral._types`.

use chiral_blocking::proto::stats::{Histogram, Meter};
use chiral_blocking::proto::{client, server};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::contract;

fn latency<'py>(types: &Bound<'py, PyModule>, found: &Histogram) -> PyResult<Bound<'py, PyAny>> {
    let quantile = |share| found.quantile(share).as_secs_f64();
    let (p50, p90, p99) = (quantile(0.5), quantile(0.9), quantile(0.99));
    types.getattr("Latency")?.call1((found.count(), p50, p90, p99, found.max().as_secs_f64()))
}

fn meter<'py>(types: &Bound<'py, PyModule>, found: &Meter) -> PyResult<Bound<'py, PyAny>> {
    types.getattr("Meter")?.call1((found.count(), found.hz(), found.recent_hz()))
}

pub(crate) fn of_client(py: Python<'_>, stats: &client::Stats) -> PyResult<Py<PyAny>> {
    let types = py.import("chiral._types")?;
    let cameras = PyDict::new(py);
    for camera in &stats.cameras {
        cameras.set_item(&*camera.name, camera.unchanged_for.as_secs_f64())?;
    }
    let fields = PyDict::new(py);
    fields.set_item("observations", meter(&types, &stats.observations)?)?;
    fields.set_item("actions", meter(&types, &stats.actions)?)?;
    fields.set_item("round_trip", latency(&types, &stats.round_trip)?)?;
    fields.set_item("action_age", latency(&types, &stats.latency.age)?)?;
    fields.set_item("inference", latency(&types, &stats.latency.inference)?)?;
    fields.set_item("queueing", latency(&types, &stats.latency.queue)?)?;
    fields.set_item("bytes_sent", stats.bytes_sent)?;
    fields.set_item("bytes_received", stats.bytes_received)?;
    fields.set_item("steps", stats.steps)?;
    fields.set_item("starvations", stats.starvations)?;
    fields.set_item("held", stats.held)?;
    fields.set_item("stream_ticks_missed", stats.stream_ticks_missed)?;
    fields.set_item("dispatch_ticks_missed", stats.dispatch_ticks_missed)?;
    fields.set_item("actions_expired", stats.actions_expired)?;
    fields.set_item("actions_dropped", stats.actions_dropped)?;
    fields.set_item("actions_clamped", stats.actions_clamped)?;
    fields.set_item("rows_skipped", stats.rows_skipped)?;
    fields.set_item("rows_blended", stats.rows_blended)?;
    fields.set_item("chunks_late", stats.chunks_late)?;
    fields.set_item("chunks_discarded", stats.chunks_discarded)?;
    fields.set_item("requests_timed_out", stats.requests_timed_out)?;
    fields.set_item("silences", stats.silences)?;
    fields.set_item("reconnects", stats.reconnects)?;
    fields.set_item("cameras_unchanged_for", cameras)?;
    fields.set_item("text", stats.to_string())?;
    Ok(types.getattr("ClientStats")?.call((), Some(&fields))?.unbind())
}

pub(crate) fn of_server(py: Python<'_>, stats: &server::Stats) -> PyResult<Py<PyAny>> {
    let types = py.import("chiral._types")?;
    let cameras = PyDict::new(py);
    for camera in &stats.cameras {
        cameras.set_item(&*camera.name, camera.age.map(|age| age.as_secs_f64()))?;
    }
    let drops = PyDict::new(py);
    drops.set_item("superseded", stats.actions_dropped.superseded)?;
    drops.set_item("too_old", stats.actions_dropped.too_old)?;
    drops.set_item("over_budget", stats.actions_dropped.over_budget)?;
    drops.set_item("stale_observation", stats.actions_dropped.stale_observation)?;
    drops.set_item("refused", stats.actions_dropped.refused)?;
    drops.set_item("not_armed", stats.actions_dropped.not_armed)?;
    drops.set_item("disconnected", stats.actions_dropped.disconnected)?;
    let fields = PyDict::new(py);
    fields.set_item("observations", meter(&types, &stats.observations)?)?;
    fields.set_item("actions", meter(&types, &stats.actions)?)?;
    fields.set_item("response_time", latency(&types, &stats.response_time)?)?;
    fields.set_item("action_age", latency(&types, &stats.latency.age)?)?;
    fields.set_item("bytes_sent", stats.bytes_sent)?;
    fields.set_item("bytes_received", stats.bytes_received)?;
    fields.set_item("actions_dropped", drops)?;
    fields.set_item("contract", contract::status_to_python(py, &stats.contract)?)?;
    fields.set_item("watchdog_alarms", stats.watchdog_alarms)?;
    fields.set_item("camera_ages", cameras)?;
    fields.set_item("text", stats.to_string())?;
    Ok(types.getattr("ServerStats")?.call((), Some(&fields))?.unbind())
}
