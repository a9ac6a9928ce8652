//! The robots on a network.

use serde::Serialize;

use super::{DEFAULT_NETWORK, Options};
use crate::describe::{self, Free, to_json};
use crate::output;
use crate::text::printable;
use crate::zenoh;

/// The robots on a network, for programs.
#[derive(Serialize)]
struct List<'a> {
    uri: &'a str,
    robots: Vec<Robot>,
}

#[derive(Serialize)]
struct Robot {
    name: String,
    /// `null` when it did not say.
    metadata: Option<Free>,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let uri = options.uri.as_deref().unwrap_or(DEFAULT_NETWORK);
    let robots = zenoh::robots(uri, options.timeout)?;
    if !options.json {
        return output::print(&to_text(uri, &robots));
    }
    let robot = |zenoh::Robot { name, metadata }| Robot {
        name,
        metadata: metadata.as_ref().map(Free::from),
    };
    let list = List { uri, robots: robots.into_iter().map(robot).collect() };
    output::print(&(to_json(&list, false)? + "\n"))
}

/// What each robot says of itself, under its name.
fn to_text(uri: &str, robots: &[zenoh::Robot]) -> String {
    let mut text = match robots.len() {
        0 => format!("no named robot at {}\n", printable(uri)),
        1 => format!("1 robot at {}\n", printable(uri)),
        count => format!("{count} robots at {}\n", printable(uri)),
    };
    for zenoh::Robot { name, metadata } in robots {
        let heading = printable(name);
        let said = match metadata {
            None => format!("{heading}: it did not say what it is\n"),
            Some(metadata) if metadata.is_empty() => format!("{heading}\n"),
            Some(metadata) => describe::free_form(&heading, metadata),
        };
        text.push_str(&said);
    }
    text
}

#[cfg(test)]
mod tests {
    use chiral_proto::Map;

    use super::*;

    #[test]
    fn robot_metadata_is_escaped_for_the_terminal() {
        let robot = |name: &str, metadata| zenoh::Robot { name: name.to_owned(), metadata };
        let says = Map::new().with("mo\u{1b}[2Jtd", "hel\u{9b}lo");
        let robots =
            [robot("arm-1", Some(says)), robot("arm-2", None), robot("arm-3", Some(Map::new()))];
        let text = to_text("tcp/router:7447", &robots);
        assert!(text.starts_with("3 robots at tcp/router:7447\narm-1\n  \"mo"), "{text}");
        assert!(text.ends_with("arm-2: it did not say what it is\narm-3\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().all(crate::text::is_plain)), "{text:?}");
        assert_eq!(to_text("zenoh:", &[]), "no named robot at zenoh:\n");
    }
}
