//! What the tests stand on: a home of their own, the real restic, a private Docker Engine, trees to back up and the comparison of two trees.
//!
//! No test of bbackup is here.

pub(crate) mod engine;
pub(crate) mod faults;
pub(crate) mod home;
pub(crate) mod manifest;
pub(crate) mod mounted;
pub(crate) mod oracle;
pub(crate) mod parts;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod reach;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod seed;
pub(crate) mod shop;
pub(crate) mod tree;
pub(crate) mod turns;
