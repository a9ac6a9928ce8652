//! A policy that plans half a second ahead while the robot moves: observations stream in at 30 Hz,
//! joint targets go out at 50 Hz, and neither waits for the other or for the planning.
//! `cargo run --example chunked_policy`, with the example `server` in another terminal.

use std::time::Duration;

use chiral_tokio::PolicyClient;
use chiral_tokio::proto::client::Config;
use chiral_tokio::proto::{Observation, Rate};

/// Stands for your model: 25 joint targets from one observation, in a tenth of a second. Row `k`
/// is for the `k`-th action after the observation.
async fn plan(observation: &Observation) -> Vec<[f32; 7]> {
    let joints = observation.proprio("joint_pos").map(|joints| joints.values.to_f32());
    let start = joints.map_or(0.0, |joints| joints[0]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    (0..25_u8).map(|step| [start + 0.01 * f32::from(step); 7]).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // tells, for example, of waiting

    let uri = std::env::args().nth(1).unwrap_or("ws://localhost:8765".to_owned());
    // An action that has waited longer than this is not sent any more.
    let config = Config { max_age: Some(Duration::from_millis(500)), ..Config::default() };
    let robot = PolicyClient::builder().config(config).connect(&uri).await?;
    robot.reset().await?;
    robot.start_obs_stream(Rate::hz(30)?)?;
    robot.start_action_dispatch(Rate::hz(50)?)?;
    for _ in 0..20 {
        let observation = robot.next_obs().await?; // the newest, never one twice
        let rows = plan(&observation).await; // meanwhile the old plan goes on
        // The first rows are for the time that the planning took, and are skipped.
        let placement = robot.follow(&observation, rows)?;
        println!(
            "new plan at {:.3} s: {} rows are over, {} old ones dropped",
            observation.timestamp, placement.skipped, placement.replaced
        );
    }
    println!("{}", robot.stats());
    robot.close().await;
    Ok(())
}
