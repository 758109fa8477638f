//! Runs a command inside a container, as `docker exec` does: what it wrote and how it ended.
//!
//! When commands run, and what follows from how they end, is the business of `quiesce/hooks`.

use std::time::{Duration, Instant};

use bytes::Buf;
use hyper::Method;
use serde::Deserialize;

use super::connect::Engine;
use super::error::DockerError;
use super::wire::encode;
use crate::model::hook::Hook;
use crate::platform::{clock, container, process};

/// How much of the end of what a command writes is kept, in bytes.
const TAIL: usize = 2048;
/// How long the end of a command may be known later than the end of its output.
const LATE: Duration = Duration::from_millis(50);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub exit_code: i64,
    /// The end of what it wrote, to standard output and standard error.
    pub output: String,
}

/// Why it is not known how a command ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// It took too long.
    #[error("it did not end within {seconds} seconds{}", if *.killed { " and was killed" } else { "; it, or what it started, may still run" })]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// Whether it is gone, with everything that it started.
        killed: bool,
    },
    /// The Engine did not do it, or was lost meanwhile.
    #[error(transparent)]
    Engine(#[from] DockerError),
}

impl ExecError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Engine(error) => error.is_transient(),
        }
    }
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    #[serde(default)]
    running: bool,
    exit_code: Option<i64>,
    #[serde(default)]
    pid: i32,
    #[serde(rename = "ContainerID", default)]
    container: String,
}

/// A command that is ready to run in a container, and has not begun.
#[derive(Debug)]
pub struct Exec {
    id: String,
    timeout: Duration,
    /// A variable that everything has in its environment that it starts, as `NAME=value`.
    mark: String,
}

/// Prepares a command; nothing runs yet, so after an error it can be tried again.
///
/// # Errors
/// The container is gone or does not run, the Engine does not answer.
pub async fn create(engine: &Engine, container: &str, hook: &Hook) -> Result<Exec, DockerError> {
    let mark = format!("BBACKUP_EXEC={}", ulid::Ulid::from_datetime(clock::now().into()));
    let mut body = serde_json::json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": hook.command, "Env": [mark] });
    if let Some(user) = &hook.user {
        body["User"] = user.as_str().into();
    }
    let path = format!("/containers/{}/exec", encode(container));
    let bytes = engine.wire().call(Method::POST, &path, Some(body.to_string().into_bytes())).await?;
    let created: Created = understood("POST /containers/{id}/exec", &bytes)?;
    Ok(Exec { id: created.id, timeout: hook.timeout, mark })
}

impl Exec {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It took too long, or how it ended cannot be known.
    pub async fn run(self, engine: &Engine) -> Result<Ended, ExecError> {
        let Ok(ended) = tokio::time::timeout(self.timeout, self.to_end(engine)).await else {
            let killed = self.kill(engine).await;
            return Err(ExecError::TimedOut { seconds: self.timeout.as_secs(), killed });
        };
        Ok(ended?)
    }

    async fn to_end(&self, engine: &Engine) -> Result<Ended, DockerError> {
        let path = format!("/exec/{}/start", encode(&self.id));
        // A command may be silent for all of its time; whoever waits for it ends it then.
        let stall = self.timeout.saturating_add(Duration::from_secs(10));
        let mut output = engine.wire().attach(&path, br#"{"Detach":false,"Tty":false}"#.to_vec(), stall).await?;
        let mut tail = Tail::default();
        while let Some(bytes) = output.next().await? {
            tail.take(&bytes);
        }
        // The output may end first: what it started in the background holds nothing up, what it runs itself does.
        let mut waited = LATE;
        loop {
            let inspect = self.inspect(engine).await?;
            if let (false, Some(exit_code)) = (inspect.running, inspect.exit_code) {
                return Ok(Ended { exit_code, output: tail.text() });
            }
            tokio::time::sleep(waited).await;
            waited = (waited * 2).min(Duration::from_secs(1));
        }
    }

    async fn inspect(&self, engine: &Engine) -> Result<Inspect, DockerError> {
        let bytes = engine.wire().get_bytes(&format!("/exec/{}/json", encode(&self.id))).await?;
        understood("GET /exec/{id}/json", &bytes)
    }

    /// Ends the command and whatever it started, which the Engine itself has no call for. Possible only where its processes can be
    /// seen from here. Gives whether all of it is gone.
    async fn kill(&self, engine: &Engine) -> bool {
        let Ok(inspect) = self.inspect(engine).await else { return false };
        let is_it = || container::id_of_process(&inspect.pid.to_string()).is_some_and(|id| id == inspect.container);
        if !engine.is_local() || inspect.running && (inspect.pid <= 1 || !is_it()) {
            return false;
        }
        let mut first = inspect.running.then_some(inspect.pid);
        let deadline: Instant = clock::monotonic() + Duration::from_secs(5);
        while clock::monotonic() < deadline {
            // What is killed may just have started something: only when nothing is left, nothing more comes.
            let started = container::started_by(&inspect.container, first.take(), &self.mark);
            for process in &started.processes {
                // One that cannot be killed is found again.
                let _ = process::kill(*process);
            }
            if started.processes.is_empty() && self.inspect(engine).await.is_ok_and(|inspect| !inspect.running) {
                return !started.some_hidden;
            }
            tokio::time::sleep(LATE).await;
        }
        false
    }
}

fn understood<'a, T: Deserialize<'a>>(call: &str, bytes: &'a [u8]) -> Result<T, DockerError> {
    serde_json::from_slice(bytes).map_err(|error| DockerError::Malformed { call: call.to_owned(), source: error.into() })
}

/// The end of what came, out of the frames that the Engine packs it into: a byte for the stream, three of nothing, four of
/// length, then the data.
#[derive(Default)]
struct Tail {
    header: Vec<u8>,
    /// How much of the frame is still to come.
    left: usize,
    kept: Vec<u8>,
}

impl Tail {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let count = bytes.len().min(8 - self.header.len());
                self.header.extend_from_slice(&bytes[..count]);
                bytes.advance(count);
                if self.header.len() == 8 {
                    self.left = (&self.header[4..]).get_u32() as usize;
                    self.header.clear();
                }
                continue;
            }
            let count = bytes.len().min(self.left);
            self.kept.extend_from_slice(&bytes[..count]);
            self.left -= count;
            bytes.advance(count);
            if self.kept.len() > 2 * TAIL {
                self.kept.drain(..self.kept.len() - TAIL);
            }
        }
    }

    fn text(&self) -> String {
        let kept = &self.kept[self.kept.len().saturating_sub(TAIL)..];
        String::from_utf8_lossy(kept).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(data.len()).unwrap_or_default().to_be_bytes());
        frame.extend_from_slice(data);
        frame
    }

    #[test]
    fn the_end_of_the_output_is_kept_wherever_its_frames_are_cut() {
        let whole = [frame(1, b"first "), frame(2, b""), frame(2, b"second\n")].concat();
        for cut in 0..=whole.len() {
            let mut tail = Tail::default();
            tail.take(&whole[..cut]);
            tail.take(&whole[cut..]);
            assert_eq!(tail.text(), "first second", "{cut}");
        }
        let mut tail = Tail::default();
        for _ in 0..100 {
            tail.take(&frame(1, &[b'x'; 1000]));
        }
        tail.take(&frame(1, b"end"));
        assert_eq!((tail.text().len(), tail.text().ends_with("xend")), (TAIL, true));
        assert!(tail.kept.len() <= 2 * TAIL + 1000);
    }
}
