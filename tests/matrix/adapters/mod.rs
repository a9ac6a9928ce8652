//! The adapters. For another one: a file here, and a line in the grid of `main.rs`.

mod driven;
pub(crate) mod tokio;
