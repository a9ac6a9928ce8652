//! The handshake: what is asked and answered under a robot's key `ask`, before a policy is admitted.

use crate::config::Role;
use crate::error::Error;

use super::secret::Secret;
use super::tag::{Signer, Verifier};

/// Of the handshake and of the tags.
const VERSION: u8 = 2;
const HELLO: u8 = 1;
const PROOF: u8 = 2;
const CHALLENGE: u8 = 3;
const WITH_SECRET: u8 = 1;

/// Random bytes that one side has chosen for one session, so that nothing of an earlier one counts.
pub(crate) type Nonce = [u8; 32];

/// A new one, from the system.
pub(crate) fn nonce() -> Result<Nonce, Error> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| Error::Random(error.to_string()))?;
    Ok(nonce)
}

/// What a policy requests of a robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Hello(Hello),
    Proof(Proof),
}

/// A policy's first request: who is there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) has_secret: bool,
    pub(crate) nonce: Nonce,
    /// The policy, as in the key of its liveliness token.
    pub(crate) policy: String,
}

/// The robot's answer to it. Only who has sent the request receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) has_secret: bool,
    pub(crate) nonce: Nonce,
    /// Shows that the robot has the secret.
    pub(crate) proof: [u8; 32],
    /// The robot, as in the key of its liveliness token.
    pub(crate) node: String,
}

/// A policy's second request: to drive the robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Of the policy's first request.
    pub(crate) nonce: Nonce,
    /// Shows that the policy has received the challenge, and has the secret.
    pub(crate) proof: [u8; 32],
}

impl Request {
    /// Reads a request. `None`: it is none of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[VERSION])?;
        match rest.split_first()? {
            (&HELLO, rest) => {
                let (&flags, rest) = rest.split_first()?;
                let (&nonce, policy) = rest.split_first_chunk()?;
                let has_secret = flags & WITH_SECRET != 0;
                Some(Self::Hello(Hello { has_secret, nonce, policy: id(policy)? }))
            }
            (&PROOF, rest) => {
                let (&nonce, rest) = rest.split_first_chunk()?;
                let proof = rest.try_into().ok()?;
                Some(Self::Proof(Proof { nonce, proof }))
            }
            _ => None,
        }
    }
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let start = [VERSION, HELLO, u8::from(self.has_secret)];
        [&start, &self.nonce[..], self.policy.as_bytes()].concat()
    }
}

impl Proof {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[VERSION, PROOF], &self.nonce[..], &self.proof].concat()
    }
}

impl Challenge {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let start = [VERSION, CHALLENGE, u8::from(self.has_secret)];
        [&start, &self.nonce[..], &self.proof, self.node.as_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[VERSION, CHALLENGE])?;
        let (&flags, rest) = rest.split_first()?;
        let (&nonce, rest) = rest.split_first_chunk()?;
        let (&proof, node) = rest.split_first_chunk()?;
        Some(Self { has_secret: flags & WITH_SECRET != 0, nonce, proof, node: id(node)? })
    }
}

/// An id of a policy or a node: it becomes a part of keys.
fn id(bytes: &[u8]) -> Option<String> {
    let is_id = (1..=64).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_alphanumeric);
    is_id.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Between whom a session is, and what each has chosen for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) robot: &'a str,
    pub(crate) node: &'a str,
    pub(crate) policy: &'a str,
    pub(crate) policy_nonce: &'a Nonce,
    pub(crate) robot_nonce: &'a Nonce,
}

/// The keys of one session. Without a [`Secret`] whoever has received the challenge can derive them.
#[derive(Clone)]
pub(crate) struct SessionKeys {
    master: [u8; 32],
    has_secret: bool,
}

impl SessionKeys {
    pub(crate) fn new(secret: Option<&Secret>, parties: Parties<'_>) -> Self {
        let without = blake3::derive_key("chiral zenoh 2 without a secret", &[]);
        let mut hasher = blake3::Hasher::new_keyed(secret.map_or(&without, Secret::key));
        for text in [parties.robot, parties.node, parties.policy] {
            // None is longer than 64 bytes.
            hasher.update(&[text.len() as u8]).update(text.as_bytes());
        }
        hasher.update(parties.policy_nonce).update(parties.robot_nonce);
        Self { master: hasher.finalize().into(), has_secret: secret.is_some() }
    }

