//! A policy that looks before it acts: `cargo run --example client`, with the example `server` in
//! another terminal.

use chiral_tokio::PolicyClient;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // tells, for example, of waiting

    let uri = std::env::args().nth(1).unwrap_or("ws://localhost:8765".to_owned());
    let robot = PolicyClient::connect(&uri).await?; // waits for the robot
    println!("metadata: {}", robot.metadata().await?);
    robot.reset().await?;
    for _ in 0..10 {
        let observation = robot.observe().await?;
        let wrist = &observation["wrist_cam"];
        let pixels = wrist.image.as_slice::<u8>()?; // borrowed from the socket's buffer
        println!("{:.3} s: the first pixel is {:?}", wrist.timestamp, &pixels[..3]);
        robot.send_action([f32::from(pixels[0]) / 255.0; 7])?; // never waits
    }
    println!("{}", robot.stats());
    robot.close().await;
    Ok(())
}
