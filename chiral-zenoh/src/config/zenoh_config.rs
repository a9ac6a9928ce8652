//! Zenoh's configuration: the user's file over our defaults, and the URI over both.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Config, Endpoint, Mode};
use crate::error::Error;

/// Which side of a pair a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The robot's.
    Server,
    /// The policy's, or a tool's.
    Client,
}

/// Signs of life within a lease.
const KEEP_ALIVES: u32 = 4;
/// How long a message may take to be sent before Zenoh closes the connection over it, at least. It
/// must be seconds: while one waits, Zenoh cannot give up a connection that has ended, and meanwhile
/// sends nothing for the whole process.
const WAIT_BEFORE_CLOSE: Duration = Duration::from_secs(5);
/// How much longer than the lease: the end of a silent peer is to be found by that. Over a message,
/// Zenoh closes the socket before it tells, and that waits 10 s for the unsent rest.
const BEHIND_LEASE: Duration = Duration::from_secs(1);
/// Batches of 64 KiB that may wait for the socket, of ordinary and of urgent messages.
const BATCHES: usize = 16;

impl Config {
    /// What this side listens on, and what it connects to.
    fn endpoints(&self, role: Role) -> (Vec<Endpoint>, Vec<Endpoint>) {
        let (mut listen, mut connect) = (self.listen.clone(), self.connect.clone());
        let shared = match (role, self.is_bare()) {
            (_, false) => self.endpoints.clone(),
            (Role::Server, true) => vec![parsed(crate::DEFAULT_ADDRESS)],
            (Role::Client, true) => vec![parsed(crate::DEFAULT_URI)],
        };
        match role {
            Role::Server => listen.extend(shared),
            Role::Client => connect.extend(shared),
        }
        (listen, connect)
    }

    /// Whether TCP connections are accepted where a client would connect: Zenoh reports a server that
    /// refuses it like none.
    pub(crate) fn is_listened_on(&self) -> bool {
        let (_, connect) = self.endpoints(Role::Client);
        connect.iter().any(Endpoint::is_listened_on)
    }

    /// Zenoh's configuration, and where it will listen.
    pub(crate) fn to_zenoh(&self, role: Role) -> Result<(zenoh::Config, Vec<Endpoint>), Error> {
        if self.shared_memory && !cfg!(feature = "shm") {
            return Err(Error::Config(
                "found shm=on, expected a program built with the feature `shm` of chiral-zenoh; \
                 build it so or leave the option out"
                    .to_owned(),
            ));
        }
        let (listen, connect) = self.endpoints(role);
        let listen = listen.iter().map(Endpoint::with_free_port).collect::<Result<Vec<_>, _>>();
        let listen = listen.map_err(|error| Error::Config(format!("no free port: {error}")))?;
        if self.mode == Some(Mode::Client) && !listen.is_empty() {
            return Err(Error::Config(format!(
                "found mode=client with the endpoint {} to listen on, expected mode=peer: a client \
                 only connects (a robot behind a router: `connect=` that router)",
                listen[0]
            )));
        }
        let mut merged = self.defaults(role, !listen.is_empty());
        if let Some(path) = &self.zenoh_file {
            let fail = |error: &dyn std::fmt::Display| {
                Error::Config(format!(
                    "found Zenoh's configuration file {} unreadable: {error}; expected JSON5 as in \
                     Zenoh's DEFAULT_CONFIG.json5",
                    path.display()
                ))
            };
            let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
            let file: Value = json5::from_str(&text).map_err(|error| fail(&error))?;
            if !file.is_object() {
                return Err(fail(&"it is no object"));
            }
            merge(&mut merged, file);
        }
        merge(&mut merged, self.explicit(&listen, &connect));
        if role == Role::Server && self.robot.is_none() {
            check_is_alone(&merged)?;
        }
        let config = zenoh::Config::from_json5(&merged.to_string());
        let config = config.map_err(|error| {
            Error::Config(format!("Zenoh does not take its configuration: {error}"))
        })?;
        Ok((config, listen))
    }

