//! Where snapshots live: the contract that every engine keeps, the engine for restic's format, and the backends.

pub mod backend;
pub mod contract;
pub mod restic;
