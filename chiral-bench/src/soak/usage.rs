//! What this process takes of the system.

use anyhow::Context as _;
use serde::Serialize;

/// Memory, threads and descriptors at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Usage {
    pub(super) rss_mib: f64,
    pub(super) threads: usize,
    pub(super) descriptors: usize,
}

impl Usage {
    /// Of this process, as Linux tells it.
    pub(super) fn now() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")
            .context("the soak test needs Linux's /proc, to see what the process takes")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<f64>().ok()).context("/proc/self/status")
        };
        let descriptors = std::fs::read_dir("/proc/self/fd")?.count();
        Ok(Self {
            rss_mib: field("VmRSS:")? / 1024.0,
            threads: field("Threads:")? as usize,
            descriptors,
        })
    }
}
