use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::{Config, Endpoint, EndpointError, Mode, RobotNameError};

const SCHEME: &str = "zenoh:";
/// What means something in a URI, or would be cut off by a shell.
const ESCAPED: [char; 6] = ['%', '&', ',', '?', '#', ' '];

impl Config {
    /// Whether a text is meant as a Zenoh URI, and not as one of another transport: it begins with
    /// `zenoh:`, or with a protocol of Zenoh and a slash.
    pub fn is_uri(text: &str) -> bool {
        behind_scheme(text).is_some()
            || ["tcp/", "tls/"].iter().any(|start| text.starts_with(start))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "robot" if self.robot.is_none() => self.robot = Some(value.parse()?),
            "listen" => self.listen.push(value.parse()?),
            "connect" => self.connect.push(value.parse()?),
            "mode" if self.mode.is_none() => {
                self.mode = Some(match value {
                    "client" => Mode::Client,
                    "peer" => Mode::Peer,
                    _ => return Err(Problem::value(name, value, "`client` or `peer`")),
                });
            }
            "scouting" => self.scouting = switch(name, value)?,
            "shm" => self.shared_memory = switch(name, value)?,
            "config" if self.zenoh_file.is_none() && !value.is_empty() => {
                self.zenoh_file = Some(value.into());
            }
            "config" | "secret-file" if value.is_empty() => {
                return Err(Problem::value(name, value, "the path of a file"));
            }
            "secret-file" if self.secret_file.is_none() => self.secret_file = Some(value.into()),
            "robot" | "mode" | "config" | "secret-file" => {
                return Err(Problem::Twice(name.to_owned()));
            }
            _ => return Err(Problem::Option(name.to_owned())),
        }
        Ok(())
    }
}

fn switch(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Problem::value(name, value, "`on` or `off`")),
    }
}

impl FromStr for Config {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        let fail = |problem| UriError { uri: text.to_owned(), problem };
        let mut config = Self::new();
        let Some(rest) = behind_scheme(text) else {
            let endpoint = text.parse().map_err(|error| fail(Problem::Endpoint(error)))?;
            return Ok(config.at(endpoint));
        };
        let (endpoints, options) = rest.split_once('?').unwrap_or((rest, ""));
        for endpoint in endpoints.split(',').filter(|endpoint| !endpoint.is_empty()) {
            let endpoint = unescape(endpoint).and_then(|text| Ok(text.parse::<Endpoint>()?));
            config.endpoints.push(endpoint.map_err(fail)?);
        }
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let Some((name, value)) = option.split_once('=') else {
                return Err(fail(Problem::Option(option.to_owned())));
            };
            unescape(value).and_then(|value| config.set(name, &value)).map_err(fail)?;
        }
        Ok(config)
    }
}

impl fmt::Display for Config {
    /// Writes the URI. What a URI does not say, a secret itself, the lease, the limits and the size of
    /// the shared memory, is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        let mut option =
            |name: &str, value: &str| options.push(format!("{name}={}", escape(value)));
        if let Some(robot) = &self.robot {
            option("robot", robot.as_str());
        }
        if let Some(path) = &self.secret_file {
            option("secret-file", &path.to_string_lossy());
        }
        self.connect.iter().for_each(|endpoint| option("connect", endpoint.as_str()));
        self.listen.iter().for_each(|endpoint| option("listen", endpoint.as_str()));
        match self.mode {
            Some(Mode::Client) => option("mode", "client"),
            Some(Mode::Peer) => option("mode", "peer"),
            None => {}
        }
        if self.scouting {
            option("scouting", "on");
        }
        if self.shared_memory {
            option("shm", "on");
        }
        if let Some(path) = &self.zenoh_file {
            option("config", &path.to_string_lossy());
        }
        if let ([endpoint], []) = (&self.endpoints[..], &options[..]) {
            return write!(f, "{endpoint}");
        }
        let endpoints: Vec<_> =
            self.endpoints.iter().map(|endpoint| escape(endpoint.as_str())).collect();
        write!(f, "{SCHEME}{}", endpoints.join(","))?;
        if options.is_empty() { Ok(()) } else { write!(f, "?{}", options.join("&")) }
    }
}

/// What follows the scheme, which may be in upper case, if a text has it.
fn behind_scheme(text: &str) -> Option<&str> {
    let scheme = text.get(..SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| &text[SCHEME.len()..])
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // White space around a URI is passed over, so none of it may be a value's.
        if ESCAPED.contains(&c) || c.is_whitespace() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(escaped, "%{byte:02X}").expect("a String takes everything");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn unescape(text: &str) -> Result<String, Problem> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let fail = || Problem::Escape(format!("%{}", part.chars().take(2).collect::<String>()));
        let code = part.get(..2).ok_or_else(fail)?;
        let is_hex = code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u8::from_str_radix(code, 16).ok().filter(|_| is_hex).ok_or_else(fail)?;
        bytes.push(code);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| Problem::Escape("bytes that are no UTF-8".to_owned()))
}

