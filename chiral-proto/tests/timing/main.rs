//! The timing extension: which action was the last when an observation was taken, and where the
//! time went, exact on a clock that the tests turn by hand.

#[path = "../support/mod.rs"]
mod support;

mod applied;
mod freshness;
mod golden;
mod hostile;
mod link;
mod split;
