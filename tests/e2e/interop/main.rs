//! Our robots and policies against the Python peer, which shares no code with them: in both styles,
//! every message, compared value by value and digest by digest with what the other side saw.
//!
//! `CHIRAL_PYTHON` names a Python with the packages of `interop/requirements.txt`; default:
//! `python3`.

mod peer;
mod policies;
mod report;
mod robots;
mod witness;
