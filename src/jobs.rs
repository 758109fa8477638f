//! The kinds of work: backup, restore, and the smaller ones around a repository; `report` is the one place where an error
//! of the floors below gets its sentence.
//!
//! Faces (`cli`) hand over a [`request`] and get [`results`]; nothing here prints, asks or exits.

pub mod backup;
pub mod copy;
pub mod coverage;
pub mod engine;
pub mod error;
pub mod find;
pub mod forget;
pub mod open;
pub mod report;
pub mod request;
pub mod restore;
pub mod results;
pub mod rewrite;
pub mod select;
pub mod snapshots;
mod stored;
pub mod tag;
