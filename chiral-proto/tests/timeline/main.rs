//! The action timeline, through the policy's machine, on a clock that the tests turn by hand.

mod known_bugs;
mod merges;
mod model;
mod motion;
mod placing;
mod reference;
mod ticks;
mod world;
