//! Runs one episode and writes what the cameras saw to a PNG:
//!
//! ```text
//! cargo run -p chiral-sim --example contact_sheet -- episode.png [seed]
//! ```

use std::error::Error;

use chiral_sim::episode::{Link, OBSERVATION_HZ, Observation, run};
use chiral_sim::rig::Viewpoint;
use chiral_sim::sheet::{Moment, contact_sheet};

/// The observations shown, out of all that passed.
const SHOWN: usize = 4;

/// Keeps every observation that passes.
#[derive(Default)]
struct Recorder(Vec<Observation>);

impl Link for Recorder {
    fn observation(&mut self, observation: &mut Observation) {
        self.0.push(observation.clone());
    }
}

fn moment(observation: &Observation) -> Moment {
    let names = Viewpoint::ALL.iter().map(|viewpoint| viewpoint.name().to_owned());
    Moment {
        caption: format!("t = {:.2} s", observation.time),
        frames: names.zip(observation.frames.iter().cloned()).collect(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: contact_sheet <file.png> [seed]")?;
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;

    let mut recorder = Recorder::default();
    let report = run(seed, (320, 240), &mut recorder);
    println!("{report:#?}");

    let last = recorder.0.len() - 1;
    let moments: Vec<Moment> =
        (0..SHOWN).map(|i| moment(&recorder.0[i * last / (SHOWN - 1)])).collect();
    std::fs::write(&path, contact_sheet(&moments)?)?;
    println!("{SHOWN} of {} observations ({OBSERVATION_HZ} Hz) in {path}", last + 1);
    Ok(())
}
