//! What can go wrong between bbackup and an Engine. The sentences for people are made in `jobs/report`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::permissions;

/// What an Engine says of itself while it ends: its own databases and its way to containerd are closed before its socket is.
const ENDING: [&str; 4] = ["database not open", "daemon is shutting down", "client connection is closing", "transport is closing"];

/// An error that somebody else's code gave.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a Docker Engine. `call` is the method and path of the request (`GET /containers/json`).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// The address of an Engine cannot be understood.
    #[error("`{given}` is not the address of a Docker Engine: {reason}")]
    Address {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A way to reach an Engine that this program does not have.
    #[error("`{given}`: an Engine cannot be reached by {way}")]
    Unsupported {
        /// As it was given.
        given: String,
        /// `a named pipe`, `a file descriptor`.
        way: &'static str,
    },
    /// There is no such context of the Docker client.
    #[error("the Docker client has no context `{name}`; it has {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    NoContext {
        /// Its name.
        name: String,
        /// The ones that are there.
        known: Vec<String>,
    },
    /// A context of the Docker client is there and cannot be used.
    #[error("the Docker client's context `{name}` cannot be used: {reason}")]
    Context {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A file of the Docker client is there and cannot be read or understood.
    #[error("the Docker client's file {} cannot be read", .path.display())]
    ClientFile {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{} cannot be used for TLS", .path.display())]
    TlsFile {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// What the Engine shows is not trusted.
    #[error("the certificate of the Docker Engine at {address} is not trusted: {reason}")]
    Certificate {
        /// Where.
        address: String,
        /// Why, for people.
        reason: &'static str,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// What we show is not trusted over there, or nothing was shown.
    #[error("the Docker Engine at {address} does not accept our certificate")]
    ClientCertificate {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// TLS was asked for, and what is there does not speak it, or another kind of it.
    #[error("what answers at {address} does not speak TLS as we do")]
    NoTls {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// TLS was not asked for, and what is there speaks nothing else.
    #[error("the Docker Engine at {address} wants TLS")]
    WantsTls {
        /// Where.
        address: String,
    },
    /// There is no `ssh` program.
    #[error("there is no program `ssh`")]
    NoSsh {
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// ssh, or the Docker client at its other end, gave up before anything was said.
    #[error("cannot reach the Docker Engine at {address}: {fault}: {said}")]
    Ssh {
        /// Where.
        address: String,
        /// What it means.
        fault: SshFault,
        /// The last line that was said.
        said: String,
    },
    /// There is no socket: no Engine is installed, or it does not run.
    #[error("there is no Docker socket at {}", .path.display())]
    NoSocket {
        /// Where it should be.
        path: PathBuf,
    },
    /// The socket is there and may not be used.
    #[error("no permission to use the Docker Engine at {address}")]
    PermissionDenied {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Nobody listens.
    #[error("nothing answers at {address}: the Docker Engine does not run")]
    Refused {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The address cannot be reached, or not in time.
    #[error("cannot reach the Docker Engine at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Something answers that is no Docker Engine.
    #[error("what answers at {address} is not a Docker Engine")]
    NotAnEngine {
        /// Where.
        address: String,
        /// What is wrong with its answer.
        #[source]
        source: Cause,
    },
    /// The Engine speaks only API versions below ours.
    #[error("the Docker Engine at {address} speaks API {found} at most, at least {needed} is needed")]
    TooOld {
        /// Where.
        address: String,
        /// Its highest version.
        found: String,
        /// Our lowest.
        needed: &'static str,
    },
    /// The Engine speaks only API versions above ours.
    #[error("the Docker Engine at {address} speaks API {found} at least, this program knows {known} at most")]
    TooNew {
        /// Where.
        address: String,
        /// Its lowest version.
        found: String,
        /// Our highest.
        known: &'static str,
    },
    /// Something that was there at the planning is gone.
    #[error("{kind} {name} is not there any more")]
    NotFound {
        /// `container`, `volume`, `network`, `image`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A socket proxy or an authorization plugin forbids a call.
    #[error("{call} is not allowed{}: {message}", needed(.call))]
    Denied {
        /// The request.
        call: String,
        /// What the answer says.
        message: String,
    },
    /// The Engine answered with an error.
    #[error("{call}: the Docker Engine answered {status}: {message}")]
    Api {
        /// The request.
        call: String,
        /// HTTP status.
        status: u16,
        /// What the Engine says.
        message: String,
    },
    /// The Engine is just ending, and answers what it still can.
    #[error("{call}: the Docker Engine is ending: {message}")]
    Ending {
        /// The request.
        call: String,
        /// What the Engine says.
        message: String,
    },
    /// The connection broke before the answer was complete.
    #[error("{call}: the connection to the Docker Engine broke")]
    Lost {
        /// The request.
        call: String,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// No byte went either way for too long.
    #[error("{call}: no byte moved for {seconds} seconds")]
    Stalled {
        /// The request.
        call: String,
        /// Limit.
        seconds: u64,
    },
    /// The answer to a short call did not come in time.
    #[error("{call}: no answer within {seconds} seconds")]
    Timeout {
        /// The request.
        call: String,
        /// Limit.
        seconds: u64,
    },
    /// The answer cannot be understood.
    #[error("{call}: the answer cannot be understood")]
    Malformed {
        /// The request.
        call: String,
        /// Cause.
        #[source]
        source: Cause,
    },
}

/// What a forbidden call was needed for, as a part of a sentence.
fn needed(call: &str) -> String {
    permissions::needed_for(call).map_or_else(String::new, |names| format!(", which is needed for {names}"))
}

/// Why there is no connection through ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshFault {
    /// The machine's key is not known here.
    HostKey,
    /// The machine's key is not the one that is known here.
    HostKeyChanged,
    /// The machine does not let us in.
    Login,
    /// There is no Docker client over there.
    NoClient,
    /// The user over there may not use the Engine.
    EnginePermission,
    /// No Engine answers over there.
    NoEngine,
    /// The machine cannot be reached.
    Unreachable,
    /// Something else; the line that ssh said tells.
    Other,
}

impl fmt::Display for SshFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostKey => "the key of that host is not known here",
            Self::HostKeyChanged => "the key of that host is not the one that is known here",
            Self::Login => "that host does not let us in",
            Self::NoClient => "there is no Docker client on that host",
            Self::EnginePermission => "the user on that host may not use the Docker Engine",
            Self::NoEngine => "no Docker Engine answers on that host",
            Self::Unreachable => "that host cannot be reached",
            Self::Other => "ssh gave up",
        })
    }
}

impl DockerError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Ending { .. }
            | Self::Lost { .. }
            | Self::Stalled { .. }
            | Self::Timeout { .. } => true,
            Self::Api { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Ssh { fault, .. } => matches!(fault, SshFault::Unreachable | SshFault::NoEngine),
            _ => false,
        }
    }

    /// Whether no Engine answers at all, as while it restarts.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoSocket { .. } | Self::Refused { .. } | Self::Unreachable { .. } | Self::Ending { .. } | Self::Lost { .. } => true,
            Self::Ssh { fault, .. } => matches!(fault, SshFault::Unreachable | SshFault::NoEngine),
            _ => false,
        }
    }

    /// Whether the Engine says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Api { status: 404, .. })
    }

    /// Whether the Engine says that what is asked for contradicts what is there (a name that is taken, a container in use).
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { status: 409, .. })
    }

    /// The same, saying by name what is not there if that is what the Engine answered.
    #[must_use]
    pub fn about(self, kind: &'static str, name: &str) -> Self {
        match self {
            Self::Api { status: 404, .. } => Self::NotFound { kind, name: name.to_owned() },
            other => other,
        }
    }

    /// The error that an answer with this status means.
    pub(crate) fn from_status(call: &str, status: u16, message: String) -> Self {
        match status {
            401 | 403 | 405 => Self::Denied { call: call.to_owned(), message },
            500 | 503 if ENDING.iter().any(|words| message.contains(words)) => Self::Ending { call: call.to_owned(), message },
            _ => Self::Api { call: call.to_owned(), status, message },
        }
    }

    /// What a typed call through bollard gave, in our words. Errors of the connection come back as they were made in `wire`.
    pub fn from_bollard(call: &str, error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => Self::from_status(call, status_code, message),
            Error::RequestTimeoutError => Self::Timeout { call: call.to_owned(), seconds: 0 },
            Error::IOError { err } => match err.downcast::<Self>() {
                Ok(ours) => ours,
                Err(err) => Self::Lost { call: call.to_owned(), source: err.into() },
            },
            Error::HyperResponseError { err } => Self::Lost { call: call.to_owned(), source: err.into() },
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => Self::Malformed { call: call.to_owned(), source: error.into() },
            Error::DockerStreamError { error } | Error::DockerContainerWaitError { error, .. } => {
                Self::Api { call: call.to_owned(), status: 500, message: error }
            }
            other => Self::Malformed { call: call.to_owned(), source: other.into() },
        }
    }
}

impl From<DockerError> for io::Error {
    /// For streams: the error can be taken out again with [`io::Error::downcast`].
    fn from(error: DockerError) -> Self {
        let kind = match &error {
            DockerError::Stalled { .. } | DockerError::Timeout { .. } => io::ErrorKind::TimedOut,
            DockerError::Lost { .. } => io::ErrorKind::ConnectionReset,
            DockerError::NotFound { .. } | DockerError::Api { status: 404, .. } => io::ErrorKind::NotFound,
            DockerError::Denied { .. } | DockerError::PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
