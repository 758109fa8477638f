//! bbackup backs up a Docker host and brings it back: containers, volumes, networks, compose files and host paths,
//! in encrypted and deduplicated repositories that stock restic can read.
//!
//! The modules are floors: each imports only from the ones below it (`docs/architecture.md` is the plan,
//! `tests/architecture.rs` checks it). From the ground up: [`model`], [`platform`], [`config`],
//! [`docker`] and [`repository`], [`sources`] and [`targets`], [`jobs`], [`service`], [`cli`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod cli;
pub mod config;
pub mod docker;
pub mod jobs;
pub mod model;
pub mod platform;
pub mod repository;
pub mod service;
pub mod sources;
pub mod targets;
