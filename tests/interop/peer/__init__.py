"""A second implementation of the Chiral wire protocol, to hold the Rust one against."""
