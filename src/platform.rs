//! The only door to the operating system: clock, processes, atomic file writes, standard directories, signals, secrets,
//! and the control handle through which running work is paused, skipped and cancelled.

pub mod clock;
pub mod control;
pub mod directories;
pub mod files;
pub mod host;
pub mod process;
pub mod secret;
pub mod signals;
