//! The flags of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Commands of `key`.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// List the keys; `*` marks the one in use
    List,
    /// Add a key for another password
    Add(NewKey),
    /// Remove a key; never the one in use
    Remove(RemoveKey),
    /// Change the password in use
    Passwd(NewKey),
}

/// Which key goes.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct RemoveKey {
    /// Its id or the beginning of it
    #[arg(value_name = "ID")]
    pub(in crate::cli) id: String,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
}

/// A key that is made.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct NewKey {
    #[command(flatten)]
    pub(in crate::cli) password: NewPassword,
    /// Only say what would be done; the new password is looked up all the same
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
}

/// Where the new password comes from; without any of these it is asked for twice.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(in crate::cli) struct NewPassword {
    /// File with the new password
    #[arg(id = "new_password_file", long = "new-password-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Command that writes the new password
    #[arg(id = "new_password_command", long = "new-password-command", value_name = "COMMAND")]
    pub(in crate::cli) command: Option<String>,
    /// Environment variable with the new password
    #[arg(id = "new_password_env", long = "new-password-env", value_name = "NAME")]
    pub(in crate::cli) env: Option<String>,
}
