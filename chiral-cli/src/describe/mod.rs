//! Observations and messages, described: as JSON for programs and as text for people.

mod json;
mod message;
mod text;
mod value;

pub(crate) use json::{Camera, Digests, Proprio, to_json};
pub(crate) use message::Report;
pub(crate) use text::{Extent, cameras, contract, free_form, proprios};
pub(crate) use value::FreeForm;
