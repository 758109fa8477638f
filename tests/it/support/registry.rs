//! A registry of images at 127.0.0.1 of the private Engine, over plain HTTP, as the Engine allows it there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::engine::{Engine, busybox_image};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What it has: the type and the bytes of an answer by the path of the request.
type Answers = Arc<Mutex<BTreeMap<String, (&'static str, Vec<u8>)>>>;

/// A registry; it answers as long as the tests run.
pub(crate) struct Registry {
    address: String,
    answers: Answers,
}

impl Registry {
    /// Starts an empty one where the Engine listens.
    pub(crate) fn start(engine: &Engine) -> Self {
        let namespace = File::open(format!("/proc/{}/ns/net", engine.pid())).unwrap();
        let answers = Answers::default();
        let (given, shared) = (mpsc::channel(), Arc::clone(&answers));
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            given.0.send(listener.local_addr().unwrap().to_string()).unwrap();
            for client in listener.incoming() {
                let answers = Arc::clone(&shared);
                // Who breaks off, as the Engine does after trying TLS, is nobody's business.
                thread::spawn(move || drop(answer(client.unwrap(), &answers)));
            }
        });
        Self { address: given.1.recv().unwrap(), answers }
    }

    /// The name that the Engine knows a repository by.
    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Gives an image that has `content` in the file `/built` the tag `1` in a repository; its digest.
    pub(crate) fn publish(&self, repository: &str, content: &str) -> String {
        let mut built = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        built.append_data(&mut header, "built", content.as_bytes()).unwrap();
        let layers = [busybox_image(), built.into_inner().unwrap()];
        let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["sleep", "1000"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>()}});
        let config = config.to_string().into_bytes();
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described("container.image.v1+json", &config),
            "layers": layers.iter().map(|layer| described("image.rootfs.diff.tar.gzip", layer)).collect::<Vec<_>>()});
        let manifest = manifest.to_string().into_bytes();
        let id = digest(&manifest);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in layers.into_iter().chain([config]) {
            answers.insert(format!("/v2/{repository}/blobs/{}", digest(&blob)), ("application/octet-stream", blob));
        }
        for reference in ["1", &id] {
            answers.insert(format!("/v2/{repository}/manifests/{reference}"), (MANIFEST, manifest.clone()));
        }
        id
    }

    /// Forgets an image by its digest, with its configuration: an Engine may know the manifest still. What a tag means is not touched.
    pub(crate) fn forget(&self, repository: &str, digest: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, manifest) = answers.remove(&format!("/v2/{repository}/manifests/{digest}")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        answers.remove(&format!("/v2/{repository}/blobs/{}", manifest["config"]["digest"].as_str().unwrap())).unwrap();
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn answer(stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
        let found = answers.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let (status, kind, body) = match found {
            Some((kind, body)) => ("200 OK", kind, body),
            None if path == "/v2/" => ("200 OK", "application/json", b"{}".to_vec()),
            None => {
                let errors = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
                ("404 Not Found", "application/json", errors.to_string().into_bytes())
            }
        };
        let version = "Docker-Distribution-Api-Version: registry/2.0";
        let head = format!("Content-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}", body.len(), digest(&body));
        write!(stream, "HTTP/1.1 {status}\r\n{version}\r\n{head}\r\n\r\n")?;
        if method != "HEAD" {
            stream.write_all(&body)?;
        }
    }
}
