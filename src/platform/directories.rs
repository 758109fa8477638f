//! Where bbackup's own files live on this machine: configuration, data, state and cache folders, and the search order of
//! the configuration file.
//!
//! It makes no folder and reads no file; whoever writes there makes the folder first (`platform::files`).

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const NAME: &str = "bbackup";

/// The user has no home and no `XDG_*` variable says where to go instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot tell where {what} belongs: HOME is not set to an absolute path, and {variable} neither")]
pub struct NoHome {
    /// What was to be found.
    pub what: &'static str,
    /// The variable that would say it.
    pub variable: &'static str,
}

impl NoHome {
    /// Never: the environment of a process does not change by itself.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// The folders of bbackup, all absolute. None of them needs to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Configuration and the generated key: `$XDG_CONFIG_HOME/bbackup`; root: `/etc/bbackup`.
    pub config: PathBuf,
    /// The embedded default repository: `$XDG_DATA_HOME/bbackup`; root: `/var/lib/bbackup`.
    pub data: PathBuf,
    /// Journals of stopped containers: `$XDG_STATE_HOME/bbackup`; root: `/var/lib/bbackup/state`.
    pub state: PathBuf,
    /// What can be made again: `$XDG_CACHE_HOME/bbackup`; root: `/var/cache/bbackup`.
    pub cache: PathBuf,
    /// The user's home, where there is one.
    pub home: Option<PathBuf>,
}

impl Directories {
    /// The folders of the user that runs this process.
    ///
    /// # Errors
    /// A user without a home, and without the `XDG_*` variables in its place.
    pub fn of_this_user() -> Result<Self, NoHome> {
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
        // Below a relative one each working folder would have a repository and journals of its own.
        let home = home.filter(|home| home.is_absolute());
        Self::resolve(rustix::process::geteuid().is_root(), home, |name| env::var_os(name))
    }

    fn resolve(root: bool, home: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoHome> {
        let place = |what, name, for_root: &str, below_home: &str| {
            // The XDG specification has relative values ignored: they would mean another folder with every `cd`.
            if let Some(base) = variable(name).map(PathBuf::from).filter(|path| path.is_absolute()) {
                return Ok(base.join(NAME));
            }
            match &home {
                _ if root => Ok(PathBuf::from(for_root)),
                Some(home) => Ok(home.join(below_home).join(NAME)),
                None => Err(NoHome { what, variable: name }),
            }
        };
        Ok(Self {
            config: place("the configuration", "XDG_CONFIG_HOME", "/etc/bbackup", ".config")?,
            data: place("the default repository", "XDG_DATA_HOME", "/var/lib/bbackup", ".local/share")?,
            state: place("the state", "XDG_STATE_HOME", "/var/lib/bbackup/state", ".local/state")?,
            cache: place("the cache", "XDG_CACHE_HOME", "/var/cache/bbackup", ".cache")?,
            home,
        })
    }

    /// Where a configuration file is looked for, first found wins: the working folder, the configuration folder, the older
    /// place below the home, the system's folder.
    pub fn config_candidates(&self) -> Vec<PathBuf> {
        let mut candidates = vec![PathBuf::from("bbackup.yaml"), self.config.join("config.yaml")];
        if let Some(home) = &self.home {
            candidates.push(home.join(".config").join(NAME).join("config.yaml"));
            candidates.push(home.join(".bbackup/config.yaml"));
        }
        candidates.push(PathBuf::from("/etc/bbackup/config.yaml"));
        let mut seen = Vec::new();
        candidates.retain(|path| {
            !seen.contains(path) && {
                seen.push(path.clone());
                true
            }
        });
        candidates
    }

    /// The embedded default repository.
    pub fn default_repository(&self) -> PathBuf {
        self.data.join("repository")
    }

    /// The generated password of the embedded default repository.
    pub fn default_key(&self) -> PathBuf {
        self.config.join("repository.key")
    }

    /// Replaces a leading `~/` by the home. Without a home the path stays as it is.
    pub fn expand_home(&self, path: &Path) -> PathBuf {
        match (&self.home, path.strip_prefix("~")) {
            (Some(home), Ok(rest)) => home.join(rest),
            _ => path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn none(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn users_and_root_have_their_own_places() {
        let user = Directories::resolve(false, Some("/home/u".into()), none).unwrap();
        assert_eq!(user.default_repository(), Path::new("/home/u/.local/share/bbackup/repository"));
        assert_eq!(user.default_key(), Path::new("/home/u/.config/bbackup/repository.key"));
        let root = Directories::resolve(true, Some("/root".into()), none).unwrap();
        assert_eq!(root.default_repository(), Path::new("/var/lib/bbackup/repository"));
        assert_eq!(root.default_key(), Path::new("/etc/bbackup/repository.key"));
        assert!(root.config_candidates().contains(&PathBuf::from("/root/.config/bbackup/config.yaml")));
        assert_eq!(root.config_candidates().iter().filter(|path| path.starts_with("/etc")).count(), 1);
    }

    #[test]
    fn absolute_xdg_variables_win_and_relative_ones_are_ignored() {
        let set = |name: &str| match name {
            "XDG_DATA_HOME" => Some("/data".into()),
            "XDG_STATE_HOME" => Some("state".into()),
            _ => None,
        };
        let root = Directories::resolve(true, None, set).unwrap();
        assert_eq!(root.data, Path::new("/data/bbackup"));
        assert_eq!(root.state, Path::new("/var/lib/bbackup/state"));
        assert_eq!(Directories::resolve(false, None, set).unwrap_err().variable, "XDG_CONFIG_HOME");
    }

    #[test]
    fn a_tilde_is_the_home() {
        let user = Directories::resolve(false, Some("/home/u".into()), none).unwrap();
        assert_eq!(user.expand_home(Path::new("~/key")), Path::new("/home/u/key"));
        assert_eq!(user.expand_home(Path::new("/~/key")), Path::new("/~/key"));
        assert_eq!(user.expand_home(Path::new("~other/key")), Path::new("~other/key"));
    }
}
