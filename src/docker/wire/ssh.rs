//! Another machine's Engine through the `ssh` program: `docker system dial-stdio` over there joins its standard input and
//! output to the Engine's socket.
//!
//! ssh's own configuration, agent and keys are used. Host keys are strict: an unknown one is refused and never added.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::docker::address::{Address, Ssh};
use crate::docker::error::{DockerError, SshFault};
use crate::model::text::printable;
use crate::platform::pipe::{self, Pipe, Words};

const PROGRAM: &str = "ssh";
/// How long a program that has closed its output may take for its last words.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Starts ssh. That it could not log in shows only when nothing comes back.
pub(super) fn connect(ssh: &Ssh, limit: Duration) -> Result<(Pipe, Words), DockerError> {
    pipe::open(PROGRAM, arguments(ssh, limit)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DockerError::NoSsh { source },
        _ => DockerError::Unreachable { address: Address::Ssh(ssh.clone()).to_string(), source },
    })
}

fn arguments(ssh: &Ssh, limit: Duration) -> Vec<OsString> {
    let options = [
        "StrictHostKeyChecking=yes".to_owned(),
        // Nobody is there to be asked.
        "BatchMode=yes".to_owned(),
        format!("ConnectTimeout={}", limit.as_secs().max(1)),
        // A stop or wait moves no byte for minutes; only this tells a quiet Engine from one that is gone.
        "ServerAliveInterval=15".to_owned(),
        "ServerAliveCountMax=4".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ForwardX11=no".to_owned(),
        "PermitLocalCommand=no".to_owned(),
        "RemoteCommand=none".to_owned(),
        "RequestTTY=no".to_owned(),
        // Only what went wrong: it ends up in our error.
        "LogLevel=ERROR".to_owned(),
    ];
    let mut words: Vec<OsString> = Vec::new();
    for option in options {
        words.extend(["-o".into(), option.into()]);
    }
    if let Some(user) = &ssh.user {
        words.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = ssh.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(["--".into(), (&ssh.host).into(), "docker".into()]);
    if let Some(socket) = &ssh.socket {
        // A shell over there takes this apart.
        words.extend(["-H".into(), format!("'unix://{}'", socket.replace('\'', r"'\''")).into()]);
    }
    words.extend(["system".into(), "dial-stdio".into()]);
    words
}

/// What it means that a connection through ssh ended before anything came back.
pub(super) async fn failure(address: &Address, words: &Words) -> Option<DockerError> {
    let said = words.last(LAST_WORDS).await;
    if said.is_empty() {
        return None;
    }
    let fault = fault(&said);
    Some(DockerError::Ssh { address: address.to_string(), fault, said: last_line(&said) })
}

fn fault(said: &str) -> SshFault {
    let said = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["remote host identification has changed", "host key for", "offending"]) && has(&["has changed"]) {
        SshFault::HostKeyChanged
    } else if has(&["host key verification failed", "host key is known"]) {
        SshFault::HostKey
    } else if has(&["docker daemon socket", "/docker.sock: connect: permission denied"]) && has(&["permission denied"]) {
        SshFault::EnginePermission
    } else if has(&["cannot connect to the docker daemon", "docker.sock: no such file", "dial unix", "dial tcp"]) {
        SshFault::NoEngine
    } else if has(&["permission denied", "too many authentication failures", "no more authentication methods"]) {
        SshFault::Login
    } else if has(&["command not found", "docker: not found", "docker: no such file", "unknown command: docker system dial-stdio"]) {
        SshFault::NoClient
    } else if has(&[
        "could not resolve",
        "connection refused",
        "timed out",
        "no route to host",
        "network is unreachable",
        "connection reset",
    ]) {
        SshFault::Unreachable
    } else {
        SshFault::Other
    }
}

/// The line that says most: ssh and the Docker client end with it.
fn last_line(said: &str) -> String {
    printable(said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_shell_gets_one_word_for_the_socket() {
        let ssh = Ssh { user: Some("me".to_owned()), host: "nas".to_owned(), port: Some(2222), socket: Some("/a b/it's.sock".to_owned()) };
        let words: Vec<String> = arguments(&ssh, Duration::from_secs(10)).into_iter().filter_map(|word| word.into_string().ok()).collect();
        let line = words.join(" ");
        assert!(line.starts_with("-o StrictHostKeyChecking=yes -o BatchMode=yes -o ConnectTimeout=10 "), "{line}");
        assert!(line.ends_with(r"-l me -p 2222 -- nas docker -H 'unix:///a b/it'\''s.sock' system dial-stdio"), "{line}");
    }

    #[test]
    fn what_ssh_says_is_understood() {
        for (said, expected) in [
            (
                "No ED25519 host key is known for [127.0.0.1]:2222 and you have requested strict checking.\nHost key verification failed.",
                SshFault::HostKey,
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key for h has changed and you have requested strict checking.\nHost key verification failed.",
                SshFault::HostKeyChanged,
            ),
            ("root@h: Permission denied (publickey).", SshFault::Login),
            ("bash: line 1: docker: command not found", SshFault::NoClient),
            ("sh: 1: docker: not found", SshFault::NoClient),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
                SshFault::EnginePermission,
            ),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", SshFault::NoEngine),
            ("ssh: connect to host h port 22: Connection refused", SshFault::Unreachable),
            ("ssh: Could not resolve hostname nowhere: Name or service not known", SshFault::Unreachable),
            ("kex_exchange_identification: banner line contains invalid characters", SshFault::Other),
        ] {
            assert_eq!(fault(said), expected, "{said}");
        }
        assert_eq!(last_line("first\n  second\x1b \n\n"), "second\\x1b");
    }
}
