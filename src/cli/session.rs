//! What one command works with: configuration, folders, the repository that is meant and its password.
//!
//! The order of precedence lives here: flags, then the configuration, then the environment, then a question at the terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::arguments::Global;
use super::environment::{self, Environment};
use super::interrupts::Interrupts;
use super::output::Output;
use super::request::absolute;
use super::text::{self, safe};
use crate::config::password::PasswordSource;
use crate::config::{Config, DEFAULT_ENGINE, Docker, RepositoryConfig, load, suggest, validate};
use crate::jobs::error::JobError;
use crate::jobs::open::{Chunker, Notice};
use crate::jobs::request::JobContext;
use crate::jobs::{copy, engine, open};
use crate::platform::control::Control;
use crate::platform::directories::Directories;
use crate::platform::secret::Secret;
use crate::platform::{clock, host};
use crate::repository::contract::{Noticed, Repository, RepositoryError, RepositoryInfo};

/// What one command works with.
pub(super) struct Session {
    pub(super) output: Output,
    /// The configuration, with the Engine of `--engine` in the place of the default one.
    pub(super) config: Arc<Config>,
    /// The same without `--engine`.
    whole: Config,
    pub(super) directories: Directories,
    pub(super) control: Control,
    interrupts: Interrupts,
    global: Global,
    environment: Environment,
    /// What each repository that was opened tells at the end.
    opened: RefCell<Vec<Noticed>>,
    /// Why a snapshot that was looked at may not be the last state.
    doubts: RefCell<Vec<String>>,
}

impl Session {
    /// Loads the configuration and fills in what the environment says where the configuration says nothing.
    pub(super) fn new(global: &Global, environment: &Environment, output: &Output, interrupts: Interrupts) -> Result<Self, JobError> {
        let directories = Directories::of_this_user()?;
        let mut config = {
            // A name that the configuration gives this host wins over restic's variable, as everything in it does.
            let hostname = environment.host.clone().unwrap_or_else(host::hostname);
            load::load(global.config.as_deref(), &directories, &hostname)?
        };
        complete(&mut config, environment, &directories);
        if environment.host.is_none() && !config.host_is_given {
            // Two machines under one name would be taken for each other.
            config.host = engine::machine(&config.docker).unwrap_or(config.host);
        }
        let chosen = engine_of(&config, global.engine.as_deref())?;
        Ok(Self {
            output: output.clone(),
            config: Arc::new(chosen),
            whole: config,
            directories,
            control: interrupts.control().clone(),
            interrupts,
            global: global.clone(),
            environment: environment.clone(),
            opened: RefCell::default(),
            doubts: RefCell::default(),
        })
    }

    /// Runs a job to its end; from now on signals cancel it.
    pub(super) fn run<T>(&self, job: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        self.interrupts.run(&self.output, job)
    }

    /// Runs something short that nobody needs to cancel.
    pub(super) fn run_quietly<T>(&self, task: impl Future<Output = T>) -> Result<T, JobError> {
        self.interrupts.run_quietly(task)
    }

