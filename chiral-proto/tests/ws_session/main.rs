//! The WebSocket session without sockets, on virtual time: by itself, byte by byte, and against
//! tungstenite.

mod closing;
mod differential;
mod exchange;
mod faults;
mod fragments;
mod handshake;
mod interop;
mod liveness;
mod splits;
mod support;
