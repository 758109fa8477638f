//! The engine for restic's repository format (restic's design document, `doc/design.rst`), version 2 written, 1 and 2 read.

pub mod archive;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod crypto;
pub mod facade;
pub mod file;
pub mod id;
pub mod index;
pub mod key;
pub mod list;
pub mod lock;
pub mod pack;
pub mod reader;
pub mod restore;
pub mod state;
pub mod stats;
pub mod tree;
