//! Runs other programs: argument lists instead of shells, a time limit, bounded output, secrets by environment only.
//!
//! What is run and what its output means is the caller's business.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::secret::Secret;

/// What was kept of a failed program's standard error.
const ERROR_TEXT_LIMIT: usize = 4 * 1024;

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The command line cannot be split into words.
    #[error("a quote in the command is not closed")]
    UnclosedQuote,
    /// There is no word in the command line.
    #[error("the command is empty")]
    Empty,
    /// It could not be started.
    #[error("cannot run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{program} failed ({status}){}{text}", if .text.is_empty() { "" } else { ": " })]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it wrote to standard error.
        text: String,
    },
    /// It took longer than it may, and was killed.
    #[error("{program} gave no result within {} s", .limit.as_secs())]
    TimedOut {
        /// Its name.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It wrote more than it may, and was killed.
    #[error("{program} wrote more than {limit} bytes")]
    TooMuchOutput {
        /// Its name.
        program: String,
        /// The limit in bytes.
        limit: usize,
    },
}

impl ProcessError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

/// A program to run.
#[derive(Debug)]
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    secrets: Vec<(OsString, Secret<String>)>,
    timeout: Duration,
    output_limit: usize,
}

impl Run {
    /// A program with its arguments. Limits: one minute, one MiB of output.
    pub fn new(program: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            secrets: Vec::new(),
            timeout: Duration::from_mins(1),
            output_limit: 1 << 20,
        }
    }

    /// A command line as people write it into a configuration. It is split like a shell does, but no shell sees it: no
    /// variables, no globs, no `;`. Who needs those writes `sh -c '…'`.
    ///
    /// # Errors
    /// [`ProcessError::UnclosedQuote`] and [`ProcessError::Empty`].
    pub fn command_line(line: &str) -> Result<Self, ProcessError> {
        let mut words = split_words(line)?.into_iter();
        let program = words.next().ok_or(ProcessError::Empty)?;
        Ok(Self::new(program, words))
    }

    /// Gives the program a secret as an environment variable: unlike arguments, other users cannot read those.
    #[must_use]
    pub fn secret(mut self, name: impl Into<OsString>, value: Secret<String>) -> Self {
        self.secrets.push((name.into(), value));
        self
    }

    /// Kills the program after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Kills the program when it has written more than this to its standard output.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Runs it to its end and gives its standard output. Its standard input is empty.
    ///
    /// # Errors
    /// It could not be started, failed, took too long or wrote too much.
    pub fn output(self) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
        let program = self.program.to_string_lossy().into_owned();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in &self.secrets {
            command.env(name, value.expose());
        }
        let mut child = command.spawn().map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        let deadline = Instant::now() + self.timeout;
        let stdout = read_in_background(child.stdout.take(), self.output_limit + 1);
        let stderr = read_in_background(child.stderr.take(), ERROR_TEXT_LIMIT);

        // The end of its output comes first: a program that has more to say never ends while the pipe is full.
        let output = match receive(&stdout, deadline) {
            Some(output) if output.len() > self.output_limit => {
                end(&mut child);
                return Err(ProcessError::TooMuchOutput { program, limit: self.output_limit });
            }
            Some(output) => output,
            None => {
                end(&mut child);
                return Err(ProcessError::TimedOut { program, limit: self.timeout });
            }
        };
        let Some(status) = wait_until(&mut child, deadline) else {
            end(&mut child);
            return Err(ProcessError::TimedOut { program, limit: self.timeout });
        };
        let status = status.map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        if status.success() {
            return Ok(output);
        }
        // A child of the child may hold the pipe open for ever; what it has said so far is not worth waiting long.
        let text = receive(&stderr, Instant::now() + Duration::from_millis(500)).unwrap_or_default();
        let text = crate::model::text::printable(String::from_utf8_lossy(&text).trim().as_bytes());
        Err(ProcessError::Failed { program, status, text })
    }
}

/// Reads a pipe to its end, or to `limit`, in a thread of its own, which sends the bytes once. It is never joined: when
/// nobody waits any more, its bytes are dropped with it.
/// Kills a process that is not one of ours, as the root of this machine may. The caller has made sure which one it is.
///
/// # Errors
/// There is no such process, or it may not be touched.
pub fn kill(process: i32) -> io::Result<()> {
    let process = rustix::process::Pid::from_raw(process).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(process, rustix::process::Signal::KILL)?)
}

