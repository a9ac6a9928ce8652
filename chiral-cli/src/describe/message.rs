//! A whole frame, described.

use std::fmt::{self, Write as _};

use chiral_proto::wire::{ClientMessage, Frame, Message, ServerMessage};
use chiral_proto::{Action, Observation, Sent, Timestamps};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::json::{Camera, Described, Digests, Proprio};
use super::text::{self, Extent};
use super::value::{FreeForm, Number};

/// A frame and its message. As JSON it has the keys that the message has, bulk data by digest; as
/// text it is for people.
pub(crate) struct Report<'a> {
    frame: &'a Frame,
    message: &'a Message,
}

impl<'a> Report<'a> {
    pub(crate) fn new(frame: &'a Frame, message: &'a Message) -> Self {
        Self { frame, message }
    }

    fn parts(&self) -> Parts<'_> {
        let none = Parts::default();
        match self.message {
            Message::Client(message) => match message {
                ClientMessage::ApplyAction(action) | ClientMessage::Step(action) => {
                    Parts { action: Some(action), ..none }
                }
                // The others have nothing but their type.
                _ => none,
            },
            Message::Server(message) => match message {
                ServerMessage::Metadata(data) => Parts { data: Some(data), ..none },
                ServerMessage::Observation(observation) => {
                    Parts { observation: Some(observation), ..none }
                }
                ServerMessage::Reset(result) => Parts {
                    observation: Some(&result.observation),
                    info: Some(&result.info),
                    ..none
                },
                ServerMessage::Step(result) => Parts {
                    observation: Some(&result.observation),
                    info: Some(&result.info),
                    outcome: Some((result.reward, result.terminated, result.truncated)),
                    ..none
                },
                _ => none,
            },
        }
    }
}

/// What messages have, and not every message has.
#[derive(Default)]
struct Parts<'a> {
    observation: Option<&'a Observation>,
    info: Option<&'a chiral_proto::Map>,
    data: Option<&'a chiral_proto::Map>,
    action: Option<&'a Action>,
    /// Reward, terminated, truncated.
    outcome: Option<(f64, bool, bool)>,
}

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.message.message_type().name())?;
        map.serialize_entry("header_len", &self.frame.header().len())?;
        map.serialize_entry("payload_len", &self.frame.payload().len())?;
        let parts = self.parts();
        if let Some(Observation { timestamp, cameras, proprios, extra, .. }) = parts.observation {
            let cameras: Vec<_> =
                cameras.iter().map(|camera| Camera::new(camera, Digests::Yes)).collect();
            let proprios: Vec<_> =
                proprios.iter().map(|proprio| Proprio::new(proprio, Digests::Yes)).collect();
            map.serialize_entry("timestamp", &Number(*timestamp))?;
            map.serialize_entry("cameras", &cameras)?;
            map.serialize_entry("proprios", &proprios)?;
            map.serialize_entry("extra", &FreeForm::from(extra))?;
        }
        if let Some(info) = parts.info {
            map.serialize_entry("info", &FreeForm::from(info))?;
        }
        if let Some(data) = parts.data {
            map.serialize_entry("data", &FreeForm::from(data))?;
        }
        if let Some(Action { values, obs_timestamps, sent, .. }) = parts.action {
            map.serialize_entry("action", &Described::new(values, Digests::Yes))?;
            map.serialize_entry("obs_timestamps", &Stamps(obs_timestamps.as_ref()))?;
            if let Some(Sent { seq, hold }) = sent {
                let snap = obs_timestamps.as_ref().and_then(Timestamps::snap);
                map.serialize_entry("seq", seq)?;
                for (key, time) in [("snap", snap), ("hold", *hold)] {
                    if let Some(time) = time {
                        map.serialize_entry(key, &Number(time.as_secs_f64()))?;
                    }
                }
            }
        }
        if let Some((reward, terminated, truncated)) = parts.outcome {
            map.serialize_entry("reward", &Number(reward))?;
            map.serialize_entry("terminated", &terminated)?;
            map.serialize_entry("truncated", &truncated)?;
        }
        map.end()
    }
}

struct Stamps<'a>(Option<&'a Timestamps>);

impl Serialize for Stamps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stamps = self.0.into_iter().flat_map(Timestamps::iter);
        serializer.collect_map(stamps.map(|(name, seconds)| (name.as_str(), Number(seconds))))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = Extent::of_stdout();
        let (header, payload) = (self.frame.header().len(), self.frame.payload().len());
        let name = self.message.message_type();
        writeln!(f, "{name}: {header} bytes of header, {payload} bytes of payload")?;
        let parts = self.parts();
        if let Some(Observation { timestamp, cameras, proprios, extra, .. }) = parts.observation {
            writeln!(f, "timestamp {timestamp:?}")?;
            f.write_str(&text::cameras(cameras))?;
            f.write_str(&text::proprios(proprios))?;
            f.write_str(&text::free_form("extra", extra, extent))?;
        }
        for (name, map) in [("info", parts.info), ("data", parts.data)] {
            if let Some(map) = map {
                f.write_str(&text::free_form(name, map, extent))?;
            }
        }
        if let Some(action) = parts.action {
            f.write_str(&describe_action(action))?;
        }
        if let Some((reward, terminated, truncated)) = parts.outcome {
            writeln!(f, "reward {reward:?}, terminated {terminated}, truncated {truncated}")?;
        }
        Ok(())
    }
}

/// Elements of an action that are shown at the most.
const MAX_ELEMENTS: usize = 64;

fn describe_action(action: &Action) -> String {
    let values = &action.values;
    let mut text = format!("action {}\n ", text::array(values));
    let elements = values.to_f64();
    for element in elements.iter().take(MAX_ELEMENTS) {
        let _ = write!(text, " {element:?}");
    }
    text.push_str(if elements.len() > MAX_ELEMENTS { " …\n" } else { "\n" });
    for (name, seconds) in action.obs_timestamps.iter().flat_map(Timestamps::iter) {
        let _ = writeln!(text, "decided on {} of {seconds:?}", crate::text::name(name));
    }
    if let Some(Sent { seq, hold }) = action.sent {
        let _ = write!(text, "action number {seq}");
        if let Some(hold) = hold {
            let _ = write!(text, ", {hold:?} after its observation had arrived");
        }
        text.push('\n');
    }
    text
}
