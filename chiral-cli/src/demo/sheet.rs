use std::sync::Arc;

use chiral_proto::Observation;
use chiral_sim::sheet::{Moment, contact_sheet};

use super::description::EpisodeStatus;
use super::pictures::Picture;

/// Rows of the contact sheet at the most.
const ROWS: usize = 6;
/// Rows of the first episode: its beginning, its middle, its end.
const FIRST_EPISODE_ROWS: usize = 3;
/// Simulated seconds between the observations kept of the first episode.
const INTERVAL: f64 = 0.5;

/// Observations, as the policy received them, for the contact sheet: the first of the first
/// episode, and the ends of those after it.
#[derive(Debug, Default)]
pub(super) struct SheetFrames {
    first: Vec<Entry>,
    ends: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    status: EpisodeStatus,
    observation: Arc<Observation>,
}

impl SheetFrames {
    /// Keeps an observation if it is wanted.
    pub(super) fn keep(&mut self, status: EpisodeStatus, observation: &Arc<Observation>) {
        let observation = Arc::clone(observation);
        let entry = Entry { status, observation };
        if status.episode == 1 {
            let previous = self.first.last().map(|entry| entry.status.time);
            if status.over || previous.is_none_or(|previous| status.time >= previous + INTERVAL) {
                self.first.push(entry);
            }
        } else if status.over && self.ends.len() < ROWS - FIRST_EPISODE_ROWS {
            self.ends.push(entry);
        }
    }

    /// The contact sheet.
    ///
    /// # Errors
    /// When there is nothing to show, or it cannot be encoded.
    pub(super) fn to_png(&self) -> anyhow::Result<Vec<u8>> {
        let last = self.first.len().saturating_sub(1);
        let rows = FIRST_EPISODE_ROWS.min(self.first.len());
        let first = (0..rows).map(|row| &self.first[row * last / (rows - 1).max(1)]);
        let moments =
            first.chain(&self.ends).map(Entry::moment).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(contact_sheet(&moments)?)
    }
}

impl Entry {
    fn moment(&self) -> anyhow::Result<Moment> {
        let EpisodeStatus { episode, time, solved, over } = self.status;
        let outcome = match (solved, over) {
            (true, _) => ", solved",
            (false, true) => ", lost",
            (false, false) => "",
        };
        Ok(Moment {
            caption: format!("episode {episode}: t = {time:.2} s{outcome}"),
            frames: Picture::all(&self.observation)?.iter().map(Picture::to_frame).collect(),
        })
    }
}
