//! Plain data that every floor shares, and the three traits through which floors meet: [`Source`](entry::Source),
//! [`Sink`](entry::Sink) and [`Progress`](progress::Progress).
//!
//! No I/O, no clock, nothing that could fail for a reason outside its own arguments.

pub mod application;
pub mod compression;
pub mod entry;
pub mod hook;
pub mod outcome;
pub mod pattern;
pub mod progress;
pub mod report;
pub mod retention;
pub mod size;
pub mod text;
