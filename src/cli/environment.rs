//! What the environment of the process says, read once.
//!
//! The configuration wins over it; that order is kept in `session`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Variables that this version understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// `BBACKUP_OUTPUT=json`
    pub(super) json: bool,
    /// `BBACKUP_NO_INTERACTIVE=1`: no questions, no bars.
    pub(super) no_interactive: bool,
    /// `NO_COLOR`, whatever it says, unless it is empty.
    pub(super) no_color: bool,
    /// `RESTIC_REPOSITORY`
    pub(super) repository: Option<String>,
    /// `RESTIC_PASSWORD_FILE`
    pub(super) password_file: Option<PathBuf>,
    /// `RESTIC_PASSWORD_COMMAND`
    pub(super) password_command: Option<String>,
    /// Whether `RESTIC_PASSWORD` is set; its value is read only when it is needed.
    pub(super) password: bool,
    /// `CREDENTIALS_DIRECTORY`: the folder in which systemd gives a service its credentials.
    pub(super) credentials: Option<PathBuf>,
    /// `DOCKER_HOST`
    pub(super) docker_host: Option<String>,
    /// `DOCKER_TLS_VERIFY`, whatever it says, as for the Docker client.
    pub(super) docker_tls: bool,
    /// `DOCKER_CERT_PATH`
    pub(super) docker_certificates: Option<PathBuf>,
    /// `DOCKER_CONTEXT`
    pub(super) docker_context: Option<String>,
    /// `DOCKER_CONFIG`: the folder that the Docker client has its own files in.
    pub(super) docker_folder: Option<PathBuf>,
}

/// Name of the variable that has the password itself.
pub(super) const PASSWORD: &str = "RESTIC_PASSWORD";

/// Name of the credential that has the password of a repository; with `.NAME` behind it, of that one of the configuration.
pub(super) const CREDENTIAL: &str = "bbackup.password";

impl Environment {
    /// The environment of this process.
    pub(super) fn of_this_process() -> Self {
        Self::read(|name| std::env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // An empty variable is how people take one away for one command.
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let on = |name: &str| text(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no"));
        Self {
            json: text("BBACKUP_OUTPUT").is_some_and(|value| value.eq_ignore_ascii_case("json")),
            no_interactive: on("BBACKUP_NO_INTERACTIVE"),
            no_color: set("NO_COLOR").is_some(),
            repository: text("RESTIC_REPOSITORY"),
            password_file: set("RESTIC_PASSWORD_FILE").map(PathBuf::from),
            password_command: text("RESTIC_PASSWORD_COMMAND"),
            password: set(PASSWORD).is_some(),
            credentials: set("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            docker_host: text("DOCKER_HOST"),
            docker_tls: set("DOCKER_TLS_VERIFY").is_some(),
            docker_certificates: set("DOCKER_CERT_PATH").map(PathBuf::from),
            docker_context: text("DOCKER_CONTEXT"),
            docker_folder: set("DOCKER_CONFIG").map(PathBuf::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_and_zeros_do_not_count() {
        let environment = Environment::read(|name| match name {
            "BBACKUP_OUTPUT" => Some("JSON".into()),
            "BBACKUP_NO_INTERACTIVE" => Some("0".into()),
            "RESTIC_REPOSITORY" | "NO_COLOR" | "DOCKER_TLS_VERIFY" | "DOCKER_CONTEXT" => Some("".into()),
            "RESTIC_PASSWORD_FILE" => Some("/k".into()),
            _ => None,
        });
        let expected = Environment { json: true, password_file: Some("/k".into()), ..Environment::default() };
        assert_eq!(environment, expected);
    }
}
