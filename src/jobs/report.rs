//! The one place where an error of the floors below becomes a [`Report`]: whose business it is, one sentence, what to do.
//!
//! Faces show reports and exit with their code; none of them words an error itself.

use crate::config::load::ConfigError;
use crate::config::password::PasswordError;
use crate::config::tree::Problem;
use crate::docker::DockerError;
use crate::docker::error::SshFault;
use crate::model::report::{Blame, Report};
use crate::model::text::without_passwords;
use crate::platform::directories::NoHome;
use crate::repository::contract::RepositoryError;
use crate::sources::SourceError;

use super::error::JobError;
use super::select::SelectError;

/// The report of a job that was not done.
pub fn of(error: &JobError) -> Report {
    match error {
        JobError::Repository(error) => repository(error),
        JobError::Docker(error) => docker(error),
        JobError::Config(error) => config(error),
        JobError::Password(error) => password(error),
        JobError::Select(error) => select(error),
        JobError::Directories(error) => no_home(error),
        JobError::NoPassword { .. } => Report::new(Blame::User, "no_password", sentence(error))
            .hint("Give it with --password-file, --password-command, RESTIC_PASSWORD, or in the configuration."),
        JobError::KeyLost { location, key } => {
            let message = format!("The repository at {location} is there, but its key {} is gone.", key.display());
            Report::new(Blame::Repository, "key_missing", message)
                .hint("Put your copy of the key back; without it nobody can read the repository.")
                .hint("If you changed the password, give the new one with --password-file.")
        }
        JobError::Request { code, message, hint } => {
            let report = Report::new(Blame::User, code, full(message));
            if hint.is_empty() { report } else { report.hint(hint) }
        }
        JobError::Source(error) => source(error),
        JobError::Target(error) => with_cause(Report::new(Blame::User, "restore", sentence(error)), error),
        JobError::Plan(error) => Report::new(Blame::User, "nothing_chosen", sentence(error))
            .hint("`bbackup list-containers` and `bbackup list-volumes` show what there is."),
        JobError::Document { .. } => with_cause(Report::new(Blame::Repository, "document", sentence(error)), error),
        JobError::Own { source, .. } => Report::new(Blame::Environment, io_code(source), sentence(error)).caused_by(source),
        JobError::Cancelled => cancelled(),
        JobError::Internal(_) => internal(error),
    }
}

fn internal(error: &dyn std::error::Error) -> Report {
    Report::new(Blame::Internal, "internal", sentence(error)).hint("This is a defect of bbackup: please report it.")
}

fn cancelled() -> Report {
    Report::new(Blame::User, "cancelled", "It was cancelled.")
}

/// An error's own text as a sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    full(&error.to_string())
}

