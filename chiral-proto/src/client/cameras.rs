use std::time::{Duration, Instant};

use crate::{Name, Observation};

/// How fresh a camera is, judged by what has arrived.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CameraStats {
    /// The camera's name.
    pub name: Name,
    /// The timestamp of its latest frame, on the robot's clock.
    pub timestamp: f64,
    /// Frames with a timestamp of their own that have arrived.
    pub frames: u64,
    /// For how long every observation has brought the same frame: a camera that has died stays
    /// in the observations with its last one.
    pub unchanged_for: Duration,
}

/// The cameras of the latest observation, and since when each has shown its frame.
#[derive(Debug, Default)]
pub(super) struct Cameras(Vec<Seen>);

#[derive(Debug, Clone)]
struct Seen {
    name: Name,
    timestamp: f64,
    frames: u64,
    since: Instant,
}

impl Cameras {
    pub(super) fn observe(&mut self, now: Instant, observation: &Observation) {
        let cameras = &observation.cameras;
        let is_as_before = self.0.len() == cameras.len()
            && self.0.iter().zip(cameras).all(|(seen, camera)| seen.name == camera.name);
        if !is_as_before {
            let before = std::mem::take(&mut self.0);
            self.0.extend(cameras.iter().map(|camera| {
                let known = before.iter().find(|seen| seen.name == camera.name).cloned();
                known.unwrap_or_else(|| Seen {
                    name: camera.name.clone(),
                    timestamp: f64::NAN,
                    frames: 0,
                    since: now,
                })
            }));
        }
        for (seen, camera) in self.0.iter_mut().zip(cameras) {
            if seen.timestamp.to_bits() != camera.timestamp.to_bits() || seen.frames == 0 {
                seen.timestamp = camera.timestamp;
                seen.frames += 1;
                seen.since = now;
            }
        }
    }

    pub(super) fn stats(&self, now: Instant) -> Vec<CameraStats> {
        let stats = |seen: &Seen| CameraStats {
            name: seen.name.clone(),
            timestamp: seen.timestamp,
            frames: seen.frames,
            unchanged_for: now.saturating_duration_since(seen.since),
        };
        self.0.iter().map(stats).collect()
    }
}
