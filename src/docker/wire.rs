//! Requests to an Engine: raw answers byte for byte, streams in both directions, watchdogs.
//!
//! What the requests mean is the business of the modules beside it; bollard's typed calls go through here as well. How
//! connections are made is in the modules below.

mod pool;
mod ssh;
mod stream;
mod tls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::pool::Pool;
use self::stream::Dial;
pub(crate) use self::tls::Tls;
use super::address::Address;
use super::error::{Cause, DockerError};

/// Longest error message that is taken from an answer, in bytes.
const MESSAGE_LIMIT: usize = 64 << 10;
/// Longest answer that is taken into memory. Inspect answers are kilobytes; the limit is against an Engine gone mad.
const ANSWER_LIMIT: usize = 256 << 20;

/// The body of every request, whatever it was made from.
type RequestBody = UnsyncBoxBody<Bytes, Cause>;
/// A connection that takes the next request.
type Sender = SendRequest<RequestBody>;

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to come up.
    pub connect: Duration,
    /// For the answer to a short call (list, inspect, create, start).
    pub request: Duration,
    /// For the next byte of a stream, in either direction, while we wait for the Engine and not it for us.
    pub stall: Duration,
    /// For what the Engine does with everything at hand before it says a word: put an image together, pull one, unpack one.
    pub work: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_mins(2),
            stall: Duration::from_mins(5),
            work: Duration::from_hours(6),
        }
    }
}

/// The way to one Engine. Clones share everything.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dial: Dial,
    timeouts: Timeouts,
    /// `/v1.41`, or empty before a version was agreed on.
    prefix: String,
    host: HeaderValue,
    /// Connections that wait for their next request; none where a new one costs nothing.
    pool: Option<Pool>,
}

impl Wire {
    /// The way to `address`; nothing is connected yet. `tls` is needed for an address that says so.
    pub(crate) fn new(address: Address, tls: Option<Tls>, timeouts: Timeouts) -> Self {
        let host = match &address {
            Address::Unix(_) | Address::Ssh(_) => HeaderValue::from_static("localhost"),
            Address::Tcp(endpoint) | Address::Tls(endpoint) => {
                HeaderValue::from_str(&endpoint.to_string()).unwrap_or(HeaderValue::from_static("localhost"))
            }
        };
        let pool = address.is_costly().then(Pool::default);
        Self(Arc::new(Inner { dial: Dial { address, tls, limit: timeouts.connect }, timeouts, prefix: String::new(), host, pool }))
    }

