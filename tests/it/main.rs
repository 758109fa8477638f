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

// Copies of what is in a slow repository, kept on this machine.
mod cache;

// Random trees and histories through bbackup and restic in turn.
mod differential;

// Repositories that restic made, whole and damaged in many ways, and what is said of each.
mod fixtures;

// bbackup and restic over one repository at the same time.
mod together;

// Work that is paused, goes on, and is skipped.
mod controls;

// Death in the middle, full and read-only disks, signals, several at once.
mod crashes;

// Damaged repositories.
mod damage;

// What no backup set saves, and the configuration of the other program of this name.
mod coverage;

// Docker when things go wrong.
mod docker_faults;

// A whole host of many containers saved, wiped and brought back.
mod docker_host;

// Restores in the place of what is there.
mod docker_in_place;

// Restores that are killed or fail, and what is half of one and half of another content after them.
mod docker_half;

// What of an application is put back alone, in its place.
mod docker_alone;

// Restores beside backups, other restores and an Engine that restarts.
mod docker_beside;

// Bind mounts: files of the host that containers mount.
mod docker_binds;
// An Engine that maps user ids.
mod docker_userns;
// What is mounted inside of what is saved.
mod docker_choice;
mod docker_nested;
// What is no reason to warn.
mod docker_nightly;

// Images that no registry has, and containers' own layers.
mod docker_images;

// Several applications at once.
mod docker_parallel;

// Streams that files slip through, and the second look that finds it.
mod docker_compare;

// What stands in the way of a restore: Engines that are too old, full disks.
mod docker_preflight;

// What is asked of an Engine, and what is said when it is forbidden.
mod docker_permissions;

// Engines that are reached by TLS, by ssh, by the Docker client's contexts, and several in one configuration.
mod docker_reach;
// Containers kept still for a backup, by the real program: hooks, deaths at every step, Engines that restart, what it stands on.
mod docker_quiesce;

// Tasks of a real swarm: paused, or their service scaled to 0 and back, and what is done where that is not possible.
mod docker_swarm;

// Restores of more than one thing: beside the original under other names, whole runs of several applications, Engines that end in the middle.
mod docker_restores;

// A whole application saved, lost and brought back.
mod docker_roundtrip;

// What a loss of power must not take back.
mod durable;

// The engine without the command line: what restic thinks of it, and repositories made to do harm.
mod engine;

// Files of this machine: what is kept, read and left out, and files that change meanwhile.
mod files;

// Snapshots forgotten by rules and by name, beside the real restic.
mod forget;

// bbackup and the real restic over one repository.
mod interop;

// Passwords of a repository: added, changed, removed.
mod keys;

// Locks, as restic and bbackup keep them for and against each other.
mod locks;

// Prune and repair, before, beside and after the real restic.
mod prune;

// What the engine reads of repositories that restic has made: listing, dumping, streaming, restoring, checking, counting.
mod reading;

// Looking: what changed between snapshots, where a file is, how large everything is; compared with restic's own answers.
mod latest;
mod look;

// Every operation over a long history that both programs made.
mod many;

// Snapshots shown as folders.
mod mount;

// Snapshots made of snapshots: copied to another repository, and written anew without some files.
mod copies;

// Snapshots of parts of an application, and what is made of them.
mod docker_parts;

// What is read from an Engine, call by call: discovery, helpers, volumes by both ways, logs; not the commands.
mod docker_read;

// The writing half of Docker: containers made again, kept still and brought back, applications restored from their documents.
mod docker_write;

// Tags and pins of snapshots.
mod tags;

// Runs that nobody watches: credentials of a service, log files.
mod unattended;