fn full(text: &str) -> String {
    let mut text = text.to_owned();
    // A path or name at the start keeps its spelling.
    if text.split_whitespace().next().is_some_and(|word| word.chars().all(char::is_alphabetic)) {
        text = text.chars().next().into_iter().flat_map(char::to_uppercase).chain(text.chars().skip(1)).collect();
    }
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

fn with_cause(report: Report, error: &dyn std::error::Error) -> Report {
    match error.source() {
        Some(cause) => report.caused_by(cause),
        None => report,
    }
}

const FIND_DAMAGE: &str = "`bbackup check --read-data` finds everything that is damaged.";
const REPAIR: &str = "`bbackup repair index`, then `bbackup repair snapshots`, put right what can be put right.";

fn repository(error: &RepositoryError) -> Report {
    use RepositoryError as E;
    let repository = |code, message: String| Report::new(Blame::Repository, code, message);
    let report = match error {
        E::Missing { location } => repository("repository_missing", format!("There is no repository at {location}."))
            .hint("If it should be there: is the disk with it mounted?")
            .hint("`bbackup init` makes a new one."),
        E::Exists { location } => {
            Report::new(Blame::User, "repository_exists", format!("There is a repository at {location} already; it was left as it is."))
        }
        E::UnknownVersion { .. } => repository("repository_version", sentence(error)).hint("A newer bbackup may know it."),
        E::WrongPassword { location, unreadable } => wrong_password(location, unreadable),
        E::TooManyKeys { .. } => {
            repository("wrong_password", sentence(error)).hint("`bbackup key remove` takes away those that nobody needs.")
        }
        E::Locked { location, pid, host, since, exclusive } => {
            let alone = if *exclusive { ", which needs it alone" } else { "" };
            let message = format!("The repository at {location} is locked by PID {pid} on {host} since {since}{alone}.");
            repository("repository_locked", message)
                .hint("`--retry-lock 5m` waits for it.")
                .hint("If that process is gone: `bbackup unlock` removes what it left, or says from when on its lock counts for nothing; `--remove-all` waits for nothing.")
        }
        E::LockLost { .. } => repository("lock_lost", sentence(error)).hint("Nothing is damaged; run it again."),
        E::ForeignFormat { format, .. } => repository("repository_format", sentence(error))
            .hint(format!("{format} repositories are not in this version: use the program that made it, or name another folder.")),
        E::FolderMissing { location, folder } => folder_missing(sentence(error), location, folder),
        E::NoKeys { .. } => repository("repository_damaged", sentence(error)).hint(KEYS_BACK),
        E::KeysDamaged { problems, .. } => {
            let mut report = repository("repository_damaged", sentence(error)).hint(KEYS_BACK);
            report.source.clone_from(problems);
            report
        }
        E::Damaged { file, .. } => {
            let kind = file.split(' ').next();
            let code = if kind == Some("lock") { "repository_locked" } else { "repository_damaged" };
            let report = repository(code, sentence(error));
            match kind {
                Some("key" | "config") => report.hint("Put back this file from a copy of the repository: no other file can stand for it."),
                Some("index") => report.hint("`bbackup repair index` makes it anew from the packs."),
                Some("snapshot") => report.hint("`bbackup repair snapshots --forget` removes what cannot be read of a snapshot."),
                Some("lock") => report
                    .hint("If nobody else is at work: `bbackup unlock --remove-all`.")
                    .hint("Half an hour after it was written it counts for nothing, and goes by itself."),
                _ => report.hint(FIND_DAMAGE),
            }
        }
        E::BlobMissing { .. } => repository("repository_damaged", sentence(error)).hint(FIND_DAMAGE).hint(REPAIR),
        E::PackMissing { .. } => repository("repository_damaged", sentence(error))
            .hint("Put it back from a copy of the repository, if there is one.")
            .hint(REPAIR),
        E::Refused { problems, .. } => {
            let mut report = repository("repository_incomplete", sentence(error))
                .hint("Nothing was changed. `bbackup check` names what is damaged; `bbackup repair index`, then `bbackup repair snapshots`, put right what can be put right.");
            report.source.clone_from(problems);
            report
        }
        E::WouldEmpty { .. } => {
            Report::new(Blame::User, "would_remove_all", sentence(error)).hint("If that is meant: --unsafe-allow-remove-all.")
        }
        E::NoSnapshot { .. } => Report::new(Blame::User, "no_snapshot", sentence(error)).hint(SEE_SNAPSHOTS),
        E::AmbiguousSnapshot { candidates, .. } => {
            Report::new(Blame::User, "ambiguous_snapshot", sentence(error)).hint(write_more(candidates.iter().map(|id| &id.0)))
        }
        E::NoKey { .. } => Report::new(Blame::User, "no_key", sentence(error)).hint("`bbackup key list` lists them."),
        E::AmbiguousKey { candidates, .. } => {
            Report::new(Blame::User, "ambiguous_key", sentence(error)).hint(write_more(candidates.iter()))
        }
        E::KeyInUse { .. } => Report::new(Blame::User, "key_in_use", sentence(error))
            .hint("Open the repository with another password to remove it, or change the password with `bbackup key passwd`."),
        E::KeysFull { .. } => {
            Report::new(Blame::User, "too_many_keys", sentence(error)).hint("`bbackup key remove` takes away those that nobody needs.")
        }
        E::NoPath { snapshot, .. } => {
            Report::new(Blame::User, "no_path", sentence(error)).hint(format!("`bbackup ls {}` lists what is in it.", snapshot.short()))
        }
        E::WrongKind { found, .. } => {
            let report = Report::new(Blame::User, "wrong_kind", sentence(error));
            if *found == "folder" { report.hint("--tar writes a folder as a tar archive.") } else { report }
        }
        E::Storage { action: "write", source, .. } if is_full(source) => Report::new(Blame::Environment, io_code(source), sentence(error))
            .hint("Make room for some megabytes where the repository is: then `bbackup forget` and `bbackup prune` free more. They, too, write before they remove."),
        E::NoRoomAside { source, .. } => Report::new(Blame::Environment, io_code(source), sentence(error))
            .hint("Make room there, or let XDG_CACHE_HOME name a folder on another disk."),
        E::Storage { action: "read" | "list" | "look at", .. } if error.is_denied() => {
            let message = sentence(error);
            Report::new(Blame::Environment, "no_permission", message).hint(DENIED)
        }
        E::Storage { source, .. } | E::Target { source, .. } => Report::new(Blame::Environment, io_code(source), sentence(error)),
        E::Mount { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => Report::new(Blame::Environment, "mount", sentence(error))
                .hint("The folder must be there, and so must /dev/fuse (`modprobe fuse`) and, for users other than root, fusermount3."),
            std::io::ErrorKind::NotConnected => Report::new(Blame::Environment, "mount", sentence(error))
                .hint("A mount whose process is gone is in the way: `bbackup umount` takes it away."),
            _ => Report::new(Blame::Environment, "mount", sentence(error)),
        },
        E::Source { .. } => Report::new(Blame::Environment, "source_lost", sentence(error)),
        E::Skipped => Report::new(Blame::User, "skipped", "It was skipped.".to_owned()),
        E::Cancelled => cancelled(),
        E::Corrupted { .. } => Report::new(Blame::Environment, "faulty_memory", sentence(error))
            .hint("Nothing wrong was written. Test this machine's memory before you trust it again."),
        E::Internal(_) => internal(error),
    };
    with_cause(report, error)
}

const KEYS_BACK: &str = "Put back its folder `keys` from a copy: without a key no password opens it.";

fn wrong_password(location: &str, unreadable: &[String]) -> Report {
    let message = format!("The password does not open the repository at {location}.");
    let mut report = Report::new(Blame::Repository, "wrong_password", message)
        .hint("Check --password-file, RESTIC_PASSWORD and RESTIC_PASSWORD_FILE, and the configuration (`bbackup config show`).");
    if !unreadable.is_empty() {
        report = report.hint("If it is the password of a key that cannot be read: put that file back from a copy of the repository.");
        report.source = unreadable.to_vec();
    }
    report
}

const DENIED: &str = "Run bbackup as the owner of the repository, or give this user the right to read it. Nothing says that it is damaged.";

const SEE_SNAPSHOTS: &str = "`bbackup snapshots` lists them.";

fn write_more<'a>(ids: impl Iterator<Item = &'a String>) -> String {
    let ids: Vec<&str> = ids.map(|id| id.get(..12).unwrap_or(id)).collect();
    let shown = ids.get(..5).unwrap_or(&ids).join(", ");
    if ids.len() > 5 { format!("Write more of it: {shown} and {} more.", ids.len() - 5) } else { format!("Write more of it: {shown}.") }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn io_code(error: &std::io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => "disk_full",
        std::io::ErrorKind::PermissionDenied => "no_permission",
        std::io::ErrorKind::ReadOnlyFilesystem => "read_only",
        _ => "storage",
    }
}

