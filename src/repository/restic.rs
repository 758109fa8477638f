//! The engine for restic's repository format (restic's design document, `doc/design.rst`), version 2 written, 1 and 2 read.

pub mod archive;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod copy;
pub mod crypto;
pub mod diff;
pub mod facade;
pub mod file;
pub mod find;
pub mod footprint;
pub mod forget;
pub mod id;
pub mod index;
pub mod key;
pub mod keyring;
pub mod list;
pub mod lock;
pub mod mount;
pub mod pack;
pub mod prune;
pub mod reader;
pub mod repair;
pub mod restore;
pub mod retag;
pub mod rewrite;
pub mod state;
pub mod stats;
pub mod tree;
pub mod writer;

#[cfg(test)]
mod tests;
