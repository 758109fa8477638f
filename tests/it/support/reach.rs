//! What an Engine on another machine is reached with: certificates made by openssl, a private sshd with keys of its own.

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::parts;
use super::run::Program;

/// A certificate authority with one server and one client. The files are called as the Docker client wants them.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them. The server is 127.0.0.1 and localhost.
    pub(crate) fn make(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(folder, &format!("req -x509 {new} -keyout ca-key.pem -out ca.pem -subj /CN=test-authority -days 2"));
        for (name, extensions) in [
            ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n"),
            ("client", "extendedKeyUsage=clientAuth\n"),
        ] {
            fs::write(folder.join("extensions"), extensions).unwrap();
            openssl(folder, &format!("req {new} -keyout {name}-key.pem -out {name}.csr -subj /CN={name}"));
            openssl(
                folder,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out {name}.pem -days 2 -extfile extensions"
                ),
            );
        }
        let certificates = Self { folder: folder.to_owned() };
        let client = certificates.client();
        fs::create_dir(&client).unwrap();
        for (from, to) in [("ca.pem", "ca.pem"), ("client.pem", "cert.pem"), ("client-key.pem", "key.pem")] {
            fs::copy(folder.join(from), client.join(to)).unwrap();
        }
        certificates
    }

    /// The folder of the client's three files.
    pub(crate) fn client(&self) -> PathBuf {
        self.folder.join("client")
    }

    /// A folder with some of them, by name.
    pub(crate) fn some(&self, name: &str, files: &[&str]) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        for file in files {
            fs::copy(self.client().join(file), folder.join(file)).unwrap();
        }
        folder
    }

    /// Arguments of a `dockerd` that shows the server's certificate and wants the client's.
    pub(crate) fn arguments(&self, port: u16) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![
            format!("--host=tcp://0.0.0.0:{port}"),
            "--tlsverify".to_owned(),
            format!("--tlscacert={}", path("ca.pem")),
            format!("--tlscert={}", path("server.pem")),
            format!("--tlskey={}", path("server-key.pem")),
        ]
    }
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A private sshd on 127.0.0.1 that lets one key in as the user that the tests run as.
pub(crate) struct Sshd {
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Sshd {
    /// Starts it. `environment` is what its sessions get.
    pub(crate) fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        for key in ["host", "user", "stranger"] {
            let output = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.join(name).display().to_string();
        let variables: Vec<String> = environment.iter().map(|(name, value)| format!("\"{name}={value}\"")).collect();
        let variables = if variables.is_empty() { String::new() } else { format!("SetEnv {}\n", variables.join(" ")) };
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nLogLevel VERBOSE\n{variables}",
            path("host"),
            path("user.pub"),
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        // Where it locks itself up before somebody has logged in.
        fs::create_dir_all("/run/sshd").unwrap();
        let child = Command::new(parts::program("sshd", "").unwrap())
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let sshd = Self { folder: folder.to_owned(), port, child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "sshd does not listen: {}", sshd.log());
            thread::sleep(Duration::from_millis(20));
        }
        sshd.knows("host");
        sshd.logs_in_with("user");
        sshd
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its address, with a path behind it.
    pub(crate) fn host(&self, path: &str) -> String {
        format!("ssh://root@127.0.0.1:{}{path}", self.port)
    }

    /// The user knows the host by this key; none: not at all.
    pub(crate) fn knows(&self, key: impl Into<Option<&'static str>>) {
        let known = key.into().map(|key| {
            let key = fs::read_to_string(self.folder.join(format!("{key}.pub"))).unwrap();
            format!("[127.0.0.1]:{} {key}", self.port)
        });
        fs::write(self.folder.join("known_hosts"), known.unwrap_or_default()).unwrap();
    }

    /// The user has this key.
    pub(crate) fn logs_in_with(&self, key: &str) {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let config = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
            path(key),
            path("known_hosts"),
        );
        fs::write(self.folder.join("ssh_config"), config).unwrap();
        // ssh takes the home of the user database, whatever `HOME` says: so the real one is told where its files are.
        let bin = self.folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let real = parts::program("ssh", "").unwrap();
        fs::write(bin.join("ssh"), format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", real.display(), path("ssh_config"))).unwrap();
        fs::set_permissions(bin.join("ssh"), Permissions::from_mode(0o755)).unwrap();
    }

    /// A program that has the user's ssh.
    pub(crate) fn user(&self, program: Program) -> Program {
        let mut path = self.folder.join("bin").into_os_string();
        path.push(":");
        path.push(parts::search_path());
        program.env("PATH", path)
    }

    /// How many sessions there were.
    pub(crate) fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Cuts every session that is there, and says how many.
    pub(crate) fn cut(&self) -> usize {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap();
        let children: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        for pid in &children {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        children.len()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
