//! The Rust client beside which `bench.cpp` measures the one in C++: for each line on its
//! standard input, which is a number, it asks for so many observations, and prints the nanoseconds
//! that each took.

use std::time::Instant;

use chiral_blocking::PolicyClient;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = std::env::args().nth(1).ok_or("expected a URI")?;
    let robot = PolicyClient::connect(&uri)?;
    for line in std::io::stdin().lines() {
        for _ in 0..line?.trim().parse::<u32>()? {
            let start = Instant::now();
            drop(robot.observe()?);
            print!("{} ", start.elapsed().as_nanos());
        }
        println!();
    }
    Ok(())
}
