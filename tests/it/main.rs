//! The integration tests: one binary, run against the real program, the real restic and a private Docker Engine.
//!
//! What a single module promises is tested beside its code.