    /// The same way, speaking this API version (`1.41`).
    pub(crate) fn with_version(&self, version: &str) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            dial: inner.dial.clone(),
            timeouts: inner.timeouts,
            prefix: format!("/v{version}"),
            host: inner.host.clone(),
            pool: inner.pool.clone(),
        }))
    }

    /// The same way, in the newest API version of the Engine, whether or not this program knows it.
    pub(crate) fn unversioned(&self) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            dial: inner.dial.clone(),
            timeouts: inner.timeouts,
            prefix: String::new(),
            host: inner.host.clone(),
            pool: inner.pool.clone(),
        }))
    }

    /// Where the Engine listens.
    pub fn address(&self) -> &Address {
        &self.0.dial.address
    }

    /// Whether a connection serves several requests. Then it belongs to the runtime in which it was made.
    pub(super) fn keeps_connections(&self) -> bool {
        self.0.pool.is_some()
    }

    /// How long is waited for what.
    pub fn timeouts(&self) -> Timeouts {
        self.0.timeouts
    }

    /// The body of the answer to `GET path`, byte for byte. `path` starts after the version (`/containers/json?all=1`).
    ///
    /// # Errors
    /// No connection, an answer that is not 2xx, or one that is not whole or not in time.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, DockerError> {
        self.call(Method::GET, path, None).await
    }

    /// The same if it has at most so many bytes, else none; what is beyond is never held.
    ///
    /// # Errors
    /// As for [`get_bytes`](Self::get_bytes).
    pub async fn get_bytes_up_to(&self, path: &str, most: usize) -> Result<Option<Bytes>, DockerError> {
        let limit = self.0.timeouts.request;
        let whole = async {
            let mut download = self.download_within(path, limit).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = download.next().await? {
                if bytes.len() + piece.len() > most {
                    return Ok(None);
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(bytes.into()))
        };
        let call = name_of(&Method::GET, path);
        timeout(limit, whole).await.map_err(|_| DockerError::Timeout { call, seconds: limit.as_secs() })?
    }

    /// One short call with an optional JSON body; gives the body of the answer byte for byte.
    ///
    /// # Errors
    /// As for [`get_bytes`](Self::get_bytes).
    pub async fn call(&self, method: Method, path: &str, json: Option<Vec<u8>>) -> Result<Bytes, DockerError> {
        let call = name_of(&method, path);
        let mut request = Request::builder().method(method).uri(path);
        if json.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request.body(Full::new(Bytes::from(json.unwrap_or_default()))).map_err(|error| malformed(&call, error))?;
        let limit = self.0.timeouts.request;
        let whole = async {
            let response = accepted(&call, self.send(&call, request).await?).await?;
            collect(&call, response.into_body(), ANSWER_LIMIT).await
        };
        timeout(limit, whole).await.map_err(|_| DockerError::Timeout { call: call.clone(), seconds: limit.as_secs() })?
    }

    /// The body of the answer to `GET path` as a stream. Only the wait for each next piece is limited.
    ///
    /// # Errors
    /// As for [`get_bytes`](Self::get_bytes); a body that ends early is an error of [`Download::next`].
    pub async fn download(&self, path: &str) -> Result<Download, DockerError> {
        self.download_within(path, self.0.timeouts.stall).await
    }

    /// As [`download`](Self::download), for an answer that the Engine first has to put together: it may begin as late as
    /// `first`.
    ///
    /// # Errors
    /// As for [`download`](Self::download).
    pub async fn download_within(&self, path: &str, first: Duration) -> Result<Download, DockerError> {
        let call = name_of(&Method::GET, path);
        let request = Request::builder().uri(path).body(Full::new(Bytes::new())).map_err(|error| malformed(&call, error))?;
        let stall = self.0.timeouts.stall;
        let response = async { accepted(&call, self.send(&call, request).await?).await };
        let response =
            timeout(first, response).await.map_err(|_| DockerError::Stalled { call: call.clone(), seconds: first.as_secs() })??;
        // Without a length and without chunks the body would end wherever the connection ends, and a truncated one look whole.
        let headers = response.headers();
        if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
            return Err(malformed(&call, "a body with neither a length nor chunks"));
        }
        Ok(Download { call, stall, response })
    }

    /// Sends a short call whose answer is a stream that ends with the connection, as what a command writes does. `stall` is for
    /// each next piece. Whether the end was the right one has to be asked for afterwards.
    ///
    /// # Errors
    /// As for [`get_bytes`](Self::get_bytes).
    pub async fn attach(&self, path: &str, json: Vec<u8>, stall: Duration) -> Result<Download, DockerError> {
        let call = name_of(&Method::POST, path);
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = request.body(Full::new(Bytes::from(json))).map_err(|error| malformed(&call, error))?;
        let limit = self.0.timeouts.request;
        let response = async { accepted(&call, self.send(&call, request).await?).await };
        let response =
            timeout(limit, response).await.map_err(|_| DockerError::Timeout { call: call.clone(), seconds: limit.as_secs() })??;
        Ok(Download { call, stall, response })
    }

    /// Sends `body` to `path` as a stream and gives the body of the answer, which comes only after everything was taken.
    /// There is no limit on the whole, nor on the answer: whoever calls must watch that the Engine goes on taking, and how
    /// long it works on it then.
    ///
    /// # Errors
    /// As for [`get_bytes`](Self::get_bytes).
    pub async fn upload<B>(&self, method: Method, path: &str, content_type: &'static str, body: B) -> Result<Bytes, DockerError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Cause>,
    {
        let call = name_of(&method, path);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .body(body)
            .map_err(|error| malformed(&call, error))?;
        let response = accepted(&call, self.send(&call, request).await?).await?;
        collect(&call, response.into_body(), ANSWER_LIMIT).await
    }

    /// Connects and sends one request; the answer's body streams on. Nothing but the connecting is limited in time.
    ///
    /// # Errors
    /// No connection, or none that lasted until the head of the answer.
    pub(crate) async fn send<B>(&self, call: &str, request: Request<B>) -> Result<Response<Incoming>, DockerError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Cause>,
    {
        let inner = &self.0;
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        *request.uri_mut() = versioned(&inner.prefix, request.uri()).map_err(|error| malformed(call, error))?;
        let headers = request.headers_mut();
        headers.insert(HOST, inner.host.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bbackup/", env!("CARGO_PKG_VERSION"))));

        let lost = |error: hyper::Error| DockerError::Lost { call: call.to_owned(), source: error.into() };
        if let Some(pool) = &inner.pool {
            while let Some(mut sender) = pool.take() {
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        pool.put_back(sender);
                        return Ok(response);
                    }
                    // It was closed before a byte of the request left.
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(lost(error.into_error())),
                    },
                }
            }
        }
        // In a box: handshakes are big, and every call has this in it.
        let (stream, words) = Box::pin(inner.dial.connect()).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Ends with the answer, or when `sender` and the answer are dropped.
        let connection = tokio::spawn(connection.with_upgrades());
        let mut abandoned = Abandoned(Some(connection.abort_handle()));
        let error = match sender.send_request(request).await {
            Ok(response) => {
                abandoned.0 = None;
                if let Some(pool) = &inner.pool {
                    pool.put_back(sender);
                }
                return Ok(response);
            }
            Err(error) => error,
        };
        // What a connection ends with before anything came back is the reason why there is none. It may have ended before the
        // request was taken, which then knows nothing of why.
        let error = if error.is_canceled() { connection.await.ok().and_then(Result::err).unwrap_or(error) } else { error };
        Err(inner.dial.refusal(&error, words.as_ref()).await.unwrap_or_else(|| lost(error)))
    }
}

