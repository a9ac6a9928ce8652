use std::collections::VecDeque;

use super::event::Event;
use crate::Name;
use crate::sensors::Sensors;

/// Notices, whenever an observation leaves, which cameras have become stale and which are there
/// again.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The cameras that were stale at the last look.
    stale: Vec<Name>,
    /// At most one for each camera.
    untold: VecDeque<Event>,
}

impl Stalls {
    pub(super) fn look(&mut self, sensors: &Sensors) {
        let before = std::mem::take(&mut self.stale);
        for camera in sensors.stale_cameras() {
            if !before.contains(&camera.name) {
                self.tell(&camera.name, Event::CameraStalled(camera.clone()));
            }
            self.stale.push(camera.name);
        }
        for name in before {
            if !self.stale.contains(&name) {
                self.tell(&name, Event::CameraResumed { name: name.clone() });
            }
        }
    }

    /// Who has not heard of a change need not hear that it is over.
    fn tell(&mut self, camera: &Name, event: Event) {
        let is_of_it = |untold: &Event| match untold {
            Event::CameraStalled(stalled) => stalled.name == *camera,
            Event::CameraResumed { name } => name == camera,
            _ => false,
        };
        match self.untold.iter().position(is_of_it) {
            Some(opposite) => drop(self.untold.remove(opposite)),
            None => self.untold.push_back(event),
        }
    }

    pub(super) fn is_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        self.untold.pop_front()
    }

    pub(super) fn end(&mut self) {
        self.untold.clear();
    }
}
