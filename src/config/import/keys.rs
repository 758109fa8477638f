//! The keys of the Python bbackup that have no place here, and why.

/// The sections of its file.
pub(super) const SECTIONS: [&str; 9] =
    ["backup", "remotes", "retention", "incremental", "logging", "encryption", "filesystem", "docker", "rclone"];

pub(super) const EMPTY: &str = "there is nothing in it";
pub(super) const UNKNOWN: &str = "the key is not known";

/// Why a value is dropped.
pub(super) fn reason(key: &[&str], value: Option<&str>) -> String {
    let value = value.unwrap_or("nothing");
    match key {
        ["backup", "local_staging"] => "nothing is staged: data goes straight into the repository".to_owned(),
        ["backup", "solid_archive"] => "a repository is no archive: what is new is added to it".to_owned(),
        ["backup", "compression", "level" | "format"] => {
            format!("`{value}` is of gzip, bzip2 or xz; here zstd is used: off, fastest, auto, better, max or a level from 1 to 22")
        }
        ["retention", "max_storage_gb"] => {
            format!("it was one limit for all backups; here each set can have one: `retention.max_size: {value}GiB`")
        }
        ["retention", ..] => "nothing is removed because a disk becomes full: `forget` goes by each set's `retention`".to_owned(),
        ["incremental", ..] => "every backup stores only what is new".to_owned(),
        ["logging", ..] => "a log file is named when bbackup is run: --log-file FILE; it only grows, so let logrotate have it".to_owned(),
        ["encryption", "enabled" | "method" | "encrypt_volumes" | "encrypt_configs" | "encrypt_networks"] => {
            "a repository is always encrypted, all of it".to_owned()
        }
        ["encryption", ..] => "a repository has a password of its own: password_file, password_command or password_env".to_owned(),
        ["remotes", _, "compression"] => "compression is the repository's".to_owned(),
        ["remotes", ..] => "it is not needed for a folder".to_owned(),
        ["rclone", ..] => "rclone is not used in this version".to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}