    fn derive(&self, purpose: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.master, purpose.as_bytes())
    }

    /// Under which the frames are published, in the place of an id that others can list.
    pub(crate) fn session_id(&self) -> String {
        self.derive("session").to_hex()[..32].to_owned()
    }

    /// What the robot sends with its challenge.
    pub(crate) fn robot_proof(&self) -> blake3::Hash {
        self.derive("robot")
    }

    /// What the policy answers.
    pub(crate) fn policy_proof(&self) -> blake3::Hash {
        self.derive("policy")
    }

    /// Shows that the robot admits the policy.
    pub(crate) fn admitted(&self) -> blake3::Hash {
        self.derive("admitted")
    }

    /// The robot's refusal, with its reason.
    pub(crate) fn refuse(&self, reason: &str) -> Vec<u8> {
        [self.refusal(reason).as_bytes(), reason.as_bytes()].concat()
    }

    /// The reason for the robot's no; `None` when it is not from the robot.
    pub(crate) fn refused(&self, bytes: &[u8]) -> Option<String> {
        let (&tag, reason) = bytes.split_first_chunk()?;
        let reason = std::str::from_utf8(reason).ok()?;
        (self.refusal(reason) == blake3::Hash::from_bytes(tag)).then(|| reason.to_owned())
    }

    fn refusal(&self, reason: &str) -> blake3::Hash {
        blake3::keyed_hash(self.derive("refused").as_bytes(), reason.as_bytes())
    }

    /// For what this side sends: frames, and the close message.
    pub(crate) fn signers(&self, role: Role) -> [Signer; 2] {
        let (frames, closes) = match role {
            Role::Client => ("c2s", "c2s/close"),
            Role::Server => ("s2c", "s2c/close"),
        };
        // Pixels are hashed where that keeps anybody out: without a secret a stranger need not
        // change an observation on its way, for it can answer as the robot.
        let covers_pixels = role == Role::Client || self.has_secret;
        [
            Signer::new(self.derive(frames).into(), covers_pixels),
            Signer::new(self.derive(closes).into(), true),
        ]
    }

    /// For what this side receives: frames, and the close message.
    pub(crate) fn verifiers(&self, role: Role) -> [Verifier; 2] {
        let (frames, closes) = match role {
            Role::Client => ("s2c", "s2c/close"),
            Role::Server => ("c2s", "c2s/close"),
        };
        [frames, closes].map(|key| Verifier::new(self.derive(key).into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(secret: Option<&str>, robot: &str, policy_nonce: u8) -> SessionKeys {
        let secret = secret.map(|text| Secret::new(text).expect("it is long enough"));
        let parties = Parties {
            robot,
            node: "a1",
            policy: "b2",
            policy_nonce: &[policy_nonce; 32],
            robot_nonce: &[9; 32],
        };
        SessionKeys::new(secret.as_ref(), parties)
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn keys_differ_with_the_secret_the_robot_and_the_nonces() {
        let all = [
            keys(None, "arm", 1),
            keys(Some(SECRET), "arm", 1),
            keys(Some(&format!("{SECRET}0")), "arm", 1),
            keys(Some(SECRET), "arm-2", 1),
            keys(Some(SECRET), "arm", 2),
        ];
        let ids: std::collections::BTreeSet<_> = all.iter().map(SessionKeys::session_id).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(keys(Some(SECRET), "arm", 1).session_id(), all[1].session_id());
    }

    #[test]
    fn only_a_refusal_of_the_robot_is_one() {
        let (ours, other) = (keys(Some(SECRET), "arm", 1), keys(None, "arm", 1));
        let refusal = ours.refuse("it is taken");
        assert_eq!(ours.refused(&refusal).as_deref(), Some("it is taken"));
        assert_eq!(other.refused(&refusal), None);
        assert_eq!(ours.refused(&refusal[..refusal.len() - 1]), None);
        assert_eq!(ours.refused(b"short"), None);
    }

    #[test]
    fn requests_of_other_versions_and_ids_that_are_no_part_of_a_key_are_refused() {
        let hello =
            |policy: &str| Hello { has_secret: true, nonce: [7; 32], policy: policy.into() };
        assert!(Request::decode(&hello("abc").encode()).is_some());
        for id in ["", "a/b", "*", "ä", &"x".repeat(65)] {
            assert_eq!(Request::decode(&hello(id).encode()), None, "{id}");
        }
        let mut newer = hello("abc").encode();
        newer[0] = 3;
        assert_eq!(Request::decode(&newer), None);
        assert_eq!(Request::decode(b"2b0f9d"), None, "a policy of the first version");
    }

    proptest! {
        #[test]
        fn handshakes_round_trip(
            has_secret: bool,
            nonce: Nonce,
            proof: [u8; 32],
            id in "[a-zA-Z0-9]{1,64}",
        ) {
            let hello = Hello { has_secret, nonce, policy: id.clone() };
            prop_assert_eq!(Request::decode(&hello.encode()), Some(Request::Hello(hello)));
            let request = Proof { nonce, proof };
            prop_assert_eq!(Request::decode(&request.encode()), Some(Request::Proof(request)));
            let challenge = Challenge { has_secret, nonce, proof, node: id };
            prop_assert_eq!(Challenge::decode(&challenge.encode()), Some(challenge));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, start in 0_u8..4) {
            let _ = (Request::decode(&bytes), Challenge::decode(&bytes));
            let bytes = [&[VERSION, start], &bytes[..]].concat();
            let _ = (Request::decode(&bytes), Challenge::decode(&bytes));
        }
    }
}
