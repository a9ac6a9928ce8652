//! A policy that lives through restarts of its robot: `supervised` in the place of `connect`.
//! `cargo run --example supervised_policy`, with the example `server` in another terminal, which you
//! may stop and start again. Ctrl-C ends it.
//!
//! It is as safe as one that ends with its robot: while there is no connection nothing is sent, and
//! the robot's watchdog has it hold still; what was planned before is never sent after it, and what
//! was decided on an old observation is discarded. So the first motion after a restart is planned on
//! what the robot saw after it.

use std::time::Duration;

use chiral_tokio::PolicyClient;
use chiral_tokio::proto::{Observation, Rate};

/// Stands for your model: 10 joint targets from one observation, in a twentieth of a second.
async fn plan(observation: &Observation) -> Vec<[f32; 7]> {
    let joints = observation.proprio("joint_pos").map(|joints| joints.values.to_f32());
    let start = joints.map_or(0.0, |joints| joints[0]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    (0..10_u8).map(|step| [start + 0.01 * f32::from(step); 7]).collect()
}

/// The whole policy: nothing in it is about a connection that is lost.
async fn drive(robot: &PolicyClient) -> anyhow::Result<()> {
    robot.start_obs_stream(Rate::hz(30)?)?;
    robot.start_action_dispatch(Rate::hz(50)?)?;
    loop {
        let observation = robot.next_obs().await?; // waits while there is no connection
        let rows = plan(&observation).await;
        let placement = robot.follow(&observation, rows)?;
        if placement.discarded {
            println!("discarded: the connection was lost meanwhile");
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // tells, for example, of waiting

    let uri = std::env::args().nth(1).unwrap_or("ws://localhost:8765".to_owned());
    let robot = PolicyClient::supervised(&uri).await?;
    // Only to show it.
    let watching = robot.clone();
    tokio::spawn(async move {
        while let Some(event) = watching.next_connection_event().await {
            println!("{event}");
        }
    });
    tokio::select! {
        ended = drive(&robot) => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    println!("{}", robot.stats());
    robot.close().await;
    Ok(())
}