/// A text that is no Zenoh URI of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{uri}`: {problem}")]
pub struct UriError {
    uri: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("{0}, or zenoh: with endpoints and options")]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Robot(#[from] RobotNameError),
    #[error(
        "found the option {0:?}, expected one of robot=, secret-file=, connect=, listen=, mode=, scouting=, shm=, config="
    )]
    Option(String),
    #[error("found {name}={value:?}, expected {expected}")]
    Value { name: String, value: String, expected: &'static str },
    #[error("found the option `{0}` twice, expected it once")]
    Twice(String),
    #[error("found {0:?}, expected % and two hexadecimal digits of a UTF-8 text")]
    Escape(String),
}

impl Problem {
    fn value(name: &str, value: &str, expected: &'static str) -> Self {
        Self::Value { name: name.to_owned(), value: value.to_owned(), expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_zenoh_uris_are_rejected_with_a_reason() {
        for (text, problem) in [
            ("localhost:7447", "expected tcp/host:port"),
            ("zenoh:localhost", "expected tcp/host:port"),
            ("zenoh:?robot=a/b", "the robot name \"a/b\""),
            ("zenoh:?robot=a&robot=b", "`robot` twice"),
            ("zenoh:?mode=router", "found mode=\"router\", expected `client` or `peer`"),
            ("zenoh:?shm=yes", "found shm=\"yes\", expected `on` or `off`"),
            ("zenoh:?config=", "expected the path of a file"),
            ("zenoh:?secret-file=", "expected the path of a file"),
            ("zenoh:?secret-file=a&secret-file=b", "`secret-file` twice"),
            ("zenoh:?secret=0123", "found the option \"secret\""),
            ("zenoh:?colour=red", "found the option \"colour\", expected one of robot="),
            ("zenoh:?scouting", "found the option \"scouting\""),
            ("zenoh:?config=%zz", "found \"%zz\""),
            ("zenoh:?config=%+1", "found \"%+1\""),
            ("zenoh:?config=%ff", "no UTF-8"),
            ("zenoh:?config=a%2", "found \"%2\""),
        ] {
            let error = text.parse::<Config>().expect_err(text).to_string();
            assert!(error.contains(problem) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn only_zenoh_uris_are_recognised() {
        for (text, ours) in
            [("tcp/a:1", true), ("tls/a:1", true), ("zenoh:", true), ("ws://a:1", false)]
        {
            assert_eq!(Config::is_uri(text), ours, "{text}");
        }
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        ("[a-z]{1,8}", 0_u16.., prop::sample::select(vec!["", "#iface=eth0", "?prio=6-7"]))
            .prop_map(|(host, port, rest)| format!("tcp/{host}:{port}{rest}"))
            .prop_map(|text| text.parse().expect("it is well formed"))
    }

    fn config() -> impl Strategy<Value = Config> {
        let endpoints = || prop::collection::vec(endpoint(), 0..3);
        let mode = prop::option::of(prop::sample::select(vec![Mode::Client, Mode::Peer]));
        let robot = prop::option::of("[a-zA-Z0-9][a-zA-Z0-9._-]{3,20}");
        let path = || prop::option::of("[^\0]{1,20}");
        let paths = (path(), path());
        (endpoints(), endpoints(), endpoints(), mode, robot, paths, any::<(bool, bool)>()).prop_map(
            |(endpoints, listen, connect, mode, robot, paths, (scouting, shared_memory))| Config {
                endpoints,
                listen,
                connect,
                mode,
                robot: robot.map(|robot| robot.parse().expect("it is well formed")),
                zenoh_file: paths.0.map(Into::into),
                secret_file: paths.1.map(Into::into),
                scouting,
                shared_memory,
                ..Config::new()
            },
        )
    }

    proptest! {
        #[test]
        fn zenoh_uris_round_trip(config in config()) {
            let uri = config.to_string();
            prop_assert_eq!(uri.parse::<Config>(), Ok(config), "{}", uri);
        }

        #[test]
        fn parsing_any_text_succeeds_or_fails_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Config>();
            let _ = format!("zenoh:{text}").parse::<Config>();
            let _ = format!("zenoh:?{text}").parse::<Config>();
        }
    }
}