fn folder_missing(message: String, location: &str, folder: &str) -> Report {
    let report = Report::new(Blame::Repository, "repository_damaged", message)
        .hint("Nothing was changed. Put it back from where it was moved to, or from a copy of the repository.");
    match folder {
        "index" => report.hint("`bbackup repair index` makes it anew from the packs."),
        "snapshots" => report.hint(format!("Only if every snapshot was forgotten before it got lost: `mkdir {location}/snapshots`.")),
        _ => report,
    }
}

fn docker(error: &DockerError) -> Report {
    use DockerError as E;
    let environment = |code| Report::new(Blame::Environment, code, sentence(error));
    let where_it_is = "Where it listens is said by DOCKER_HOST, DOCKER_CONTEXT, or `docker` in the configuration.";
    let report = match error {
        E::Address { .. } => Report::new(Blame::Config, "docker_address", sentence(error))
            .hint("For example unix:///var/run/docker.sock, tcp://host:2376 or ssh://user@host."),
        E::NoContext { .. } | E::Context { .. } | E::ClientFile { .. } => Report::new(Blame::Config, "docker_context", sentence(error))
            .hint("`docker context ls` shows them; DOCKER_HOST goes before them."),
        E::TlsFile { .. } => Report::new(Blame::Config, "docker_tls", sentence(error))
            .hint("ca.pem, cert.pem and key.pem are looked for in DOCKER_CERT_PATH, `docker.cert_path` or ~/.docker."),
        E::Certificate { .. } => environment("docker_certificate")
            .hint("ca.pem must hold the authority that has signed it: DOCKER_CERT_PATH, `docker.cert_path` or ~/.docker."),
        E::ClientCertificate { .. } => environment("docker_certificate")
            .hint("cert.pem and key.pem must be of a client that it knows: DOCKER_CERT_PATH, `docker.cert_path` or ~/.docker."),
        E::NoTls { .. } => environment("docker_tls").hint("Without TLS: take DOCKER_TLS_VERIFY and `docker.tls_verify` away."),
        E::WantsTls { .. } => environment("docker_tls").hint("Set DOCKER_TLS_VERIFY=1, or `docker.tls_verify: true` in the configuration."),
        E::NoSsh { .. } => environment("no_ssh").hint("On Debian: `apt install openssh-client`."),
        E::Ssh { fault, .. } => environment("docker_ssh").hint(ssh_hint(*fault)),
        E::Unsupported { .. } => environment("docker_unsupported").hint(where_it_is),
        E::NoSocket { .. } | E::Refused { .. } | E::Unreachable { .. } => {
            environment("no_docker").hint(format!("Is Docker running? {where_it_is}"))
        }
        E::PermissionDenied { .. } => environment("docker_permission").hint("Run bbackup as root, or as a member of the group `docker`."),
        E::NotAnEngine { .. } => environment("not_docker"),
        E::TooOld { .. } | E::TooNew { .. } => environment("docker_version"),
        E::Denied { .. } => environment("docker_denied").hint(
            "The socket proxy or authorization plugin before the Engine must allow it: docs/docker-permissions.md has the whole list.",
        ),
        E::NotFound { .. } => Report::new(Blame::User, "docker_not_found", sentence(error)),
        E::Api { .. } | E::Malformed { .. } => environment("docker_answer"),
        E::Ending { .. } | E::Lost { .. } => environment("docker_lost").hint("Was Docker restarted? Run it again."),
        E::Stalled { .. } | E::Timeout { .. } => environment("docker_lost")
            .hint("Does Docker still answer (`docker ps`)? `docker.timeout` in the configuration gives it longer."),
    };
    with_cause(report, error)
}

