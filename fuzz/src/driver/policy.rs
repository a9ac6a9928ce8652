//! What a client is seen to say.

use chiral_proto::wire::{ClientMessage, Frame, Limits};

use super::peer::Written;
use crate::machines::{Kind, number_of};

/// What a client has written to one robot.
#[derive(Debug, Default)]
pub struct Said {
    /// Its requests, in their order.
    pub requests: Vec<Kind>,
    /// The numbers of its actions, in their order; those of steps are not among them.
    pub actions: Vec<u32>,
}

impl Said {
    /// # Panics
    /// When it is not what a client says: a finding.
    pub fn read(written: &Written) -> Self {
        let limits = Limits::default();
        let mut said = Self::default();
        for message in &written.messages {
            let frame = Frame::parse(message.clone().into(), &limits).expect("a frame");
            match ClientMessage::decode(&frame, &limits).expect("a message") {
                ClientMessage::Metadata => said.requests.push(Kind::Metadata),
                ClientMessage::Reset => said.requests.push(Kind::Reset),
                ClientMessage::Observe => said.requests.push(Kind::Observe),
                ClientMessage::Step(_) => said.requests.push(Kind::Step),
                ClientMessage::ApplyAction(action) => said.actions.push(number_of(&action)),
                other => panic!("a {} is not known here", other.message_type()),
            }
        }
        said
    }
}
