use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chiral_blocking::PolicyClient;
use chiral_proto::{Observation, Rate};

use crate::counts::Counts;
use crate::say;

/// The longest single wait, so that it notices when it is to end.
const LOOK: Duration = Duration::from_secs(1);
/// It prints a line after each this many observations.
const SOME: u64 = 10;

/// Answers each observation of a stream with an action, and reconnects when the connection ends.
pub(crate) fn drive(
    uri: &str,
    number: u8,
    hz: f64,
    is_over: &AtomicBool,
) -> Result<(), Box<dyn Error>> {
    let rate = Rate::hz(hz)?;
    let mut counts = Counts::default();
    let mut last_refusal = String::new();
    while !is_over.load(Ordering::Relaxed) {
        let connected = PolicyClient::builder().connect_timeout(LOOK).connect(uri);
        let client = match connected {
            Ok(client) => client,
            Err(refusal) => {
                let refusal = refusal.to_string();
                if refusal != last_refusal {
                    say(&format!("refused {refusal}"));
                }
                last_refusal = refusal;
                continue;
            }
        };
        counts.connections += 1;
        say("connected");
        if let Err(reason) = stream(client, number, rate, is_over, &mut counts) {
            say(&format!("disconnected {reason}"));
        }
    }
    say(&counts.to_string());
    Ok(())
}

fn stream(
    client: PolicyClient,
    number: u8,
    rate: Rate,
    is_over: &AtomicBool,
    counts: &mut Counts,
) -> Result<(), Box<dyn Error>> {
    let whose = client.metadata()?.get("number").and_then(|number| number.as_u64());
    counts.foreign += u64::from(whose != Some(u64::from(number)));
    client.start_obs_stream(rate)?;
    let mut seen = 0;
    while !is_over.load(Ordering::Relaxed) {
        let Some(observation) = client.next_obs(LOOK)? else { continue };
        counts.look_at(&observation, number);
        client.send_action([f32::from(number), seen as f32])?;
        counts.actions += 1;
        seen += 1;
        if seen % SOME == 0 {
            say(&format!("seen {seen}"));
        }
    }
    client.stop_obs_stream();
    let last = client.observe()?;
    counts.look_at(&last, number);
    // The robot numbers what it makes, from 0.
    let (made, stats) = (last.timestamp as u64 + 1, client.stats());
    counts.astray += made.abs_diff(stats.observations.count());
    counts.repeated += stats.retries + stats.strays;
    client.close();
    Ok(())
}

impl Counts {
    fn look_at(&mut self, observation: &Observation, number: u8) {
        if is_of(observation, number) {
            self.observations += 1;
        } else {
            self.foreign += 1;
        }
    }
}

/// Whether every pixel of an observation is the robot's.
fn is_of(observation: &Observation, number: u8) -> bool {
    let whose = observation.extra.get("number").and_then(|number| number.as_u64());
    let depth = f32::from(number).to_le_bytes();
    whose == Some(u64::from(number))
        && observation.cameras.iter().all(|camera| {
            let is_image = is_all(camera.image.bytes(), &[number]);
            is_image && camera.depth.as_ref().is_some_and(|camera| is_all(camera.bytes(), &depth))
        })
}

/// Whether bytes are a repeated pattern; compared by whole rows, since there are many.
fn is_all(bytes: &[u8], pattern: &[u8]) -> bool {
    let row = pattern.repeat(4096 / pattern.len());
    let mut rows = bytes.chunks_exact(row.len());
    rows.all(|chunk| chunk == row) && row.starts_with(rows.remainder())
}
