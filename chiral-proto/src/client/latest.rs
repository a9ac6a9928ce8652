use std::sync::Arc;
use std::time::Instant;

use crate::Observation;

/// The newest observation that a client has.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Latest {
    /// Its number: the client's first observation is 1. Who has seen one tells by it whether
    /// another has come since.
    pub number: u64,
    /// When it arrived.
    pub arrived: Instant,
    /// The observation.
    pub observation: Arc<Observation>,
}