    /// Whether a signal asked for the end.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupts.received()
    }

    /// The configuration with a set's Engine in the place of the default one.
    pub(super) fn config_for(&self, engine: Option<&str>) -> Result<Arc<Config>, JobError> {
        Ok(Arc::new(engine_of(&self.whole, engine)?))
    }

    /// Every Engine of the configuration.
    pub(super) fn engines(&self) -> Vec<Docker> {
        std::iter::once(&self.whole.docker).chain(self.whole.engines.iter().map(|engine| &engine.docker)).cloned().collect()
    }

    /// The Engine of `--engine`, else every one, by its name.
    pub(super) fn engine_names(&self) -> Vec<String> {
        match &self.global.engine {
            Some(engine) => vec![engine.clone()],
            None => {
                std::iter::once(DEFAULT_ENGINE).chain(self.whole.engines.iter().map(|one| one.name.as_str())).map(str::to_owned).collect()
            }
        }
    }

    /// The Engine of `--engine`.
    pub(super) fn chosen_engine(&self) -> Option<&str> {
        self.global.engine.as_deref()
    }

    /// The repository that is meant: by `--repo`, else by a set's name of one, else the default one.
    pub(super) fn repository(&self, of_set: Option<&str>) -> Result<RepositoryConfig, JobError> {
        let mut repository = match (&self.global.repo, of_set) {
            (Some(wanted), _) => self.named_or_path(wanted)?,
            (None, Some(name)) => self.named(name)?,
            (None, None) => self.default_repository()?,
        };
        let flag = match (&self.global.password_file, &self.global.password_command) {
            (Some(file), _) => Some(PasswordSource::File(file.clone())),
            (None, Some(command)) => Some(PasswordSource::Command(command.clone())),
            (None, None) => None,
        };
        self.complete_repository(&mut repository, flag);
        Ok(repository)
    }

    /// The other repository of a copy. Its password comes from what was given for it, then from the configuration, then from the
    /// environment.
    pub(super) fn other_repository(&self, wanted: &str, given: Option<PasswordSource>) -> Result<RepositoryConfig, JobError> {
        let mut repository = self.named_or_path(wanted)?;
        self.complete_repository(&mut repository, given);
        Ok(repository)
    }

    /// What was given for a repository counts, then what the configuration says, then the environment.
    fn complete_repository(&self, repository: &mut RepositoryConfig, given: Option<PasswordSource>) {
        // The key of the embedded repository is nothing that the configuration says; but once it is there, it is the right one.
        let missing = repository.embedded && !self.directories.default_key().exists();
        let (configured, made_up) = match repository.password.take() {
            source if missing => (None, source),
            source => (source, None),
        };
        let of_environment = || self.password_of_the_environment(repository.name.as_deref());
        repository.password = given.or(configured).or_else(of_environment).or(made_up);
        repository.compression = repository.compression.or(self.environment.compression);
        repository.pack_size = repository.pack_size.or(self.environment.pack_size);
        repository.cache_folder = (!self.global.no_cache).then(|| self.directories.cache.clone());
        repository.scratch_folder = Some(self.directories.cache.clone());
    }

    /// Opens two repositories to copy from one to the other. In a dry run nothing is written, not even a lock.
    pub(super) fn open_pair(&self, source: &RepositoryConfig, target: &RepositoryConfig, dry_run: bool) -> Result<copy::Pair, JobError> {
        let of_target = self.password_of_existing(target).map_err(|error| match error {
            JobError::NoPassword { location } => JobError::request(
                "no_password",
                format!("no password is known for the repository at {location}"),
                "Give it with --to-password-file or --to-password-command, or in the configuration.",
            ),
            other => other,
        });
        let passwords = (self.password_of_existing(source)?, of_target?);
        self.interrupts.listen(&self.output)?;
        let retry_lock = (!dry_run).then(|| self.retry_lock());
        let pair = copy::Pair::open((source, &passwords.0), (target, &passwords.1), retry_lock, &self.notice())?;
        self.opened.borrow_mut().push(pair.source().noticed());
        Ok(pair)
    }

    /// Tells why a snapshot that was chosen may not be the last state, and lets the command end with a warning.
    pub(super) fn doubt(&self, sentence: String) {
        self.output.warning(&sentence);
        self.doubts.borrow_mut().push(sentence);
    }

    /// What was told by [`Self::doubt`].
    pub(super) fn doubts(&self) -> Vec<String> {
        self.doubts.take()
    }

    fn named(&self, name: &str) -> Result<RepositoryConfig, JobError> {
        self.config.repository(name).cloned().ok_or_else(|| self.unknown_repository(name))
    }

    fn unknown_repository(&self, name: &str) -> JobError {
        let known = self.config.repositories.iter().filter_map(|repository| repository.name.as_deref());
        let meant = suggest::sentence(name, known);
        let message = format!("there is no repository `{}` in the configuration{meant}", safe(name));
        JobError::request("unknown_repository", message, format!("If a folder is meant, write ./{}.", safe(name)))
    }

    fn named_or_path(&self, wanted: &str) -> Result<RepositoryConfig, JobError> {
        if let Some(repository) = self.config.repository(wanted) {
            return Ok(repository.clone());
        }
        let Some(path) = validate::local_path(wanted) else {
            let message =
                format!("`{}` is not a folder of this machine, and other kinds of repositories are not in this version", safe(wanted));
            return Err(JobError::request("repository_kind", message, ""));
        };
        if !path.contains('/') && !Path::new(path).exists() {
            return Err(self.unknown_repository(wanted));
        }
        Ok(RepositoryConfig::at(absolute(Path::new(path))?))
    }

    fn default_repository(&self) -> Result<RepositoryConfig, JobError> {
        let Some(repository) = self.config.default_repository() else {
            let names: Vec<&str> = self.config.repositories.iter().filter_map(|repository| repository.name.as_deref()).collect();
            let message = "the configuration has several repositories, and none is called `default`";
            return Err(JobError::request("which_repository", message, format!("Choose with --repo: {}.", names.join(", "))));
        };
        // The configuration wins over the environment; that it is embedded means that it says nothing.
        let wanted = if repository.embedded { self.environment.repository()? } else { None };
        let Some(wanted) = wanted else { return Ok(repository.clone()) };
        // A bare word is a folder there, as it is for restic.
        match validate::local_path(&wanted) {
            Some(path) if self.config.repository(&wanted).is_none() => Ok(RepositoryConfig::at(absolute(Path::new(path))?)),
            _ => self.named_or_path(&wanted),
        }
    }

    /// What systemd has given to this service goes before what whole machines or shells have set.
    fn password_of_the_environment(&self, repository: Option<&str>) -> Option<PasswordSource> {
        let environment = &self.environment;
        let credential = environment.credentials.as_deref().and_then(|folder| {
            let of_one = repository.map(|name| folder.join(format!("{}.{name}", environment::CREDENTIAL)));
            of_one.into_iter().chain([folder.join(environment::CREDENTIAL)]).find(|path| path.exists())
        });
        let file = credential.or_else(|| environment.password_file.clone()).map(PasswordSource::File);
        let command = || environment.password_command.clone().map(PasswordSource::Command);
        let value = || environment.password.then(|| PasswordSource::Environment(environment::PASSWORD.to_owned()));
        file.or_else(command).or_else(value)
    }

    /// Says what a cache has to say.
    fn notice(&self) -> Notice {
        let output = self.output.clone();
        Arc::new(move |text| output.note(text))
    }

    /// Opens a repository that must be there.
    pub(super) fn open(&self, repository: &RepositoryConfig) -> Result<Arc<dyn Repository>, JobError> {
        self.open_for(repository, false)
    }

    /// As [`open`](Self::open). In a dry run nothing is written to it, not even a lock.
    pub(super) fn open_for(&self, repository: &RepositoryConfig, dry_run: bool) -> Result<Arc<dyn Repository>, JobError> {
        let password = self.password_of_existing(repository)?;
        // From here on there is a lock to give back, so the process must not just end.
        self.interrupts.listen(&self.output)?;
        let opened = open::open(repository, &password, (!dry_run).then(|| self.retry_lock()), &self.notice())?;
        self.opened.borrow_mut().push(opened.noticed());
        Ok(opened)
    }

    /// What was damaged in the repositories of this command and could be passed over, one sentence each.
    pub(super) fn noticed(&self) -> Vec<String> {
        let opened = self.opened.borrow();
        opened.iter().flat_map(|noticed| noticed.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// The password of a repository that must be there.
    pub(super) fn password_of_existing(&self, repository: &RepositoryConfig) -> Result<Secret<String>, JobError> {
        let location = repository.location.display().to_string();
        // Nobody is asked for the password of what is not there.
        if !open::is_there(repository)? {
            return Err(RepositoryError::Missing { location }.into());
        }
        match &repository.password {
            Some(PasswordSource::File(key)) if self.is_own_key(repository, key) && !key.exists() => {
                Err(JobError::KeyLost { location, key: key.clone() })
            }
            Some(source) => Ok(source.resolve()?),
            None => self.ask(&location, false),
        }
    }

    /// Whether a repository is the embedded default one and still to be made.
    pub(super) fn is_to_be_made(&self, repository: &RepositoryConfig) -> Result<bool, JobError> {
        Ok(repository.embedded && !self.directories.default_key().exists() && !open::is_there(repository)?)
    }

    /// Where a repository cuts files.
    pub(super) fn chunker_of(&self, repository: &RepositoryConfig) -> Result<Chunker, JobError> {
        let password = self.password_of_existing(repository).map_err(|error| match error {
            JobError::NoPassword { location } => JobError::request(
                "no_password",
                format!("no password is known for the repository at {location}"),
                "Give it with --from-password-file or --from-password-command, or in the configuration.",
            ),
            other => other,
        })?;
        open::chunker(repository, &password)
    }

    /// Finds out whether a new repository can be made, and where the key would be that is made with it. Nobody is asked for a password.
    pub(super) fn plan_to_make(&self, repository: &RepositoryConfig) -> Result<Option<PathBuf>, JobError> {
        open::plan_init(repository)?;
        match &repository.password {
            Some(PasswordSource::File(key)) if self.is_own_key(repository, key) && !key.exists() => Ok(Some(key.clone())),
            Some(source) => source.resolve().map(|_| None).map_err(JobError::from),
            None => Ok(None),
        }
    }

    /// Makes a new repository, and for the embedded default one its key.
    pub(super) fn make(&self, repository: &RepositoryConfig, chunker: Option<Chunker>) -> Result<RepositoryInfo, JobError> {
        let location = repository.location.display().to_string();
        if open::is_there(repository)? {
            return Err(RepositoryError::Exists { location }.into());
        }
        let info = match &repository.password {
            Some(PasswordSource::File(key)) if self.is_own_key(repository, key) && !key.exists() => {
                self.make_with_key(repository, key, chunker)?
            }
            Some(source) => open::init(repository, &source.resolve()?, chunker)?,
            None => open::init(repository, &self.ask(&location, true)?, chunker)?,
        };
        self.tell_made(&info);
        Ok(info)
    }

    fn tell_made(&self, info: &RepositoryInfo) {
        self.output.note(&format!("Made the repository {} at {}", info.id.get(..10).unwrap_or(&info.id), safe(&info.location)));
    }

    fn is_own_key(&self, repository: &RepositoryConfig, key: &Path) -> bool {
        repository.embedded && *key == self.directories.default_key()
    }

    /// Makes a repository together with its key. Of several processes only one can make the key file, and so the repository.
    fn make_with_key(&self, repository: &RepositoryConfig, key: &Path, chunker: Option<Chunker>) -> Result<RepositoryInfo, JobError> {
        let password = open::make_key(key)?;
        let info = open::init(repository, &password, chunker).inspect_err(|_| {
            // A key without a repository would look like a repository that is lost. One that was made meanwhile may be made with it.
            if matches!(open::is_there(repository), Ok(false)) {
                let _ = crate::platform::files::remove(key);
            }
        })?;
        self.output.warning(&format!(
            "A new repository was made, and a password for it in {}. Keep a copy of that file elsewhere: without it nobody can read the backups.",
            key.display()
        ));
        Ok(info)
    }

    /// The options of this command that a later one needs to find the same repository, ready to be typed.
    pub(super) fn again(&self, repository: Option<&str>) -> String {
        let path = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let options = [
            ("--config", self.global.config.as_deref().map(path)),
            ("--repo", repository.map(str::to_owned)),
            ("--password-file", self.global.password_file.as_deref().map(path)),
        ];
        options.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", text::quoted(&value?)))).collect()
    }

    /// Makes the embedded repository, or waits until another process that began at the same time has made it.
    pub(super) fn make_unless_another_does(&self, repository: &RepositoryConfig) -> Result<(), JobError> {
        let made = match &repository.password {
            // Whether the key is there is decided by making it, not by looking for it: another may make it in between.
            Some(PasswordSource::File(key)) if self.is_own_key(repository, key) => {
                self.make_with_key(repository, key, None).map(|info| self.tell_made(&info))
            }
            _ => self.make(repository, None).map(drop),
        };
        match made {
            Ok(()) | Err(JobError::Repository(RepositoryError::Exists { .. })) => Ok(()),
            // Whose key is there first makes the repository with it.
            Err(JobError::Own { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => self.wait_for_maker(repository),
            Err(error) => Err(error),
        }
    }

    /// Waits a moment for the embedded repository whose key is there already: another process may be making it.
    pub(super) fn wait_for_maker(&self, repository: &RepositoryConfig) -> Result<(), JobError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let start = clock::monotonic();
        while repository.embedded && self.directories.default_key().exists() && !open::is_there(repository)? {
            if start.elapsed() > PATIENCE || self.interrupted() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// How long to wait for a lock.
    pub(super) fn retry_lock(&self) -> Duration {
        self.global.retry_lock.unwrap_or_default()
    }

    /// What jobs work with.
    pub(super) fn context(&self, repository: &RepositoryConfig, opened: Option<Arc<dyn Repository>>) -> JobContext {
        JobContext {
            config: Arc::clone(&self.config),
            directories: self.directories.clone(),
            repository: opened,
            repository_path: repository.location.clone(),
        }
    }

    /// What jobs on a set's Engine work with.
    pub(super) fn context_for(
        &self,
        engine: Option<&str>,
        repository: &RepositoryConfig,
        opened: Option<Arc<dyn Repository>>,
    ) -> Result<JobContext, JobError> {
        Ok(JobContext { config: self.config_for(engine)?, ..self.context(repository, opened) })
    }

    /// A new password for a repository: from a source, else from a person who types it twice.
    pub(super) fn new_password(&self, source: Option<&PasswordSource>, location: &str) -> Result<Secret<String>, JobError> {
        match source {
            Some(source) => Ok(source.resolve()?),
            None => self.ask_for("New password", location, true).map_err(|error| match error {
                JobError::NoPassword { .. } => JobError::request(
                    "no_new_password",
                    "a new password is needed, and none was given",
                    "Give it with --new-password-file, --new-password-command or --new-password-env.",
                ),
                other => other,
            }),
        }
    }

    fn ask(&self, location: &str, twice: bool) -> Result<Secret<String>, JobError> {
        self.ask_for("Password", location, twice)
    }

    fn ask_for(&self, what: &str, location: &str, twice: bool) -> Result<Secret<String>, JobError> {
        let nobody = || JobError::NoPassword { location: safe(location) };
        if self.environment.no_interactive || self.output.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(nobody());
        }
        let ask = |question: String| rpassword::prompt_password(question).map(Secret::new).map_err(|_| nobody());
        let password = ask(format!("{what} of the repository at {}: ", safe(location)))?;
        if password.expose().is_empty() {
            return Err(nobody());
        }
        if twice && ask("The same again: ".to_owned())?.expose() != password.expose() {
            return Err(JobError::request("password_mismatch", "the two passwords are not the same", "Nothing was made."));
        }
        Ok(password)
    }
}

/// Fills in what the environment says where the configuration says nothing. It is about the default Engine only.
fn complete(config: &mut Config, environment: &Environment, directories: &Directories) {
    let folder = environment.docker_folder.clone().unwrap_or_else(|| directories.expand_home(Path::new("~/.docker")));
    for docker in std::iter::once(&mut config.docker).chain(config.engines.iter_mut().map(|engine| &mut engine.docker)) {
        docker.client_folder = Some(folder.clone());
    }
    let docker = &mut config.docker;
    if !docker.says_where() {
        docker.host.clone_from(&environment.docker_host);
        docker.context.clone_from(&environment.docker_context);
    }
    if environment.docker_tls {
        // Where somebody asks for certificates to be verified, that is done, or the configuration says that it is not.
        docker.tls_verify.get_or_insert(true);
    }
    if docker.cert_path.is_none() && docker.tls_verify == Some(true) {
        docker.cert_path.clone_from(&environment.docker_certificates);
    }
}

fn engine_of(config: &Config, name: Option<&str>) -> Result<Config, JobError> {
    config.for_engine(name).ok_or_else(|| {
        let name = name.unwrap_or_default();
        let known = || config.engines.iter().map(|engine| engine.name.as_str()).chain([DEFAULT_ENGINE]);
        let meant = suggest::sentence(name, known());
        let hint = format!("There are: {}.", known().collect::<Vec<_>>().join(", "));
        JobError::request("unknown_engine", format!("there is no Engine `{}` in the configuration{meant}", safe(name)), hint)
    })
}
