//! Tar streams out of and into containers, as blocking readers and writers for threads that know nothing of async.
//!
//! What is in the streams is the business of `sources/tar` and `targets/tar`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::Method;
use hyper::body::{Body, Frame};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::connect::Engine;
use super::error::DockerError;
use super::wire::{Download, Timeouts, Wire, encode};
use crate::platform::clock;

/// Pieces that wait between the connection and the thread, in each direction. With the pieces' size this bounds the memory
/// of one stream to a few megabytes.
const WAITING: usize = 8;
/// Bytes that are gathered before they are sent.
const PIECE: usize = 128 << 10;
/// Bytes that are gathered before the reader is woken. The Engine sends 32 KiB at a time; a thread that is woken for each of
/// them costs more than what it does with them.
const BATCH: usize = 512 << 10;
/// But what has come is not kept longer than this: whoever waits may have to stop.
const LINGER: Duration = Duration::from_millis(100);

/// What travels to the Engine.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// The stream is whole. A channel that closes without this was cut.
    End,
}

/// Opens the tar stream of `path` in `container`. The names in it begin with the last component of `path`. Must be called in
/// a tokio runtime.
///
/// # Errors
/// [`DockerError::NotFound`] if the container or the path is gone; and whatever a connection can suffer.
pub async fn archive_get(engine: &Engine, container: &str, path: &str) -> Result<ArchiveReader, DockerError> {
    let target = format!("/containers/{}/archive?path={}", encode(container), encode(path));
    let first = engine.wire().timeouts().stall;
    stream(engine.wire(), &target, first).await.map_err(|error| error.about("container", container))
}

/// Opens the tar stream of all files of `container` as its image and its own layer make them: nothing that is mounted in it.
/// Must be called in a tokio runtime.
///
/// # Errors
/// [`DockerError::NotFound`] if the container is gone; and whatever a connection can suffer.
pub async fn export(engine: &Engine, container: &str) -> Result<ArchiveReader, DockerError> {
    let first = engine.wire().timeouts().stall;
    stream(engine.wire(), &format!("/containers/{}/export", encode(container)), first)
        .await
        .map_err(|error| error.about("container", container))
}

/// Opens the tar stream of an image, as `docker save` writes it. Must be called in a tokio runtime.
///
/// # Errors
/// [`DockerError::NotFound`] if the image is gone; and whatever a connection can suffer.
pub async fn image_get(engine: &Engine, image: &str) -> Result<ArchiveReader, DockerError> {
    // Engines up to 24 write the whole archive to a file of their own before they send the first byte of it.
    let first = engine.wire().timeouts().work;
    stream(engine.wire(), &format!("/images/{}/get", encode(image)), first).await.map_err(|error| error.about("image", image))
}