fn ssh_hint(fault: SshFault) -> &'static str {
    match fault {
        SshFault::HostKey => {
            "Is it the right host? Then call it once with `ssh`, compare the key's fingerprint and accept it. bbackup never does that itself."
        }
        SshFault::HostKeyChanged => {
            "Either it was set up anew, or somebody is in between. Find out before you remove the old key with `ssh-keygen -R`."
        }
        SshFault::Login => {
            "bbackup answers no questions: it needs a key without a passphrase, or one in an agent. Try `ssh -o BatchMode=yes` with that host."
        }
        SshFault::NoClient => {
            "Install the Docker client over there (Debian: docker.io or docker-cli), where a shell without a terminal finds it."
        }
        SshFault::EnginePermission => "Over there, log in as root or as a member of the group `docker`.",
        SshFault::NoEngine => "Does Docker run over there? A path in the address names another socket: ssh://user@host/path/docker.sock.",
        SshFault::Unreachable | SshFault::Other => "Does `ssh` with that host work?",
    }
}

fn source(error: &SourceError) -> Report {
    use SourceError as E;
    let (blame, code) = match error {
        E::Missing { .. } => (Blame::User, "no_source"),
        E::Unreadable { source, .. } => (Blame::Environment, io_code(source)),
        E::Filter(_) => (Blame::User, "filter"),
        _ => (Blame::User, "source"),
    };
    let report = with_cause(Report::new(blame, code, sentence(error)), error);
    match error {
        E::Missing { .. } => report.hint("If it should be there: is what it is on mounted?"),
        _ => report,
    }
}

