//! TLS to an Engine: certificates from files, the handshake, and what a refusal means.
//!
//! Where the files are is decided in `connect`. Certificates are always verified.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, crypto};
use tokio_rustls::{TlsConnector, rustls};

use crate::docker::address::{Address, Endpoint};
use crate::docker::error::{Cause, DockerError};

/// How an Engine proves who it is, and we to it.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of a folder. Without the first this machine's own authorities are trusted;
    /// without the other two we cannot say who we are.
    ///
    /// # Errors
    /// A file is there and of no use, or one of the two is there without the other.
    pub(crate) fn from_folder(folder: Option<&Path>) -> Result<Self, DockerError> {
        let file = |name: &str| folder.map(|folder| folder.join(name)).filter(|path| path.exists());
        let roots = match file("ca.pem") {
            Some(path) => authorities(&path)?,
            None => authorities_of_the_machine()?,
        };
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let unusable = |path: &Path, source: Cause| DockerError::TlsFile { path: path.to_owned(), source };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(folder.unwrap_or(Path::new("")), error.into()))?
            .with_root_certificates(roots);
        let config = match (file("cert.pem"), file("key.pem")) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(&certificate)?;
                let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(&key, cause(error)))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(&key, error.into()))?
            }
            (Some(alone), None) => return Err(unusable(&alone, "there is no key.pem beside it".into())),
            (None, Some(alone)) => return Err(unusable(&alone, "there is no cert.pem beside it".into())),
            (None, None) => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over a connection.
    pub(super) async fn connect(&self, endpoint: &Endpoint, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DockerError> {
    let unusable = |source| DockerError::TlsFile { path: path.to_owned(), source };
    let all =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| unusable(cause(error)))?;
    if all.is_empty() { Err(unusable("there is no certificate in it".into())) } else { Ok(all) }
}

/// An unreadable file is told as the file system tells it.
fn cause(error: pem::Error) -> Cause {
    match error {
        pem::Error::Io(error) => error.into(),
        pem::Error::NoItemsFound => "there is nothing of that kind in it (a key with a passphrase cannot be used)".into(),
        other => other.into(),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, DockerError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| DockerError::TlsFile { path: path.to_owned(), source: error.into() })?;
    }
    Ok(roots)
}

fn authorities_of_the_machine() -> Result<RootCertStore, DockerError> {
    let mut roots = RootCertStore::empty();
    let found = load_native_certs();
    // One that is strange costs only itself; none at all is an error.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let source = match found.errors.into_iter().next() {
            Some(error) => error.into(),
            None => "this machine trusts no certificate authority, and there is no ca.pem".into(),
        };
        return Err(DockerError::TlsFile { path: PathBuf::from("ca.pem"), source });
    }
    Ok(roots)
}

/// What an error of a connection means if TLS is the reason; else none.
pub(super) fn refusal(address: &Address, error: &(dyn Error + 'static)) -> Option<DockerError> {
    use rustls::Error as E;
    let address = address.to_string();
    let found = in_chain(error)?;
    let source: Cause = found.clone().into();
    Some(match found {
        E::InvalidCertificate(error) => DockerError::Certificate { address, reason: distrust(error), source },
        E::AlertReceived(alert) if is_about_us(*alert) => DockerError::ClientCertificate { address, source },
        E::AlertReceived(_) | E::PeerIncompatible(_) | E::PeerMisbehaved(_) | E::InvalidMessage(_) => {
            DockerError::NoTls { address, source }
        }
        _ => return None,
    })
}

/// The first error of rustls in a chain. An `io::Error` hides what it was made from.
fn in_chain<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn distrust(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        // Another authority of the same name gives the second.
        E::UnknownIssuer | E::BadSignature => "nobody that is trusted has signed it",
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name",
        E::Expired | E::ExpiredContext { .. } => "it has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet (is this machine's clock right?)",
        E::Revoked => "it was revoked",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for servers",
        _ => "it is no good certificate",
    }
}

fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateRequired
    )
}