/// Opens a stream that may begin as late as `first`.
async fn stream(wire: &Wire, target: &str, first: Duration) -> Result<ArchiveReader, DockerError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = ArchiveReader { receiver, current: VecDeque::new(), ended: false };
    if wire.keeps_connections() {
        tokio::spawn(pump(wire.download_within(target, first).await?, sender));
        return Ok(reader);
    }
    // On a thread of its own: among several, the connection and who takes from it wake each other for every piece.
    let own = |source: io::Error| DockerError::Unreachable { address: wire.address().to_string(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(own)?;
    let (mut opened, answer) = oneshot::channel();
    let (target, moved) = (target.to_owned(), wire.clone());
    let run = move || {
        runtime.block_on(async {
            // Nobody takes the answer any more if the caller was dropped; then there is no reader either.
            let answer = tokio::select! {
                answer = moved.download_within(&target, first) => answer,
                () = opened.closed() => return,
            };
            let (download, answer) = match answer {
                Ok(download) => (Some(download), Ok(())),
                Err(error) => (None, Err(error)),
            };
            if let (Ok(()), Some(download)) = (opened.send(answer), download) {
                pump(download, sender).await;
            }
        });
    };
    std::thread::Builder::new().name("stream".to_owned()).spawn(run).map_err(own)?;
    answer.await.unwrap_or_else(|_| Err(own(io::Error::other("the thread of the stream has ended"))))?;
    Ok(reader)
}

/// What travels to the reader: as much as was there, in the pieces in which it came.
enum Batch {
    Data(VecDeque<Bytes>),
    /// The stream is whole. A channel that closes without this was cut.
    End,
    /// The stream is lost.
    Failed(DockerError),
}

/// Moves the body to the reader, without copying it. The receiver is the reader: once it is dropped, so is the connection.
async fn pump(mut download: Download, sender: mpsc::Sender<Batch>) {
    let closed = sender.closed();
    tokio::pin!(closed);
    let (mut gathered, mut length, mut since) = (VecDeque::new(), 0, clock::monotonic());
    loop {
        let next = tokio::select! {
            biased;
            next = download.next() => Some(next),
            () = &mut closed => return,
            () = sleep(LINGER), if length > 0 => None,
        };
        let last = match next {
            Some(Ok(Some(data))) => {
                if length == 0 {
                    since = clock::monotonic();
                }
                length += data.len();
                gathered.push_back(data);
                None
            }
            Some(Ok(None)) => Some(Batch::End),
            Some(Err(error)) => Some(Batch::Failed(error)),
            None => None,
        };
        if length >= BATCH || (length > 0 && (last.is_some() || since.elapsed() >= LINGER)) {
            length = 0;
            if sender.send(Batch::Data(std::mem::take(&mut gathered))).await.is_err() {
                return;
            }
        }
        if let Some(last) = last {
            let _ = sender.send(last).await;
            return;
        }
    }
}

/// A tar stream from the Engine. Reads block, so it must not be read on a thread of the async runtime. It ends only where the
/// Engine ended it: a connection that broke is an error.
#[derive(Debug)]
pub struct ArchiveReader {
    receiver: mpsc::Receiver<Batch>,
    current: VecDeque<Bytes>,
    ended: bool,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(data) => f.debug_tuple("Data").field(&data.len()).finish(),
            Self::End => f.write_str("End"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl ArchiveReader {
    /// Fills the buffer from what has come already.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(data) = self.current.front_mut() {
            let length = data.len().min(buffer.len() - filled);
            data.copy_to_slice(&mut buffer[filled..filled + length]);
            filled += length;
            if !data.is_empty() {
                break;
            }
            self.current.pop_front();
        }
        filled
    }
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let filled = self.take(buffer);
            if filled > 0 {
                return Ok(filled);
            }
            match self.receiver.blocking_recv() {
                Some(Batch::Data(data)) => self.current = data,
                Some(Batch::End) => {
                    self.ended = true;
                    return Ok(0);
                }
                Some(Batch::Failed(error)) => return Err(error.into()),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream from the Docker Engine was cut off")),
            }
        }
    }
}

/// Opens a tar stream into the folder `path` of `container`. Must be called in a tokio runtime; the request is under way when
/// this returns, so that most errors come from the writer.
pub fn archive_put(engine: &Engine, container: &str, path: &str) -> ArchiveWriter {
    put(engine.wire().clone(), container, path)
}

fn put(wire: Wire, container: &str, path: &str) -> ArchiveWriter {
    let target = format!("/containers/{}/archive?path={}", encode(container), encode(path));
    let container = container.to_owned();
    send(wire, Method::PUT, target, move |error| error.about("container", &container))
}

/// Opens a tar stream that the Engine loads as an image, as `docker load` does. Must be called in a tokio runtime.
pub fn image_load(engine: &Engine) -> ArchiveWriter {
    send(engine.wire().clone(), Method::POST, "/images/load?quiet=1".to_owned(), |error| error)
}

fn send(wire: Wire, method: Method, target: String, about: impl FnOnce(DockerError) -> DockerError + Send + 'static) -> ArchiveWriter {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (answered, answer) = oneshot::channel();
    let Timeouts { stall, work, .. } = wire.timeouts();
    let request = tokio::spawn(async move {
        // Without this very type the Engine answers 200 and writes nothing.
        let result = wire.upload(method, &target, "application/x-tar", UploadBody { receiver, ended: false }).await;
        // Nobody listens any more if the writer was dropped; then the request was aborted and its end tells nothing.
        let _ = answered.send(result.and_then(|answer| loaded(&target, &answer)).map_err(about));
    });
    let request = request.abort_handle();
    ArchiveWriter { request, sender, answer, outcome: None, buffer: BytesMut::new(), stall, work, runtime: Handle::current() }
}

/// Loading an image answers 200 and then says line by line what went wrong.
fn loaded(call: &str, answer: &[u8]) -> Result<(), DockerError> {
    #[derive(serde::Deserialize)]
    struct Line {
        error: Option<String>,
    }
    let error = serde_json::Deserializer::from_slice(answer).into_iter::<Line>().filter_map(Result::ok).find_map(|line| line.error);
    error.map_or(Ok(()), |message| Err(DockerError::Api { call: call.to_owned(), status: 500, message }))
}

