//! The integration tests: one binary, run against the real program, the real restic and a private Docker Engine.
//!
//! What a single module promises is tested beside its code.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

// What the other modules stand on; its own tests are in `ground`.
mod support;

// The ground itself: the private Engine, the oracle and the comparison of trees, without bbackup.
mod ground;

// What is typed and what is said: first steps, wrong input, exit codes, JSON, configuration files.
mod command_line;

// Death in the middle, full and read-only disks, signals, several at once.
mod crashes;

// Damaged repositories.
mod damage;

// Docker when things go wrong.
mod docker_faults;

// A whole application saved, lost and brought back.
mod docker_roundtrip;

// The engine without the command line: what restic thinks of it, and repositories made to do harm.
mod engine;

// Files of this machine: what is kept, read and left out, and files that change meanwhile.
mod files;

// bbackup and the real restic over one repository.
mod interop;

// Locks, as restic and bbackup keep them for and against each other.
mod locks;

// What the engine reads of repositories that restic has made: listing, dumping, streaming, restoring, checking, counting.
mod reading;

// What is read from an Engine, call by call: discovery, helpers, volumes by both ways, logs; not the commands.
mod docker_read;

// The writing half of Docker: containers made again, kept still and brought back, applications restored from their documents.
mod docker_write;