fn config(error: &ConfigError) -> Report {
    match error {
        ConfigError::Missing { .. } => {
            Report::new(Blame::Config, "config_missing", sentence(error)).hint("`bbackup init-config FILE` writes one to start from.")
        }
        ConfigError::Unreadable { source, .. } => Report::new(Blame::Config, "config_unreadable", sentence(error)).caused_by(source),
        ConfigError::Wrong { path, problems } => {
            let mut report = Report::new(Blame::Config, "config_wrong", sentence(error));
            // The form that editors know how to jump to.
            let place = |problem: &Problem| format!("{}:{}:{}: {}", path.display(), problem.at.line, problem.at.column, problem.message);
            report.source = problems.iter().map(place).map(|line| without_passwords(&line).into_owned()).collect();
            report
        }
    }
}

fn password(error: &PasswordError) -> Report {
    let code = match error {
        PasswordError::Empty { .. } => "password_empty",
        _ => "password_source",
    };
    with_cause(Report::new(Blame::Config, code, sentence(error)), error)
}

fn select(error: &SelectError) -> Report {
    use SelectError as E;
    let user = |code| Report::new(Blame::User, code, sentence(error));
    match error {
        E::Empty { narrowed: true } => user("no_snapshot").hint("Take --set, --host, --tag or --before away, or `bbackup snapshots`."),
        E::Empty { narrowed: false } => user("no_snapshot").hint("`bbackup backup` makes the first one."),
        E::NoneOfHost { others, .. } | E::SeveralHosts { others, .. } => {
            user("no_snapshot").hint(format!("There are snapshots of {}: add --host.", others.join(", ")))
        }
        E::Ambiguous { candidates, .. } => user("ambiguous_snapshot").hint(write_more(candidates.iter().map(|id| &id.0))),
        E::AmbiguousRun { candidates, .. } => user("ambiguous_snapshot").hint(format!("Write more of it: {}.", candidates.join(", "))),
        E::NotHeld { partial: Some(partial), .. } | E::OnlyPartial { newest: partial } => {
            user("only_partial").hint(format!("Name the partial snapshot itself to use it: {}.", partial.short()))
        }
        E::NotOne { .. } => user("not_one_snapshot").hint(SEE_SNAPSHOTS),
        _ => user("no_snapshot").hint(SEE_SNAPSHOTS),
    }
}

fn no_home(error: &NoHome) -> Report {
    Report::new(Blame::Environment, "no_home", sentence(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_what_kind_of_error_it_was() {
        let location = "/r".to_owned();
        let locked =
            RepositoryError::Locked { location: location.clone(), pid: 7, host: "h".into(), since: "noon".into(), exclusive: true };
        let cases: [(JobError, u8, &str); 9] = [
            (RepositoryError::Missing { location: location.clone() }.into(), 10, "repository_missing"),
            (locked.into(), 11, "repository_locked"),
            (RepositoryError::WrongPassword { location, unreadable: Vec::new() }.into(), 12, "wrong_password"),
            (ConfigError::Missing { path: "x".into() }.into(), 2, "config_missing"),
            (DockerError::NoSocket { path: "/s".into() }.into(), 3, "no_docker"),
            (SelectError::Empty { narrowed: false }.into(), 1, "no_snapshot"),
            (JobError::request("unknown_set", "there is no set `x`", ""), 1, "unknown_set"),
            (PasswordError::Environment { name: "P".into() }.into(), 2, "password_source"),
            (JobError::Internal("x".into()), 1, "internal"),
        ];
        for (error, exit_code, code) in cases {
            let report = of(&error);
            assert_eq!((report.exit_code(), report.code), (exit_code, code), "{error}");
            assert!(report.message.ends_with('.') && !report.message.starts_with(char::is_lowercase), "{}", report.message);
        }
    }

    #[test]
    fn causes_are_kept_apart_from_the_sentence() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = RepositoryError::Storage { action: "write", file: "pack ab".into(), source };
        let report = of(&error.into());
        assert_eq!((report.message.as_str(), report.code, report.exit_code()), ("Cannot write pack ab.", "disk_full", 3));
        assert_eq!(report.source, ["no storage space"]);
    }

    #[test]
    fn every_problem_of_a_configuration_is_there() {
        let at = crate::config::tree::Position { line: 3, column: 5 };
        let problem = |message: &str| Problem { at, message: message.to_owned() };
        let error = ConfigError::Wrong { path: "c.yaml".into(), problems: vec![problem("one"), problem("two")] };
        let report = of(&error.into());
        assert_eq!(report.message, "c.yaml has 2 problems.");
        assert_eq!(report.source, ["c.yaml:3:5: one", "c.yaml:3:5: two"]);
    }
}
