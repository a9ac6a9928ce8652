//! The robot behind `chiral demo`.
//!
//! A simulated seven-joint arm stands on a table; somewhere near it is an orange ball. Three
//! cameras really render the scene, in colour and in metric depth, and a [`policy`] finds the ball
//! *from those pixels alone*, back-projects it through K and T, and sends chunks of joint targets
//! until the tip of the hand is at the ball. If that works over a wire, everything arrived right:
//! images, depth, matrices, proprioception, actions and their timing.
//!
//! Everything here is plain data and arithmetic: no I/O, no clock, no threads. Time advances only
//! through [`world::World::step`], and one seed always gives one course of events.
//!
//! Units are metres, radians and seconds. The world's origin is the middle of the arm's foot on
//! the table top; x points away from the base across the table, z up.

#![forbid(unsafe_code)]

pub mod arm;
pub mod camera;
pub mod episode;
pub mod policy;
pub mod render;
pub mod rig;
pub mod scene;
pub mod sheet;
pub mod solid;
pub mod world;
