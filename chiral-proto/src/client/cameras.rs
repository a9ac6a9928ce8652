use std::collections::VecDeque;
use std::mem::discriminant;
use std::time::{Duration, Instant};

use super::event::Event;
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
#[derive(Debug)]
pub(super) struct Cameras {
    seen: Vec<Seen>,
    /// After how long with the same frame a camera counts as stalled.
    limit: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Seen {
    name: Name,
    timestamp: f64,
    frames: u64,
    since: Instant,
    /// It was told that the camera has stalled.
    stalled: bool,
}

impl Cameras {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { seen: Vec::new(), limit }
    }

    /// Looks at the cameras of an observation that has come; `tell` gets what is new about a
    /// camera that has stalled.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        observation: &Observation,
        mut tell: impl FnMut(Event),
    ) {
        let cameras = &observation.cameras;
        let is_as_before = self.seen.len() == cameras.len()
            && self.seen.iter().zip(cameras).all(|(seen, camera)| seen.name == camera.name);
        if !is_as_before {
            let before = std::mem::take(&mut self.seen);
            self.seen.extend(cameras.iter().map(|camera| {
                let known = before.iter().find(|seen| seen.name == camera.name).cloned();
                known.unwrap_or_else(|| Seen {
                    name: camera.name.clone(),
                    timestamp: f64::NAN,
                    frames: 0,
                    since: now,
                    stalled: false,
                })
            }));
        }
        for (seen, camera) in self.seen.iter_mut().zip(cameras) {
            let unchanged_for = now.saturating_duration_since(seen.since);
            let name = || camera.name.clone();
            if seen.timestamp.to_bits() != camera.timestamp.to_bits() || seen.frames == 0 {
                seen.timestamp = camera.timestamp;
                seen.frames += 1;
                seen.since = now;
                if std::mem::take(&mut seen.stalled) {
                    tell(Event::CameraResumed { name: name(), stalled_for: unchanged_for });
                }
            } else if !seen.stalled
                // 0 is no time: that of a camera that never delivers, or of a robot that has none.
                && seen.timestamp != 0.0
                && self.limit.is_some_and(|limit| unchanged_for >= limit)
            {
                seen.stalled = true;
                tell(Event::CameraStalled { name: name(), unchanged_for });
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
        self.seen.iter().map(stats).collect()
    }
}

/// Has an event of a camera told. Who has not heard yet of its stall need not hear of its end, nor
/// the other way round. What is not told yet of cameras that are gone will not be, so that the
/// events take no more room than the cameras do.
pub(super) fn tell(events: &mut VecDeque<Event>, news: Event, observation: &Observation) {
    let is_there = |name: &Name| observation.cameras.iter().any(|camera| camera.name == *name);
    let told_before = events.iter().position(|event| camera(event) == camera(&news));
    match told_before {
        Some(at) if discriminant(&events[at]) == discriminant(&news) => events[at] = news,
        Some(at) => drop(events.remove(at)),
        None => events.push_back(news),
    }
    events.retain(|event| camera(event).is_none_or(is_there));
}

/// The camera of which an event tells that it has stalled, or is there again.
fn camera(event: &Event) -> Option<&Name> {
    match event {
        Event::CameraStalled { name, .. } | Event::CameraResumed { name, .. } => Some(name),
        _ => None,
    }
}