    /// What holds unless the user's file says otherwise.
    fn defaults(&self, role: Role, listens: bool) -> Value {
        let wait_before_close = WAIT_BEFORE_CLOSE.max(self.lease + BEHIND_LEASE).as_micros() as u64;
        let is_compatible_server = role == Role::Server && self.robot.is_none();
        json!({
            "mode": if listens || self.scouting { "peer" } else { "client" },
            "listen": { "endpoints": [], "timeout_ms": 0, "exit_on_failure": true },
            // A client tries once; who waits for a server tries again. A peer goes on trying.
            "connect": {
                "endpoints": [],
                "retry": { "period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 2 },
            },
            "scouting": { "multicast": { "enabled": false }, "gossip": { "enabled": false } },
            "transport": {
                "unicast": {
                    // Peers without our keys cannot be told to wait: a second one does not get in.
                    "max_sessions": if is_compatible_server { 1 } else { 1000 },
                },
                "link": {
                    "tx": {
                        "lease": self.lease.as_millis() as u64,
                        "keep_alive": KEEP_ALIVES,
                        "queue": {
                            "size": { "data": BATCHES, "real_time": BATCHES },
                            "congestion_control": {
                                "block": { "wait_before_close": wait_before_close },
                            },
                        },
                    },
                    // Twice, so that one a little too long can still be refused with the reason.
                    "rx": { "max_message_size": self.limits.frame_len.saturating_mul(2) },
                },
                "shared_memory": {
                    "enabled": false,
                    // We lay observations out ourselves.
                    "transport_optimization": { "enabled": false },
                },
            },
        })
    }

    /// What was asked for beside the file, and so goes over it.
    fn explicit(&self, listen: &[Endpoint], connect: &[Endpoint]) -> Value {
        let mut explicit = json!({});
        let texts = |endpoints: &[Endpoint]| -> Value {
            endpoints.iter().map(|endpoint| json!(endpoint.as_str())).collect()
        };
        if !listen.is_empty() {
            merge(&mut explicit, json!({ "listen": { "endpoints": texts(listen) } }));
        }
        if !connect.is_empty() {
            merge(&mut explicit, json!({ "connect": { "endpoints": texts(connect) } }));
        }
        match self.mode {
            Some(Mode::Client) => merge(&mut explicit, json!({ "mode": "client" })),
            Some(Mode::Peer) => merge(&mut explicit, json!({ "mode": "peer" })),
            None => {}
        }
        if self.scouting {
            let on = json!({ "multicast": { "enabled": true }, "gossip": { "enabled": true } });
            merge(&mut explicit, json!({ "scouting": on }));
        }
        if self.shared_memory {
            merge(&mut explicit, json!({ "transport": { "shared_memory": { "enabled": true } } }));
        }
        explicit
    }
}

/// A robot without a name takes the actions of everybody on its network, so nobody may be there but
/// the one policy that connects to it.
fn check_is_alone(zenoh: &Value) -> Result<(), Error> {
    let refused = |found: &str| {
        Err(Error::Config(format!(
            "found a robot without a name that {found}, expected a name (`robot=NAME`), or an endpoint \
             to listen on and nothing else: without names every policy on the network drives every \
             robot on it"
        )))
    };
    let endpoints = &zenoh["connect"]["endpoints"];
    let is_empty = |endpoints: &Value| endpoints.as_array().is_some_and(Vec::is_empty);
    let connects = match endpoints {
        // One list for each of Zenoh's modes.
        Value::Object(of_modes) => !of_modes.values().all(is_empty),
        endpoints => !is_empty(endpoints),
    };
    if connects {
        return refused(&format!("connects to {endpoints}"));
    }
    for how in ["multicast", "gossip"] {
        if zenoh["scouting"][how]["enabled"] != json!(false) {
            return refused(&format!("looks for others (scouting by {how})"));
        }
    }
    Ok(())
}

fn parsed(endpoint: &str) -> Endpoint {
    endpoint.parse().expect("our own endpoints are well formed")
}

/// Puts what stands in `upper` over what stands in `lower`; objects are merged key by key.
fn merge(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (Value::Object(lower), Value::Object(upper)) => {
            for (key, value) in upper {
                merge(lower.entry(key).or_insert(Value::Null), value);
            }
        }
        (lower, upper) => *lower = upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(config: &zenoh::Config, key: &str) -> Value {
        let text = config.get_json(key).expect(key);
        serde_json::from_str(&text).expect("Zenoh writes JSON")
    }

    fn zenoh_of(uri: &str, role: Role) -> zenoh::Config {
        let config: Config = uri.parse().expect(uri);
        config.to_zenoh(role).expect(uri).0
    }

    #[test]
    fn only_the_given_endpoints_are_used() {
        let server = zenoh_of("tcp/localhost:7000", Role::Server);
        assert_eq!(setting(&server, "listen/endpoints"), json!(["tcp/localhost:7000"]));
        assert_eq!(setting(&server, "connect/endpoints"), json!([]));
        let client = zenoh_of("tcp/localhost:7000", Role::Client);
        assert_eq!(setting(&client, "listen/endpoints"), json!([]));
        assert_eq!(setting(&client, "connect/endpoints"), json!(["tcp/localhost:7000"]));
        assert_eq!(setting(&client, "mode"), json!("client"));
        for config in [server, client] {
            assert_eq!(setting(&config, "scouting/multicast/enabled"), json!(false));
            assert_eq!(setting(&config, "scouting/gossip/enabled"), json!(false));
            assert_eq!(setting(&config, "transport/shared_memory/enabled"), json!(false));
        }
    }

    #[test]
    fn a_robot_behind_a_router_only_connects() {
        let robot = zenoh_of("zenoh:?robot=a&connect=tcp/router:7447", Role::Server);
        assert_eq!(setting(&robot, "listen/endpoints"), json!([]));
        assert_eq!(setting(&robot, "connect/endpoints"), json!(["tcp/router:7447"]));
        assert_eq!(setting(&robot, "mode"), json!("client"));
    }

    #[test]
    fn scouting_is_enabled_only_on_request() {
        let config = zenoh_of("zenoh:?robot=a&scouting=on", Role::Client);
        assert_eq!(setting(&config, "scouting/multicast/enabled"), json!(true));
        assert_eq!(setting(&config, "mode"), json!("peer"));
    }

    #[test]
    fn the_config_file_overrides_defaults_and_the_uri_overrides_the_file() {
        let path = std::env::temp_dir().join(format!("chiral-zenoh-{}.json5", std::process::id()));
        let text = "{ // JSON5\n mode: 'peer', listen: { endpoints: ['tcp/a:1'] },\n \
                    transport: { link: { tx: { lease: 777 } } } }";
        std::fs::write(&path, text).expect("the temporary folder can be written");
        let uri = format!("zenoh:?robot=a&connect=tcp/b:2&config={}", path.display());
        let config = zenoh_of(&uri, Role::Client);
        std::fs::remove_file(&path).expect("it was just written");
        assert_eq!(setting(&config, "mode"), json!("peer"));
        assert_eq!(setting(&config, "listen/endpoints"), json!(["tcp/a:1"]));
        assert_eq!(setting(&config, "connect/endpoints"), json!(["tcp/b:2"]));
        assert_eq!(setting(&config, "transport/link/tx/lease"), json!(777));
        assert_eq!(setting(&config, "transport/link/tx/queue/size/data"), json!(BATCHES));
    }

    #[test]
    fn unusable_configurations_are_rejected_with_a_reason() {
        let refused = |uri: &str, role| {
            let config: Config = uri.parse().expect(uri);
            config.to_zenoh(role).map(drop).expect_err(uri).to_string()
        };
        let error = refused("zenoh:tcp/a:1?mode=client", Role::Server);
        assert!(error.contains("expected mode=peer"), "{error}");
        let error = refused("zenoh:?config=/no/such/file.json5", Role::Client);
        assert!(error.contains("/no/such/file.json5 unreadable"), "{error}");
        for (uri, found) in [
            ("zenoh:?connect=tcp/router:7447", "connects to [\"tcp/router:7447\"]"),
            ("zenoh:tcp/0.0.0.0:1?connect=tcp/router:7447", "connects to"),
            ("zenoh:tcp/0.0.0.0:1?scouting=on", "scouting by multicast"),
        ] {
            let error = refused(uri, Role::Server);
            assert!(error.contains(found) && error.contains("`robot=NAME`"), "{error}");
            let policy: Config = uri.parse().expect(uri);
            assert!(policy.to_zenoh(Role::Client).is_ok(), "a policy may look anywhere: {uri}");
        }
        if !cfg!(feature = "shm") {
            let error = refused("zenoh:?shm=on", Role::Client);
            assert!(error.contains("the feature `shm`"), "{error}");
        }
    }
}
