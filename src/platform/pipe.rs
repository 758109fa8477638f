//! A program that is talked to through its standard input and output, as if it were a connection.
//!
//! What is said is the caller's business; programs that only give an output are run by `process`.

use std::ffi::OsString;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// What is kept of the program's standard error.
const ERROR_TEXT_LIMIT: usize = 8 << 10;

/// A running program. Dropped, it is killed.
#[derive(Debug)]
pub struct Pipe {
    /// None once this side has said that it will say no more.
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// Killed with this value.
    _child: Child,
}

/// What the program says on its standard error. Stays when the [`Pipe`] is gone.
#[derive(Debug, Clone)]
pub struct Words {
    text: Arc<Mutex<Vec<u8>>>,
    /// Sent once, by the task that reads: the program will say no more.
    ended: watch::Receiver<bool>,
}

impl Words {
    /// Everything that it has said, once it has said the last word or `patience` is over.
    pub async fn last(&self, patience: Duration) -> String {
        let mut ended = self.ended.clone();
        // Whichever way the wait ends, what was said until then is the answer.
        let _ = tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await;
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

/// Starts a program. It gets a process group of its own, so that Ctrl-C at the terminal does not reach it: whoever talks
/// to it may still have to put things right.
///
/// # Errors
/// It cannot be started.
pub fn open(program: &str, arguments: impl IntoIterator<Item = OsString>) -> io::Result<(Pipe, Words)> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the program was started without its pipes"));
    };
    let text = Arc::new(Mutex::new(Vec::new()));
    let (sender, ended) = watch::channel(false);
    tokio::spawn(listen(errors, Arc::clone(&text), sender));
    Ok((Pipe { input: Some(input), output, _child: child }, Words { text, ended }))
}

/// Keeps the beginning of what is said and throws the rest away, so that the program never waits for somebody to read it.
async fn listen(mut errors: ChildStderr, text: Arc<Mutex<Vec<u8>>>, ended: watch::Sender<bool>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut buffer).await {
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ERROR_TEXT_LIMIT.saturating_sub(text.len()).min(count);
        text.extend_from_slice(&buffer[..room]);
    }
    // Nobody may be listening any more.
    let _ = ended.send(true);
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe is closed by letting go of it.
        self.get_mut().input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn words_go_both_ways_and_the_last_ones_are_kept() {
        let words = ["-c", "read line; echo \"got $line\"; echo trouble >&2"].map(OsString::from);
        let (mut pipe, said) = open("sh", words).unwrap();
        pipe.write_all(b"hello\n").await.unwrap();
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.unwrap();
        assert_eq!((answer.as_str(), said.last(Duration::from_secs(10)).await.as_str()), ("got hello\n", "trouble"));
        assert!(open("/nonexistent/program", []).is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_let_go_of_ends() {
        let (pipe, said) = open("sh", ["-c", "echo ready >&2; exec sleep 1000"].map(OsString::from)).unwrap();
        assert_eq!(said.last(Duration::from_millis(300)).await, "ready");
        drop(pipe);
        let start = tokio::time::Instant::now();
        let _ = said.last(Duration::from_secs(20)).await;
        assert!(start.elapsed() < Duration::from_secs(10), "it still holds its standard error");
    }
}
