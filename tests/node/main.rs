//! A process on a Zenoh network, for the tests: a router, a robot or a policy.
//!
//! ```text
//! zenoh-node router ENDPOINT
//! zenoh-node robot ADDRESS NUMBER CAMERAS
//! zenoh-node policy URI NUMBER HZ
//! ```
//!
//! It prints what happens, one event a line, and at the end what it has counted. It ends when its
//! standard input is closed, so that it does not outlive the test.

mod counts;
mod policy;
mod robot;

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zenoh::Wait;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["router", endpoint] => route(endpoint),
        ["robot", address, number, cameras] => {
            robot::serve(address, number.parse()?, cameras.parse()?)
        }
        ["policy", uri, number, hz] => {
            let is_over = Arc::new(AtomicBool::new(false));
            let over = Arc::clone(&is_over);
            thread::spawn(move || {
                wait_for_end();
                over.store(true, Ordering::Relaxed);
            });
            policy::drive(uri, number.parse()?, hz.parse()?, &is_over)
        }
        _ => Err(format!("found {arguments:?}, expected a role: see this program's source").into()),
    }
}

fn route(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\"".to_owned()),
        ("listen/endpoints", format!("[\"{endpoint}\"]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).map_err(|error| error.to_string())?;
    }
    let session = zenoh::open(config).wait().map_err(|error| error.to_string())?;
    say("ready");
    wait_for_end();
    session.close().wait().map_err(|error| error.to_string())?;
    Ok(())
}

/// Prints an event. When nobody reads the output any more, the test is over and so is this process.
fn say(what: &str) {
    let _ = writeln!(io::stdout(), "{what}");
}

/// Blocks until the standard input is closed.
fn wait_for_end() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
