//! Our Rust client, for `bench.py`: asks for one observation for each line of the standard input, and
//! prints how many nanoseconds it took.

use std::error::Error;
use std::time::Instant;

use chiral_blocking::PolicyClient;

fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("found no argument, expected the robot's URI")?;
    let robot = PolicyClient::connect(&uri)?;
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        let observation = robot.observe()?;
        let took = start.elapsed();
        drop(observation);
        println!("{}", took.as_nanos());
    }
    Ok(())
}
