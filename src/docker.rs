//! Everything that is said to a Docker Engine: reaching it, finding out what is on it, reading from it and writing to it.
//!
//! What a backup or restore does with this is decided in `jobs`; how volumes become trees of files in `sources` and `targets`.

pub mod address;
pub mod archive;
pub mod connect;
pub mod context;
pub mod create;
pub mod discover;
pub mod error;
pub mod exec;
pub mod helper;
mod inspect;
pub mod journal;
pub mod labels;
pub mod layer;
pub mod logs;
pub mod make;
pub mod mountpoint;
pub mod normalise;
pub mod ourselves;
pub mod permissions;
pub mod quiesce;
pub mod swarm;
pub mod wire;

pub use connect::{Engine, EngineOptions};
pub use discover::{Discovery, discover};
pub use error::DockerError;
