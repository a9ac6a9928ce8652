//! The action timeline, through the policy's machine, on a clock that the tests turn by hand.

#[path = "../support/mod.rs"]
mod support;

mod known_bugs;
mod merges;
mod model;
mod motion;
mod placing;
mod reference;
mod ticks;
mod world;
