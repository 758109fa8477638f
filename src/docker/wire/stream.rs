//! Makes connections of every kind, and says why there is none.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Tls, ssh, tls};
use crate::docker::address::{Address, Endpoint};
use crate::docker::error::DockerError;
use crate::platform::pipe::Words;

/// A connection, of whatever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Everything that is needed for a connection.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) address: Address,
    pub(super) tls: Option<Tls>,
    /// How long a connection may take to come up.
    pub(super) limit: Duration,
}

impl Dial {
    /// A new connection, and what the program behind it says, if there is one.
    pub(super) async fn connect(&self) -> Result<(Box<dyn Stream>, Option<Words>), DockerError> {
        let address = &self.address;
        let connecting = async {
            let stream: Box<dyn Stream> = match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(endpoint) => Box::new(tcp(endpoint).await?),
                Address::Tls(endpoint) => {
                    let tls = self.tls.as_ref().ok_or_else(|| io::Error::other("TLS was not set up"))?;
                    Box::new(tls.connect(endpoint, tcp(endpoint).await?).await?)
                }
                Address::Ssh(ssh) => {
                    let (pipe, words) = ssh::connect(ssh, self.limit).map_err(io::Error::from)?;
                    return Ok((Box::new(pipe) as Box<dyn Stream>, Some(words)));
                }
            };
            Ok((stream, None))
        };
        let result = timeout(self.limit, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        result.map_err(|error| self.no_connection(error))
    }

    fn no_connection(&self, error: io::Error) -> DockerError {
        let source = match error.downcast::<DockerError>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        if let Some(refusal) = tls::refusal(&self.address, &source) {
            return refusal;
        }
        let address = self.address.to_string();
        match (source.kind(), &self.address) {
            (io::ErrorKind::NotFound, Address::Unix(path)) => DockerError::NoSocket { path: path.clone() },
            (io::ErrorKind::PermissionDenied, _) => DockerError::PermissionDenied { address, source },
            (io::ErrorKind::ConnectionRefused, _) => DockerError::Refused { address, source },
            _ => DockerError::Unreachable { address, source },
        }
    }

    /// What it means that a connection came up and broke before anything came back; none if that has no known reason.
    pub(super) async fn refusal(&self, error: &hyper::Error, words: Option<&Words>) -> Option<DockerError> {
        match words {
            Some(words) => ssh::failure(&self.address, words).await,
            None => tls::refusal(&self.address, error),
        }
    }
}

async fn tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    // A stop or wait moves no byte for minutes; only this tells a quiet Engine from one that is gone.
    set_socket_keepalive(&stream, true)?;
    set_tcp_keepidle(&stream, Duration::from_secs(30))?;
    set_tcp_keepintvl(&stream, Duration::from_secs(10))?;
    Ok(stream)
}
