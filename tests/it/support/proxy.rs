//! A proxy in front of the private Engine that looks at each request and can do something bad at the right moment.
//!
//! It knows of HTTP only where a request begins.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It goes through.
    Pass,
    /// It goes nowhere: the connection is gone before the Engine sees it.
    Drop,
    /// It goes through, but after so many bytes of answer the connection is gone.
    CutAfter(u64),
    /// It goes on only for so many bytes, and then nothing more does in this direction; the connection stays.
    StallAfter(u64),
    /// It is answered with 403, as a socket proxy does with what it does not allow; the Engine never sees it.
    Deny,
    /// It is answered with this JSON; the Engine never sees it.
    Answer(&'static str),
    /// It is answered with 404, as if there were no such thing.
    Missing,
    /// It is answered with 500, as by an Engine that is in trouble with this one thing.
    Fail,
    /// It is answered with 500, as by an Engine that is ending.
    End,
}

/// A running proxy. Its threads end with the test process.
pub(crate) struct Proxy {
    socket: PathBuf,
    /// How many connections were cut.
    cuts: Arc<AtomicUsize>,
    /// The head of every request: its first line and its headers.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Listens on `socket` for the Engine at `engine`. `decide` is asked for every request with its first line (`GET /v1.41/…`); it may
    /// take its time, the request waits.
    pub(crate) fn start(socket: &Path, engine: &str, decide: impl Fn(&str) -> Action + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let engine = engine.strip_prefix("unix://").unwrap().to_owned();
        let cuts = Arc::new(AtomicUsize::new(0));
        let (decide, counter) = (Arc::new(decide), Arc::clone(&cuts));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming() {
                // An Engine that restarts is gone for a while.
                let (client, Ok(engine)) = (client.unwrap(), UnixStream::connect(&engine)) else { continue };
                let (decide, counter, kept) = (Arc::clone(&decide), Arc::clone(&counter), Arc::clone(&kept));
                let decide = move |head: &str| {
                    kept.lock().unwrap().push(head.to_owned());
                    decide(head.lines().next().unwrap_or_default())
                };
                thread::spawn(move || forward(&client, &engine, &decide, &counter));
            }
        });
        Self { socket: socket.to_owned(), cuts, heads }
    }

    /// Its address, as `DOCKER_HOST` takes it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The heads of all requests until now.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many connections were cut: a test of a cut in which there was none proves nothing.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

const DENIED: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 31\r\nConnection: close\r\n\r\n{\"message\":\"the proxy said no\"}";

const MISSING: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 27\r\nConnection: close\r\n\r\n{\"message\":\"no such thing\"}";

const FAILED: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 27\r\nConnection: close\r\n\r\n\
    {\"message\":\"layer is lost\"}";

const ENDING: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 31\r\nConnection: close\r\n\r\n\
    {\"message\":\"database not open\"}";

fn answered(json: &str) -> Vec<u8> {
    let length = json.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{json}").into_bytes()
}

/// `decide` is given the whole head of each request.
fn forward(client: &UnixStream, engine: &UnixStream, decide: &(dyn Fn(&str) -> Action + Send + Sync), cuts: &AtomicUsize) {
    let budget = Mutex::new(None::<u64>);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 64 * 1024];
            let mut passes = u64::MAX;
            while let Ok(count @ 1..) = (&*client).read(&mut buffer) {
                let first = buffer[..count].split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = std::str::from_utf8(first).ok().filter(|line| line.ends_with("HTTP/1.1"));
                let head = || {
                    let end = buffer[..count].windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(count);
                    String::from_utf8_lossy(&buffer[..end]).into_owned()
                };
                match line.map_or(Action::Pass, |_| decide(&head())) {
                    Action::Pass => {}
                    Action::Drop => break,
                    Action::StallAfter(bytes) => passes = bytes,
                    Action::CutAfter(bytes) => *budget.lock().unwrap() = Some(bytes),
                    action @ (Action::Answer(_) | Action::Deny | Action::Missing | Action::Fail | Action::End) => {
                        let answer = match action {
                            Action::Answer(json) => answered(json),
                            Action::Deny => DENIED.to_vec(),
                            Action::Missing => MISSING.to_vec(),
                            Action::Fail => FAILED.to_vec(),
                            _ => ENDING.to_vec(),
                        };
                        let _ = (&*client).write_all(&answer);
                        let _ = client.shutdown(Shutdown::Write);
                        // What still comes is taken, so that the answer is not lost with it.
                        while let Ok(1..) = (&*client).read(&mut buffer) {}
                        break;
                    }
                }
                if passes == 0 {
                    wait_until_one_gives_up(client, engine);
                    break;
                }
                if (&*engine).write_all(&buffer[..count]).is_err() {
                    break;
                }
                passes = passes.saturating_sub(count as u64);
            }
            let _ = engine.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = (&*engine).read(&mut buffer) {
            let mut allowed = count;
            let mut budget = budget.lock().unwrap();
            if let Some(left) = budget.as_mut() {
                allowed = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= allowed as u64;
            }
            if (&*client).write_all(&buffer[..allowed]).is_err() {
                break;
            }
            if allowed < count {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), engine.shutdown(Shutdown::Both));
    });
}

/// Takes nothing from either side, and returns once one of them has said something or is gone.
fn wait_until_one_gives_up(client: &UnixStream, engine: &UnixStream) {
    // Sending nothing fails once the other side is closed.
    while send(client, &[], SendFlags::NOSIGNAL).is_ok()
        && recv(engine, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) == Err(rustix::io::Errno::AGAIN)
    {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Listens on a free TCP port for the Engine at `engine`: so it is a remote one. Gives its address, as `DOCKER_HOST` takes it.
pub(crate) fn over_tcp(engine: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let engine = engine.strip_prefix("unix://").unwrap().to_owned();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&engine).unwrap());
            let (mut client_in, mut server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut client_in, &mut server_out);
                let _ = server_out.shutdown(Shutdown::Write);
            });
            let (mut client_out, mut server_in) = (client, server);
            thread::spawn(move || {
                let _ = std::io::copy(&mut server_in, &mut client_out);
                let _ = client_out.shutdown(Shutdown::Both);
            });
        }
    });
    format!("tcp://{address}")
}
