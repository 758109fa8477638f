//! The Docker client's own contexts on disk: which one is current, where its Engine listens and where its certificates are.
//!
//! They are only read. Whether a context counts at all is decided in `connect`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::DockerError;
use crate::platform::files;

/// The name of what is there without any context.
pub const DEFAULT: &str = "default";
/// No file of a context is longer; what is longer is another file.
const SIZE_LIMIT: u64 = 1 << 20;

/// What a context says of its Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The Engine's address.
    pub host: String,
    /// The folder of its certificates; none if it has none.
    pub certificates: Option<PathBuf>,
}

/// `config.json` of the Docker client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientConfig {
    #[serde(default)]
    current_context: String,
}

/// `meta.json` of a context.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Deserialize, Default)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The context that the Docker client uses by itself; none for the default one.
///
/// # Errors
/// The client's configuration is there and cannot be read: whatever it says, another Engine than the client's would be wrong.
pub fn current(folder: &Path) -> Result<Option<String>, DockerError> {
    let path = folder.join("config.json");
    let config: Option<ClientConfig> = read(&path).map_err(|source| DockerError::ClientFile { path, source })?;
    Ok(config.map(|config| config.current_context).filter(|name| !name.is_empty() && name != DEFAULT))
}

/// Looks a context up by its name.
///
/// # Errors
/// There is none of that name, or it is of no use.
pub fn load(folder: &Path, name: &str) -> Result<Context, DockerError> {
    let unusable = |reason| DockerError::Context { name: name.to_owned(), reason };
    let id = identifier(name);
    let path = folder.join("contexts/meta").join(&id).join("meta.json");
    let meta: Option<Meta> = read(&path).map_err(|source| DockerError::ClientFile { path, source })?;
    let Some(meta) = meta else {
        return Err(DockerError::NoContext { name: name.to_owned(), known: names(folder) });
    };
    let Some(endpoint) = meta.endpoints.docker.filter(|endpoint| !endpoint.host.is_empty()) else {
        return Err(unusable("it has no Docker Engine"));
    };
    if endpoint.skip_tls_verify {
        return Err(unusable("it asks for TLS without looking at the certificate, and bbackup always looks: give the context its CA"));
    }
    let certificates = folder.join("contexts/tls").join(id).join("docker");
    Ok(Context { host: endpoint.host, certificates: certificates.is_dir().then_some(certificates) })
}

/// The names of all contexts that can be read, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("contexts/meta")).into_iter().flatten().flatten();
    let meta = entries.filter_map(|entry| read::<Meta>(&entry.path().join("meta.json")).ok().flatten());
    let mut names: Vec<String> = meta.map(|meta| meta.name).filter(|name| !name.is_empty()).collect();
    names.sort();
    names
}

/// A context's folder is called by the digest of its name.
fn identifier(name: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(name.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A JSON file; none if it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match files::read_text(path, SIZE_LIMIT) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(io::Error::from),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_is_called_by_the_digest_of_its_name() {
        // What `docker context create nas` makes.
        assert_eq!(identifier("nas"), "047de0f543c7e3596bb6dbd0e65f2c30357720a63eca423f08c52fae314f6806");
    }

    #[test]
    fn the_clients_files_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(current(folder).unwrap(), None, "there is nothing");
        let config = folder.join("config.json");
        for (text, expected) in
            [("{}", None), (r#"{"currentContext":"default"}"#, None), (r#"{"auths":{},"currentContext":"nas"}"#, Some("nas"))]
        {
            write(&config, text);
            assert_eq!(current(folder).unwrap().as_deref(), expected, "{text}");
        }
        write(&config, "{");
        assert!(matches!(current(folder), Err(DockerError::ClientFile { .. })));

        let meta = |name: &str| folder.join("contexts/meta").join(identifier(name)).join("meta.json");
        write(&meta("nas"), r#"{"Name":"nas","Metadata":{},"Endpoints":{"docker":{"Host":"ssh://nas","SkipTLSVerify":false}}}"#);
        write(&meta("bare"), r#"{"Name":"bare","Endpoints":{"kubernetes":{}}}"#);
        write(&meta("lax"), r#"{"Name":"lax","Endpoints":{"docker":{"Host":"tcp://h:2376","SkipTLSVerify":true}}}"#);
        assert_eq!(load(folder, "nas").unwrap(), Context { host: "ssh://nas".to_owned(), certificates: None });
        let certificates = folder.join("contexts/tls").join(identifier("nas")).join("docker");
        write(&certificates.join("ca.pem"), "");
        assert_eq!(load(folder, "nas").unwrap().certificates, Some(certificates));
        for name in ["bare", "lax"] {
            assert!(matches!(load(folder, name), Err(DockerError::Context { .. })), "{name}");
        }
        let missing = load(folder, "../nas").unwrap_err().to_string();
        assert!(missing.contains("bare, lax, nas"), "{missing}");
    }
}