/// A tar stream to the Engine. Writes block, so it must not be written on a thread of the async runtime. Dropped without
/// [`finish`](Self::finish) it breaks the request off, so that the Engine does not take it for whole.
#[derive(Debug)]
pub struct ArchiveWriter {
    sender: mpsc::Sender<Piece>,
    answer: oneshot::Receiver<Result<(), DockerError>>,
    /// Set once the answer has come; nothing can be sent after it.
    outcome: Option<Result<(), String>>,
    buffer: BytesMut,
    stall: Duration,
    work: Duration,
    runtime: Handle,
    request: AbortHandle,
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        // It has ended, or it is broken off, also where the Engine takes nothing of it any more.
        self.request.abort();
    }
}

impl ArchiveWriter {
    /// Sends what is left, ends the stream, and waits until the Engine has written everything.
    ///
    /// # Errors
    /// The Engine's refusal, or a connection that broke or stalled. What was written before stays written.
    pub fn finish(mut self) -> io::Result<()> {
        self.send_buffer()?;
        self.send(Piece::End)?;
        let (stall, work) = (self.stall, self.work);
        let runtime = self.runtime.clone();
        let answer = runtime.block_on(async {
            // It has to go on taking what is still on its way; once it has everything, it may have to work on it: the layers of an
            // image are unpacked only then.
            tokio::select! {
                biased;
                answer = &mut self.answer => return Ok(answer),
                taken = timeout(stall, self.sender.closed()) => taken.map_err(|_| stall)?,
            }
            timeout(work, &mut self.answer).await.map_err(|_| work)
        });
        match answer {
            Ok(answer) => self.take(answer),
            Err(limit) => Err(self.stalled(limit)),
        }
    }

    fn send_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.send(Piece::Data(piece))
    }

    /// Sends one piece. An answer that comes before the end is a refusal, and says more than the broken pipe after it.
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        if let Some(outcome) = &self.outcome {
            let reason = outcome.as_ref().err().map_or("the Docker Engine has answered already", String::as_str);
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason.to_owned()));
        }
        let stall = self.stall;
        let runtime = self.runtime.clone();
        let sent = runtime.block_on(async {
            tokio::select! {
                biased;
                answer = &mut self.answer => Err(Some(answer)),
                sent = timeout(stall, self.sender.send(piece)) => match sent {
                    Ok(Ok(())) => Ok(()),
                    // The body is gone: the answer, or the reason why there is none, comes at once.
                    Ok(Err(_)) => Err(timeout(stall, &mut self.answer).await.ok()),
                    Err(_) => Err(None),
                },
            }
        });
        match sent {
            Ok(()) => Ok(()),
            Err(None) => Err(self.stalled(stall)),
            Err(Some(answer)) => {
                self.take(answer)?;
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the Docker Engine answered before the archive was complete"))
            }
        }
    }

    fn take(&mut self, answer: Result<Result<(), DockerError>, oneshot::error::RecvError>) -> io::Result<()> {
        let result = answer
            .unwrap_or_else(|_| Err(DockerError::Lost { call: CALL.to_owned(), source: "the request ended without an answer".into() }));
        self.outcome = Some(result.as_ref().copied().map_err(ToString::to_string));
        Ok(result?)
    }

    fn stalled(&mut self, limit: Duration) -> io::Error {
        let error = DockerError::Stalled { call: CALL.to_owned(), seconds: limit.as_secs() };
        self.outcome = Some(Err(error.to_string()));
        error.into()
    }
}

const CALL: &str = "PUT archive";

impl Write for ArchiveWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_buffer()
    }
}