fn read_in_background(pipe: Option<impl Read + Send + 'static>, limit: usize) -> mpsc::Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            let mut pipe = pipe;
            let mut bytes = Zeroizing::new(Vec::with_capacity(ERROR_TEXT_LIMIT));
            // A broken pipe ends the output like its end does; the exit status tells the rest.
            let _ = (&mut pipe).take(limit as u64).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
            // What is behind the limit is thrown away, so that the program does not wait for somebody to read it.
            let _ = io::copy(&mut pipe, &mut io::sink());
        });
    }
    receiver
}

fn receive(bytes: &mpsc::Receiver<Zeroizing<Vec<u8>>>, deadline: Instant) -> Option<Zeroizing<Vec<u8>>> {
    match bytes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(bytes) => Some(bytes),
        Err(RecvTimeoutError::Disconnected) => Some(Zeroizing::default()),
        Err(RecvTimeoutError::Timeout) => None,
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<io::Result<ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(Ok(status)),
            Err(error) => return Some(Err(error)),
            Ok(None) if Instant::now() >= deadline => return None,
            Ok(None) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn end(child: &mut Child) {
    // Both fail only when the child is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Splits a command line into words: blanks separate, single quotes keep everything, double quotes and a backslash keep
/// the next character's meaning away.
/// Splits a command line into words, as a shell does with quotes and backslashes; nothing else of it means anything.
///
/// # Errors
/// [`ProcessError::UnclosedQuote`].
pub fn split_words(line: &str) -> Result<Vec<String>, ProcessError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(ProcessError::UnclosedQuote)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(ProcessError::UnclosedQuote)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(ProcessError::UnclosedQuote)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(ProcessError::UnclosedQuote)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn splits_words_as_a_shell_does() {
        for (line, words) in [
            ("pass show backup", vec!["pass", "show", "backup"]),
            (r#"  a 'b c'  "d \"e\" \n" f\ g"#, vec!["a", "b c", r#"d "e" \n"#, "f g"]),
            ("x '' y", vec!["x", "", "y"]),
            ("a'b'\"c\"", vec!["abc"]),
            ("", vec![]),
        ] {
            assert_eq!(split_words(line).unwrap(), words, "{line}");
        }
        for line in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(matches!(split_words(line), Err(ProcessError::UnclosedQuote)), "{line}");
        }
        assert!(matches!(Run::command_line("  "), Err(ProcessError::Empty)));
    }

    #[test]
    fn gives_output_and_tells_failures_apart() {
        let output = Run::command_line("printf '%s' 'a b; $HOME'").unwrap().output().unwrap();
        assert_eq!(*output, b"a b; $HOME");
        let failed = Run::command_line("sh -c 'echo no key >&2; exit 3'").unwrap().output().unwrap_err();
        assert_eq!(failed.to_string(), "sh failed (exit status: 3): no key");
        let missing = Run::command_line("/nonexistent/program").unwrap().output().unwrap_err();
        assert!(matches!(missing, ProcessError::Start { .. }));
    }

    #[test]
    fn time_and_output_are_limited() {
        let start = Instant::now();
        let slow = Run::command_line("sleep 30").unwrap().timeout(Duration::from_millis(100)).output().unwrap_err();
        assert!(matches!(slow, ProcessError::TimedOut { .. }));
        // The program's own child keeps the pipe open: that must not hold us either.
        let orphan = Run::command_line("sh -c 'sleep 30 & exit 0'").unwrap().timeout(Duration::from_millis(100)).output();
        assert!(matches!(orphan, Err(ProcessError::TimedOut { .. })));
        let endless = Run::command_line("yes").unwrap().output_limit(1000).output().unwrap_err();
        assert!(matches!(endless, ProcessError::TooMuchOutput { .. }));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn secrets_travel_in_the_environment_and_show_nowhere() {
        let run = Run::command_line("sh -c 'printf %s \"$TOKEN\"'").unwrap().secret("TOKEN", Secret::new("hush".to_owned()));
        assert!(!format!("{run:?}").contains("hush"));
        assert_eq!(*run.output().unwrap(), b"hush");
    }
}
