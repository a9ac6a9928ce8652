use std::sync::Arc;

use chiral_proto::Observation;
use chiral_sim::sheet::{Moment, contact_sheet};

use super::description::Score;
use super::pictures::Picture;

/// Rows of the contact sheet at the most.
const ROWS: usize = 6;
/// Rows of the first episode: its beginning, its middle, its end.
const FIRST_EPISODE_ROWS: usize = 3;
/// Simulated seconds between the observations kept of the first episode.
const INTERVAL: f64 = 0.5;

/// Observations, as the policy received them, for the contact sheet: the course of the first
/// episode, and the ends of those after it.
#[derive(Debug, Default)]
pub(super) struct Album {
    course: Vec<Entry>,
    ends: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    score: Score,
    observation: Arc<Observation>,
}

impl Album {
    /// Keeps an observation if it is wanted.
    pub(super) fn keep(&mut self, score: Score, observation: &Arc<Observation>) {
        let observation = Arc::clone(observation);
        let entry = Entry { score, observation };
        if score.episode == 1 {
            let previous = self.course.last().map(|entry| entry.score.time);
            if score.over || previous.is_none_or(|previous| score.time >= previous + INTERVAL) {
                self.course.push(entry);
            }
        } else if score.over && self.ends.len() < ROWS - FIRST_EPISODE_ROWS {
            self.ends.push(entry);
        }
    }

    /// The contact sheet.
    ///
    /// # Errors
    /// When there is nothing to show, or it cannot be encoded.
    pub(super) fn to_png(&self) -> anyhow::Result<Vec<u8>> {
        let last = self.course.len().saturating_sub(1);
        let rows = FIRST_EPISODE_ROWS.min(self.course.len());
        let course = (0..rows).map(|row| &self.course[row * last / (rows - 1).max(1)]);
        let moments =
            course.chain(&self.ends).map(Entry::moment).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(contact_sheet(&moments)?)
    }
}

impl Entry {
    fn moment(&self) -> anyhow::Result<Moment> {
        let Score { episode, time, solved, over } = self.score;
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
