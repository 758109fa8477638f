//! Where snapshots live: the contract that every engine keeps, the engine for restic's format, the backends, and the
//! decision which snapshots stay.

pub mod backend;
pub mod contract;
pub mod restic;
pub mod retention;
