//! The only door to the operating system: clock, processes, atomic file writes, standard directories, signals, secrets,
//! and the control handle through which running work is paused, skipped and cancelled.

#![expect(clippy::disallowed_methods, reason = "this is the door: nobody else calls the operating system so")]

pub mod clock;
pub mod container;
pub mod control;
pub mod directories;
pub mod environment;
pub mod files;
pub mod host;
pub mod identity;
pub mod journal_file;
pub mod memory;
pub mod mounts;
pub mod pipe;
pub mod process;
pub mod secret;
pub mod signals;
