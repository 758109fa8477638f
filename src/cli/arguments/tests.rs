//! What is promised of every command, asked of clap itself: a command that is new cannot be forgotten.

use clap::CommandFactory as _;

use super::*;

/// Commands that change no repository. Whoever adds one that does needs `--dry-run` instead.
const ONLY_LOOK: &[&str] = &[
    "snapshots",
    "ls",
    "dump",
    "diff",
    "find",
    "check",
    "stats",
    "key list",
    "list-containers",
    "list-volumes",
    "list-networks",
    "list-backup-sets",
    "coverage",
    "config check",
    "config show",
    "completions",
];

/// Commands that change something else than a repository, each with the reason why there is nothing to plan.
const CHANGE_OTHER_THINGS: &[&str] = &[
    // What is mounted is there until the command ends, and nothing can be written to it.
    "mount",
    "umount",
    // It starts what a dead run has left down, as every other command does before its own work.
    "recover",
    // They write one file of the user's choice, and none that is there without `--force`.
    "init-config",
    "config import",
];

fn leaves<'a>(command: &'a clap::Command, prefix: &str, found: &mut Vec<(String, &'a clap::Command)>) {
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let name = if prefix.is_empty() { one.get_name().to_owned() } else { format!("{prefix} {}", one.get_name()) };
        if one.has_subcommands() { leaves(one, &name, found) } else { found.push((name, one)) }
    }
}

#[test]
fn every_command_that_changes_a_repository_has_a_dry_run_and_json() {
    let mut all = Arguments::command();
    all.build();
    let mut found = Vec::new();
    leaves(&all, "", &mut found);
    assert!(found.len() > 30, "{found:?}");
    for (name, command) in &found {
        let flag = |long: &str| command.get_arguments().find(|argument| argument.get_long() == Some(long));
        assert!(flag("json").is_some(), "`{name}` has no --json");
        let dry_run = flag("dry-run");
        let exempt = ONLY_LOOK.contains(&&**name) || CHANGE_OTHER_THINGS.contains(&&**name);
        assert!(dry_run.is_some() != exempt, "`{name}` has {} --dry-run", if exempt { "a needless" } else { "no" });
        if let Some(dry_run) = dry_run {
            assert_eq!(dry_run.get_short(), Some('n'), "`{name}`");
        }
    }
    for name in ONLY_LOOK.iter().chain(CHANGE_OTHER_THINGS) {
        assert!(found.iter().any(|(own, _)| own == name), "there is no `{name}`");
    }
}