/// Closes a connection whose request nobody waits for any more. By itself it would not notice while the other side takes nothing: an
/// Engine would hold on to half of an archive, and to the container that it is for.
struct Abandoned(Option<AbortHandle>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

/// The body of an answer, piece by piece.
#[derive(Debug)]
pub struct Download {
    call: String,
    stall: Duration,
    response: Response<Incoming>,
}

impl Download {
    /// Waits this long for each next piece.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// The value of a header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; none after the whole body has come.
    ///
    /// # Errors
    /// The connection ended before the body did, or nothing came within the stall limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DockerError> {
        loop {
            let frame = timeout(self.stall, self.response.body_mut().frame())
                .await
                .map_err(|_| DockerError::Stalled { call: self.call.clone(), seconds: self.stall.as_secs() })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(DockerError::Lost { call: self.call.clone(), source: error.into() }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// What bollard waits for.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>>;

/// The transport that carries bollard's typed calls over `wire`. `limit` is for the head of the answer; bollard's own is not
/// used, since its error does not say what it waited for.
pub(crate) fn transport(wire: Wire, limit: Option<Duration>) -> impl Fn(bollard::BollardRequest) -> Answer + Send + Sync + 'static {
    move |request| {
        let wire = wire.clone();
        Box::pin(async move {
            let call = name_of(request.method(), request.uri().path());
            let sent = wire.send(&call, request);
            let answer = match limit {
                Some(limit) => timeout(limit, sent)
                    .await
                    .unwrap_or_else(|_| Err(DockerError::Timeout { call: call.clone(), seconds: limit.as_secs() })),
                None => sent.await,
            };
            // Our error travels inside bollard's and is taken out again by `DockerError::from_bollard`.
            answer.map_err(|error| bollard::errors::Error::IOError { err: error.into() })
        })
    }
}

/// Percent-encodes one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A name for errors: the query is left out, it may be long.
fn name_of(method: &Method, path: &str) -> String {
    format!("{method} {}", path.split('?').next().unwrap_or(path))
}

fn malformed(call: &str, cause: impl Into<Cause>) -> DockerError {
    DockerError::Malformed { call: call.to_owned(), source: cause.into() }
}

/// The request target that goes over the wire: path and query alone, with the version in front unless it is there already.
fn versioned(prefix: &str, uri: &Uri) -> Result<Uri, hyper::http::uri::InvalidUri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let has_version = path.strip_prefix("/v").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if has_version { path.parse() } else { format!("{prefix}{path}").parse() }
}

/// What an Engine sends with a status that is not 2xx.
#[derive(serde::Deserialize)]
struct Message {
    message: String,
}

/// Turns an answer that is not 2xx (or 304) into the error that it means.
async fn accepted(call: &str, response: Response<Incoming>) -> Result<Response<Incoming>, DockerError> {
    let status = response.status();
    if status.is_success() || status == hyper::StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    // The status is what matters: a body that cannot be had leaves the message empty.
    let body = timeout(Duration::from_secs(10), collect(call, response.into_body(), MESSAGE_LIMIT)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let message = serde_json::from_slice::<Message>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned(), |message| message.message);
    Err(DockerError::from_status(call, status.as_u16(), message))
}

async fn collect(call: &str, body: Incoming, limit: usize) -> Result<Bytes, DockerError> {
    let collected = http_body_util::Limited::new(body, limit).collect().await;
    Ok(collected.map_err(|source| DockerError::Lost { call: call.to_owned(), source })?.to_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_version_goes_in_front_once() {
        for (prefix, path, expected) in [
            ("", "/version", "/version"),
            ("/v1.41", "/containers/json?all=1", "/v1.41/containers/json?all=1"),
            ("/v1.41", "/v1.30/info", "/v1.30/info"),
            ("/v1.41", "/volumes/x", "/v1.41/volumes/x"),
            ("/v1.41", "http://localhost/info", "/v1.41/info"),
        ] {
            assert_eq!(versioned(prefix, &path.parse().unwrap()).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn any_name_becomes_one_segment() {
        assert_eq!(encode("shop_db-1.x~"), "shop_db-1.x~");
        assert_eq!(encode("a/b?c=d&e%\n"), "a%2Fb%3Fc%3Dd%26e%25%0A");
        assert_eq!(encode("\u{fc}"), "%C3%BC");
    }

    #[tokio::test]
    async fn nothing_is_ever_asked_for_compressed() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let wire = Wire::new(Address::Unix(path), None, Timeouts::default());
        let mut body = wire.download("/containers/x/archive?path=%2Fvolume").await.unwrap();
        assert_eq!(body.next().await.unwrap().as_deref(), Some(&b"ok"[..]));
        let head = served.await.unwrap();
        assert!(head.contains("\r\naccept-encoding: identity\r\n") && !head.contains("gzip"), "{head}");
    }

    #[tokio::test]
    async fn a_typed_call_without_an_answer_ends_in_our_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mute.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let wire = Wire::new(Address::Unix(path), None, Timeouts::default()).with_version("1.41");
        let transport = transport(wire, Some(Duration::from_millis(50)));
        let version = bollard::ClientVersion { major_version: 1, minor_version: 41 };
        let docker = bollard::Docker::connect_with_custom_transport(transport, Some("http://localhost"), 3600, &version).unwrap();
        let error = DockerError::from_bollard("ping", docker.ping().await.unwrap_err());
        assert!(matches!(&error, DockerError::Timeout { call, .. } if call == "GET /_ping"), "{error:?}");
    }
}
