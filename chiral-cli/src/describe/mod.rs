//! Observations and messages, described: as JSON for programs and as text for people.

mod json;
mod message;
mod text;
mod value;

pub(crate) use json::to_json;
pub(crate) use message::Report;