/// The body of an upload: what the writer sends, in chunks.
struct UploadBody {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.receiver.poll_recv(cx)) {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End) => {
                self.ended = true;
                // So the writer sees that everything was taken.
                self.receiver.close();
                None
            }
            // The writer gave up. An error makes hyper break the connection instead of ending the body well.
            None => {
                self.ended = true;
                Some(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the archive was given up")))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn reader(pieces: Vec<Batch>) -> ArchiveReader {
        let (sender, receiver) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        ArchiveReader { receiver, current: VecDeque::new(), ended: false }
    }

    #[test]
    fn a_stream_ends_only_where_it_was_ended() {
        let mut out = Vec::new();
        let data = |pieces: &[&'static str]| Batch::Data(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect());
        let pieces = || vec![data(&["ab", "", "c"]), data(&[]), data(&["de"])];
        let mut whole = pieces();
        whole.push(Batch::End);
        let mut whole = reader(whole);
        whole.read_to_end(&mut out).unwrap();
        assert_eq!(out, b"abcde");
        assert_eq!(whole.read(&mut [0; 4]).unwrap(), 0);

        let cut = reader(pieces()).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);

        let mut lost = pieces();
        lost.push(Batch::Failed(DockerError::Stalled { call: "GET x".to_owned(), seconds: 7 }));
        let lost = reader(lost).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::TimedOut);
        assert!(matches!(lost.downcast::<DockerError>(), Ok(DockerError::Stalled { seconds: 7, .. })));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_has_come_is_handed_on_although_it_is_little() {
        use crate::docker::address::Address;
        use crate::docker::wire::Timeouts;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (go, wait) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst").await.unwrap();
            wait.await.unwrap();
            stream.write_all(b"last").await.unwrap();
        });
        let (sender, receiver) = mpsc::channel(WAITING);
        let download = Wire::new(Address::Unix(path), None, Timeouts::default()).download("/x").await.unwrap();
        tokio::spawn(pump(download, sender));
        let mut reader = ArchiveReader { receiver, current: VecDeque::new(), ended: false };
        let read = tokio::task::spawn_blocking(move || {
            let (mut first, mut rest) = ([0; 100], Vec::new());
            let length = reader.read(&mut first).unwrap();
            go.send(()).unwrap();
            reader.read_to_end(&mut rest).unwrap();
            (first[..length].to_vec(), rest)
        });
        let (first, rest) = timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
        assert_eq!((first, rest), (b"first".to_vec(), b"last".to_vec()));
    }

    /// An Engine that reads what it is sent up to these last bytes, thinks, and gives an answer.
    fn slow_engine(path: &std::path::Path, last: &'static [u8], answer: &'static [u8], timeouts: Timeouts) -> Wire {
        use crate::docker::address::Address;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(last) {
                head.push(stream.read_u8().await.unwrap());
            }
            sleep(Duration::from_millis(700)).await;
            stream.write_all(answer).await.unwrap();
        });
        Wire::new(Address::Unix(path.to_owned()), None, timeouts)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_engine_may_work_longer_than_it_may_stall() {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let folder = tempfile::tempdir().unwrap();
        let hasty = Timeouts { stall: Duration::from_millis(100), ..Timeouts::default() };
        // An image is put together before the first byte comes.
        let wire = slow_engine(&folder.path().join("get.sock"), b"\r\n\r\n", OK, hasty);
        let mut reader = stream(&wire, "/images/x/get", hasty.work).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(read.await.unwrap().unwrap(), "ok");
        // And unpacked after the last one.
        let finish = async |name: &str, timeouts| {
            let wire = slow_engine(&folder.path().join(name), b"0\r\n\r\n", OK, timeouts);
            let mut writer = send(wire, Method::POST, "/images/load".to_owned(), |error| error);
            tokio::task::spawn_blocking(move || writer.write_all(b"archive").and_then(|()| writer.finish())).await.unwrap()
        };
        finish("load.sock", hasty).await.unwrap();
        let limited = finish("late.sock", Timeouts { work: Duration::from_millis(200), ..hasty }).await.unwrap_err();
        assert_eq!(limited.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_engine_that_takes_nothing_any_more_is_given_up() {
        use crate::docker::address::Address;
        use crate::docker::wire::Timeouts;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mute.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let timeouts = Timeouts { stall: Duration::from_millis(100), ..Timeouts::default() };
        let mut writer = put(Wire::new(Address::Unix(path), None, timeouts), "c", "/");
        let result = tokio::task::spawn_blocking(move || {
            let piece = vec![0; PIECE];
            let first = (0..1000).find_map(|_| writer.write_all(&piece).err());
            (first, writer.write_all(&piece).err())
        });
        let (first, second) = result.await.unwrap();
        assert_eq!(first.unwrap().kind(), io::ErrorKind::TimedOut);
        assert_eq!(second.unwrap().kind(), io::ErrorKind::BrokenPipe, "nothing goes on behind an error");
    }
}
