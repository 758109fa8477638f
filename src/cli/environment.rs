//! What the environment of the process says, read once.
//!
//! The configuration wins over it; that order is kept in `session`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::text::safe;
use crate::jobs::error::JobError;
use crate::model::compression::Compression;
use crate::model::size::ByteSize;
use crate::platform::files;

/// Variables that this version understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// `BBACKUP_CONFIG`
    pub(super) config: Option<PathBuf>,
    /// `BBACKUP_OUTPUT=json`
    pub(super) json: bool,
    /// `BBACKUP_NO_INTERACTIVE=1`: no questions, no bars.
    pub(super) no_interactive: bool,
    /// `NO_COLOR`, whatever it says, unless it is empty.
    pub(super) no_color: bool,
    /// `RESTIC_REPOSITORY`
    pub(super) repository: Option<String>,
    /// `RESTIC_REPOSITORY_FILE`: the file that says where the repository is.
    pub(super) repository_file: Option<PathBuf>,
    /// `RESTIC_COMPRESSION`
    pub(super) compression: Option<Compression>,
    /// `RESTIC_PACK_SIZE`, in MiB there; 0 means the default.
    pub(super) pack_size: Option<ByteSize>,
    /// `RESTIC_HOST`: this host's name, for new snapshots and to look for old ones.
    pub(super) host: Option<String>,
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
    /// Variables whose values mean nothing, each as a sentence.
    wrong: Vec<String>,
}

/// Name of the variable that has the password itself.
pub(super) const PASSWORD: &str = "RESTIC_PASSWORD";

/// Name of the credential that has the password of a repository; with `.NAME` behind it, of that one of the configuration.
pub(super) const CREDENTIAL: &str = "bbackup.password";

/// No location is longer; what is longer is the wrong file.
const LOCATION_LIMIT: u64 = 64 << 10;

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
        let mut wrong = Vec::new();
        let mut bad = |name: &str, value: &str, choice: &str| wrong.push(format!("{name} is `{}`: {choice}", safe(value)));
        let output = text("BBACKUP_OUTPUT").map(|value| value.to_ascii_lowercase());
        if let Some(other) = output.as_deref().filter(|value| !matches!(*value, "json" | "text" | "plain")) {
            bad("BBACKUP_OUTPUT", other, "write json, or text");
        }
        let compression = text("RESTIC_COMPRESSION").and_then(|value| {
            let named = value.parse().ok().filter(|compression| !matches!(compression, Compression::Level(_)));
            if named.is_none() {
                bad("RESTIC_COMPRESSION", &value, "write auto, off, fastest, better or max");
            }
            named
        });
        let pack_size = text("RESTIC_PACK_SIZE").filter(|value| value != "0").and_then(|value| {
            let size = value.parse().ok().filter(|mebibytes| (4..=128).contains(mebibytes)).map(|mebibytes: u64| ByteSize(mebibytes << 20));
            if size.is_none() {
                bad("RESTIC_PACK_SIZE", &value, "write a number of MiB from 4 to 128");
            }
            size
        });
        Self {
            config: set("BBACKUP_CONFIG").map(PathBuf::from),
            json: output.as_deref() == Some("json"),
            no_interactive: on("BBACKUP_NO_INTERACTIVE"),
            no_color: set("NO_COLOR").is_some(),
            repository: text("RESTIC_REPOSITORY"),
            repository_file: set("RESTIC_REPOSITORY_FILE").map(PathBuf::from),
            compression,
            pack_size,
            host: text("RESTIC_HOST"),
            password_file: set("RESTIC_PASSWORD_FILE").map(PathBuf::from),
            password_command: text("RESTIC_PASSWORD_COMMAND"),
            password: set(PASSWORD).is_some(),
            credentials: set("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            docker_host: text("DOCKER_HOST"),
            docker_tls: set("DOCKER_TLS_VERIFY").is_some(),
            docker_certificates: set("DOCKER_CERT_PATH").map(PathBuf::from),
            docker_context: text("DOCKER_CONTEXT"),
            docker_folder: set("DOCKER_CONFIG").map(PathBuf::from),
            wrong,
        }
    }

    /// Where the repository is, by the one or the other variable of restic.
    pub(super) fn repository(&self) -> Result<Option<String>, JobError> {
        let Some(path) = &self.repository_file else { return Ok(self.repository.clone()) };
        if self.repository.is_some() {
            let message = "RESTIC_REPOSITORY and RESTIC_REPOSITORY_FILE both say where the repository is";
            return Err(JobError::request("environment_variable", message, "Set only one of them."));
        }
        let own = |source| JobError::Own { action: format!("read {} (RESTIC_REPOSITORY_FILE)", path.display()), source };
        let text = files::read_text(path, LOCATION_LIMIT).map_err(own)?;
        match text.trim() {
            "" => {
                let message = format!("{} (RESTIC_REPOSITORY_FILE) is empty", safe(&path.to_string_lossy()));
                Err(JobError::request("environment_variable", message, "Write into it where the repository is."))
            }
            location => Ok(Some(location.to_owned())),
        }
    }

    /// Refuses variables whose values mean nothing: nobody sets one to have it ignored.
    pub(super) fn check(&self) -> Result<(), JobError> {
        match self.wrong.as_slice() {
            [] => Ok(()),
            wrong => Err(JobError::request("environment_variable", wrong.join("; "), "")),
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
            "BBACKUP_NO_INTERACTIVE" | "RESTIC_PACK_SIZE" => Some("0".into()),
            "BBACKUP_CONFIG"
            | "RESTIC_REPOSITORY_FILE"
            | "RESTIC_COMPRESSION"
            | "RESTIC_HOST"
            | "RESTIC_REPOSITORY"
            | "NO_COLOR"
            | "DOCKER_TLS_VERIFY"
            | "DOCKER_CONTEXT" => Some("".into()),
            "RESTIC_PASSWORD_FILE" => Some("/k".into()),
            _ => None,
        });
        let expected = Environment { json: true, password_file: Some("/k".into()), ..Environment::default() };
        assert_eq!(environment, expected);
        assert!(environment.check().is_ok());
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        let of = |wanted: &'static str, value: &'static str| Environment::read(|name| (name == wanted).then(|| value.into()));
        assert_eq!(of("RESTIC_PACK_SIZE", "64").pack_size, Some(ByteSize(64 << 20)));
        assert_eq!(of("RESTIC_COMPRESSION", "max").compression, Some(Compression::Max));
        for (name, value) in [
            ("BBACKUP_OUTPUT", "xml"),
            ("RESTIC_COMPRESSION", "19"),
            ("RESTIC_COMPRESSION", "hard"),
            ("RESTIC_PACK_SIZE", "3"),
            ("RESTIC_PACK_SIZE", "129"),
            ("RESTIC_PACK_SIZE", "16M"),
        ] {
            let error = of(name, value).check().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(error.contains(name) && error.contains(value), "{name}={value}: {error}");
        }
    }
}
