//! bbackup does not stop what it stands on: the container that it runs in, the proxy through which it reaches the Engine.

use std::os::unix::fs::FileTypeExt as _;

use super::{POLITE, application, start, state};
use crate::support::engine::{SKELETON, Stage};
use crate::support::home::{Home, PASSWORD};
use crate::support::parts::{Part, needs};

/// Carries every connection at a port, or at a socket, to the Engine's own socket.
const PROXY: &str = r#"
use IO::Socket::INET; use IO::Socket::UNIX;
$SIG{CHLD} = "IGNORE";
my $at = shift;
unlink $at;
my $server = $at =~ m{^/} ? IO::Socket::UNIX->new(Local => $at, Listen => 64) : IO::Socket::INET->new(LocalPort => $at, Listen => 64);
while (1) {
    my $client = $server->accept or next;
    next if fork;
    my $engine = IO::Socket::UNIX->new(Peer => "/run/docker.sock") or die;
    my ($from, $to) = fork ? ($client, $engine) : ($engine, $client);
    while (sysread($from, my $data, 65536)) { syswrite($to, $data) or last }
    shutdown($to, 1);
    exit;
}
"#;

fn system(stage: &Stage<'_>, name: &str, options: &[&str], command: &[&str]) -> String {
    let socket = stage.engine().host().replace("unix://", "") + ":/run/docker.sock";
    let (full, data) = (stage.name(name), format!("{}:/data", stage.name(&format!("{name}-data"))));
    stage.ok([&["run", "-d", "--name", &full, "-v", "/usr:/usr:ro", "-v", &data, "-v", &socket][..], options, &[SKELETON], command].concat());
    full
}

#[test]
fn the_container_that_it_runs_in_goes_on() {
    needs!(Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "inside");
    start(&stage, "app", 1, &[], POLITE);
    start(&stage, "lender", 1, &[], POLITE);
    let lender = format!("container:{}", stage.name("lender"));
    for (number, options) in
        [&[][..], &["--hostname", "backup.example"], &["--network", &lender], &["--pid", "host"]].into_iter().enumerate()
    {
        let us = format!("us{number}");
        let program = format!("{}:/bbackup:ro", env!("CARGO_BIN_EXE_bbackup"));
        let name = system(&stage, &us, &[options, &["-v", &program]].concat(), &["sleep", "1000"]);
        let started = stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &name]);
        let password = format!("RESTIC_PASSWORD={PASSWORD}");
        let inside = |arguments: &[&str]| {
            let environment = ["exec", "-e", "DOCKER_HOST=unix:///run/docker.sock", "-e", "HOME=/root", "-e", &password, &name];
            stage.docker([&environment[..], &["/bbackup", "--repo", "/root/repository"], arguments].concat()).run()
        };
        let _ = inside(&["init"]).success();
        let chosen = format!("{name},{},{}", stage.name("app"), stage.name("lender"));
        let outcome = inside(&["backup", "--containers", &chosen]).success();
        let outcome = outcome.says(&format!("{name} is left running: bbackup runs in it")).says(&format!("stopping {}", stage.name("app")));
        assert_eq!(stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &name]), started, "{}", outcome.describe());
        let _ = inside(&["restore", "latest", "--container", &name, "--in-place"]).exits(1).says("bbackup runs in it");
        if options.contains(&"--network") {
            let _ = outcome.says(&format!("{name} runs in its network"));
        }
        for one in ["app", "lender"] {
            assert_eq!(state(&stage, one), "running");
        }
        stage.ok(["rm", "-f", &name]);
    }
}

#[test]
fn the_proxy_that_it_talks_through_goes_on() {
    needs!(Part::Engine, Part::Program("perl"));
    let home = Home::with_repository();
    let stage = Stage::new(&home, "proxied");
    start(&stage, "app", 1, &[], POLITE);
    let folder = home.make_folder("proxy");
    let mount = format!("{}:/proxy", folder.display());
    let tcp = system(&stage, "tcp", &["-p", "127.0.0.1:18375:2375"], &["perl", "-e", PROXY, "2375"]);
    let unix = system(&stage, "unix", &["-v", &mount], &["perl", "-e", PROXY, "/proxy/docker.sock"]);
    let address =
        stage.ok(["inspect", "--format", "{{.NetworkSettings.IPAddress}}{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}}", &tcp]);
    let address = address.split_whitespace().next().unwrap().to_owned();
    let socket = folder.join("docker.sock");
    let ready = std::time::Instant::now();
    while !std::fs::symlink_metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        assert!(ready.elapsed().as_secs() < 20, "the proxy does not come up");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for (name, other, host) in [
        (&tcp, &unix, format!("tcp://{address}:2375")),
        (&tcp, &unix, "tcp://127.0.0.1:18375".to_owned()),
        (&unix, &tcp, format!("unix://{}", socket.display())),
    ] {
        let started = |name: &str| stage.ok(["inspect", "--format", "{{.State.StartedAt}}", name]);
        let before = (started(name), started(other));
        let chosen = format!("{name},{other},{}", stage.name("app"));
        let program = stage.bbackup(["backup", "--json", "--containers", &chosen]).env("DOCKER_HOST", &host);
        let outcome = stage.engine().inside(program).run().success();
        assert_eq!(started(name), before.0, "{host}: {}", outcome.describe());
        assert_ne!(started(other), before.1, "{host}: the other proxy is a container like any other");
        let runs = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"].to_string();
        assert!(runs.contains(&format!("{name} is left running: bbackup reaches the Docker Engine through it")), "{runs}");
        drop(application(&outcome));
        let program = stage.bbackup(["restore", "latest", "--container", name, "--in-place"]).env("DOCKER_HOST", &host);
        let _ = stage.engine().inside(program).run().exits(1).says("bbackup reaches the Docker Engine through it");
        assert_eq!(started(name), before.0, "{host}: the restore has stopped it");
    }
}
