//! Running programs with nothing of the developer's environment, and looking at how they ended.
//!
//! What is run, and in which home, is the caller's business.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::parts;

/// How long a program may run before the test gives up on it.
const PATIENCE: Duration = Duration::from_mins(5);

/// A program that is to be run with a cleared environment.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    words: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: PathBuf,
    /// Where its output is kept while it runs.
    output: PathBuf,
    input: Option<PathBuf>,
}

impl Program {
    /// A program that runs in `folder` and keeps its output in `output`, a folder.
    pub(crate) fn new(program: impl AsRef<OsStr>, folder: &Path, output: &Path) -> Self {
        let mut environment = BTreeMap::new();
        environment.insert("PATH".into(), parts::search_path());
        environment.insert("LANG".into(), "C.UTF-8".into());
        environment.insert("TZ".into(), "UTC".into());
        Self { words: vec![program.as_ref().to_owned()], environment, folder: folder.to_owned(), output: output.to_owned(), input: None }
    }

    /// From another folder.
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.words.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Puts a program that starts this one in front: `strace -f`, `setpriv …`.
    pub(crate) fn under<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, words: I) -> Self {
        self.words.splice(0..0, words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// Takes standard input from a file; else it is empty.
    pub(crate) fn input(mut self, file: &Path) -> Self {
        self.input = Some(file.to_owned());
        self
    }

    /// Starts it.
    pub(crate) fn spawn(self) -> Running {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("output-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (stdout, stderr) = (self.output.join(format!("{name}.out")), self.output.join(format!("{name}.err")));
        let line = self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let input = self.input.as_ref().map_or_else(Stdio::null, |path| Stdio::from(File::open(path).unwrap()));
        let child = std::process::Command::new(&self.words[0])
            .args(&self.words[1..])
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(input)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        Running { child, line, stdout, stderr, ended: false }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Outcome {
        self.spawn().wait()
    }
}

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: bool,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has written to standard output and standard error so far.
    pub(crate) fn so_far(&self) -> String {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        read(&self.stdout) + &read(&self.stderr)
    }

    /// Waits until `ready` holds; fails the test when the program ends before or it takes too long.
    pub(crate) fn until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            assert!(self.is_running(), "`{}` ended before {what}:\n{}", self.line, self.so_far());
            assert!(start.elapsed() < PATIENCE, "`{}`: waited in vain for {what}:\n{}", self.line, self.so_far());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops it with SIGSTOP as soon as it has a file below `folder` open: in the middle of reading or writing it, if it is large.
    pub(crate) fn hold_while_it_has_open(&mut self, folder: &Path) {
        let descriptors = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        self.until(&format!("an open file in {}", folder.display()), || {
            let open = fs::read_dir(&descriptors).into_iter().flatten().flatten();
            open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|path| path.starts_with(folder) && path.is_file())
        });
        self.signal(Signal::STOP);
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "`{}` does not end:\n{}", self.line, self.so_far());
            thread::sleep(Duration::from_millis(3));
        };
        self.ended = true;
        let outcome =
            Outcome { line: self.line.clone(), status, stdout: fs::read(&self.stdout).unwrap(), stderr: fs::read(&self.stderr).unwrap() };
        let _ = (fs::remove_file(&self.stdout), fs::remove_file(&self.stderr));
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a program ended. Every test says what it expects.
#[derive(Debug)]
#[must_use = "say how the program should have ended"]
pub(crate) struct Outcome {
    line: String,
    status: ExitStatus,
    /// Standard output, byte for byte.
    pub(crate) stdout: Vec<u8>,
    /// Standard error, byte for byte.
    pub(crate) stderr: Vec<u8>,
}

impl Outcome {
    /// The exit code; `None` after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Expects exit code 0.
    pub(crate) fn success(self) -> Self {
        self.exits(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.describe());
        self
    }

    /// Expects death by a signal.
    #[track_caller]
    pub(crate) fn killed_by(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}", self.describe());
        self
    }

    /// Expects words in standard output or standard error.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.text().contains(words) || self.errors().contains(words), "`{words}` is missing\n{}", self.describe());
        self
    }

    /// Expects that words are in neither.
    #[track_caller]
    pub(crate) fn says_nothing_of(self, words: &str) -> Self {
        assert!(!self.text().contains(words) && !self.errors().contains(words), "`{words}` should not be said\n{}", self.describe());
        self
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON, one value per line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`\n{}", self.describe()));
        self.text().lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
    }

    /// The JSON lines whose `message_type` is `kind`.
    #[track_caller]
    pub(crate) fn messages(&self, kind: &str) -> Vec<serde_json::Value> {
        self.json_lines().into_iter().filter(|line| line["message_type"] == kind).collect()
    }

    /// Everything about it, for a failed test.
    pub(crate) fn describe(&self) -> String {
        format!("`{}` ended with {}\n--- stdout\n{}\n--- stderr\n{}\n---", self.line, self.status, self.text(), self.errors())
    }
}

/// What `strace -ff -o FILE` wrote: a file for each thread, so that no call is torn by another thread's.
pub(crate) fn traced(file: &Path) -> String {
    let (folder, name) = (file.parent().unwrap(), file.file_name().unwrap().to_str().unwrap());
    let is_part = |path: &PathBuf| path.file_name().and_then(|own| own.to_str()).is_some_and(|own| own.starts_with(&format!("{name}.")));
    let parts = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_part);
    parts.map(|path| fs::read_to_string(path).unwrap()).collect()
}
