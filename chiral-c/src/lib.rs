//! chiral for C and C++: what `include/chiral.h` declares. C++ programs include
//! `chiral/client.hpp` or `chiral/server.hpp`, which are made of it.
//!
//! The header is generated from this crate by cbindgen; a test compares the two. The comments here
//! are therefore written for readers of C.
//!
//! Memory: what a function gives out as a handle is a `Box` that is turned into a pointer, and is
//! dropped by the function whose name ends in `_free`. What a struct points to belongs to the handle
//! that it came from.
#![warn(clippy::undocumented_unsafe_blocks)]
#![deny(unsafe_op_in_unsafe_fn)]
// The names are those of the C header.
#![allow(non_camel_case_types)]
// What callers have to see to is the same for all functions, and stands at the top of the header.
#![allow(clippy::missing_safety_doc)]
// A caller in C passes pointers and integers by value, and more of them.
#![allow(clippy::too_many_arguments, clippy::struct_excessive_bools)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actions;
mod array;
mod client;
mod commands;
mod connection;
mod contract;
mod error;
mod log;
mod map;
mod memory;
mod observation;
mod plan;
mod robot;
mod security;
mod sensors;
mod server;
mod sized;
mod stats;

pub use actions::*;
pub use array::*;
pub use client::*;
pub use commands::*;
pub use connection::*;
pub use contract::*;
pub use error::*;
pub use log::*;
pub use map::*;
pub use observation::*;
pub use plan::*;
pub use robot::*;
pub use security::*;
pub use sensors::*;
pub use server::*;
pub use stats::*;
