use std::fmt;

use serde_json::{Value, json};

use crate::config::RobotName;

/// The section `access_control` of a Zenoh router's configuration, which keeps everybody but a
/// robot and its policies away from the robot's keys.
///
/// It is written as JSON5 of Zenoh's ([`Display`](fmt::Display)), to be merged into the router's
/// configuration file. Whoever is not named in it may do nothing on that router: add rules for what
/// else goes over it. It holds for who connects to the router, and not for who connects to a robot
/// directly; so let robots only connect, and not listen.
///
/// ```
/// use chiral_zenoh::{AccessControl, Identity};
///
/// let access = AccessControl::new().with_robot(
///     "arm-3".parse()?,
///     Identity::User("arm-3".to_owned()),
///     [Identity::User("trainer".to_owned())],
/// );
/// std::fs::write("access.json5", access.to_string())?;
/// # std::fs::remove_file("access.json5")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AccessControl {
    robots: Vec<Access>,
}

#[derive(Debug, Clone)]
struct Access {
    robot: RobotName,
    server: Identity,
    policies: Vec<Identity>,
}

/// By what a router knows who has connected to it. A Zenoh id is none: everybody chooses it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The user's name, for user and password (`transport/auth/usrpwd`, the crate's feature
    /// `auth`).
    User(String),
    /// The common name in the certificate that a client shows, for TLS with certificates on both
    /// sides (`enable_mtls`, the crate's feature `tls`).
    Certificate(String),
}

/// Which way a rule's messages go: to the router, or from it.
#[derive(Clone, Copy)]
enum Flow {
    Ingress,
    Egress,
}

impl Flow {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// What may be sent under which of a robot's keys.
type Rule = (Flow, &'static [&'static str], &'static [&'static str]);

/// What a robot does, with the keys that it does it under.
const SERVER: [Rule; 9] = [
    (Flow::Ingress, &["put"], &["session/*/s2c/**"]),
    (Flow::Ingress, &["declare_subscriber"], &["session/*/c2s/**"]),
    (Flow::Ingress, &["declare_queryable", "reply"], &["ask", "metadata"]),
    // Whether another robot has its name.
    (Flow::Ingress, &["query"], &["ask"]),
    (Flow::Ingress, &["liveliness_token"], &["robot/*"]),
    (
        Flow::Ingress,
        &["liveliness_query", "declare_liveliness_subscriber"],
        &["robot/*", "policy/*"],
    ),
    (Flow::Egress, &["put"], &["session/*/c2s/**"]),
    (Flow::Egress, &["query", "reply", "declare_queryable"], &["ask", "metadata"]),
    (
        Flow::Egress,
        &["declare_subscriber", "liveliness_token"],
        &["session/*/s2c/**", "robot/*", "policy/*"],
    ),
];

/// What a policy does.
const POLICY: [Rule; 8] = [
    (Flow::Ingress, &["put"], &["session/*/c2s/**"]),
    (Flow::Ingress, &["declare_subscriber"], &["session/*/s2c/**"]),
    (Flow::Ingress, &["query"], &["ask", "metadata"]),
    (Flow::Ingress, &["liveliness_token"], &["policy/*"]),
    (Flow::Ingress, &["liveliness_query", "declare_liveliness_subscriber"], &["robot/*"]),
    (Flow::Egress, &["put"], &["session/*/s2c/**"]),
    (Flow::Egress, &["reply", "declare_queryable"], &["ask", "metadata"]),
    (Flow::Egress, &["declare_subscriber", "liveliness_token"], &["session/*/c2s/**", "robot/*"]),
];

impl AccessControl {
    /// Nobody may do anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a robot: `server` may serve it, and each of `policies` may drive it.
    #[must_use]
    pub fn with_robot(
        mut self,
        robot: RobotName,
        server: Identity,
        policies: impl IntoIterator<Item = Identity>,
    ) -> Self {
        let policies = policies.into_iter().collect();
        self.robots.push(Access { robot, server, policies });
        self
    }

    fn to_value(&self) -> Value {
        let (mut rules, mut subjects, mut policies) = (Vec::new(), Vec::new(), Vec::new());
        for Access { robot, server, policies: drivers } in &self.robots {
            let servers = std::slice::from_ref(server);
            for (who, identities, allowed) in
                [("robot", servers, &SERVER[..]), ("policy", drivers, &POLICY[..])]
            {
                if identities.is_empty() {
                    continue;
                }
                let ids = |what: &str, count: usize| -> Vec<String> {
                    (1..=count).map(|number| format!("{robot} {who} {what} {number}")).collect()
                };
                let (rule_ids, subject_ids) =
                    (ids("rule", allowed.len()), ids("subject", identities.len()));
                for (id, &(flow, messages, keys)) in rule_ids.iter().zip(allowed) {
                    let keys: Vec<_> =
                        keys.iter().map(|key| format!("chiral/{robot}/{key}")).collect();
                    rules.push(json!({
                        "id": id,
                        "permission": "allow",
                        "flows": [flow.name()],
                        "messages": messages,
                        "key_exprs": keys,
                    }));
                }
                for (id, identity) in subject_ids.iter().zip(identities) {
                    subjects.push(match identity {
                        Identity::User(name) => json!({ "id": id, "usernames": [name] }),
                        Identity::Certificate(name) => {
                            json!({ "id": id, "cert_common_names": [name] })
                        }
                    });
                }
                policies.push(json!({ "rules": rule_ids, "subjects": subject_ids }));
            }
        }
        json!({
            "access_control": {
                "enabled": true,
                "default_permission": "deny",
                "rules": rules,
                "subjects": subjects,
                "policies": policies,
            },
        })
    }
}

/// JSON5, as Zenoh reads it.
impl fmt::Display for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "// A part of the configuration of a Zenoh router: who may use which robot's keys."
        )?;
        writeln!(f, "{:#}", self.to_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zenoh_takes_the_access_control_of_any_number_of_robots() {
        let user = |name: &str| Identity::User(name.to_owned());
        let mut access = AccessControl::new();
        for robot in ["arm-1", "arm-2"] {
            let certificate = Identity::Certificate(format!("{robot}.lab"));
            let robot = robot.parse().expect("a name");
            access = access.with_robot(robot, certificate, [user("a"), user("b")]);
            zenoh::Config::from_json5(&access.to_string()).expect("Zenoh reads it");
        }
        let ids: Vec<_> = access.to_value()["access_control"]["rules"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|rule| rule["id"].to_string())
            .collect();
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), unique.len()), (34, 34));
    }
}
