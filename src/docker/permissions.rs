//! Every call that is made to an Engine and what it is for, in one place: for the documentation, for errors that say what a
//! forbidden call was needed for, and for tests that compare it with what is really called.
//!
//! Making the calls is the business of the modules beside it.

use std::fmt::Write as _;

/// Something that bbackup does and that needs calls of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// What it is, as the end of “… is needed for”.
    pub name: &'static str,
    /// Which commands it is part of, and what happens without it.
    pub about: &'static str,
    /// Its calls.
    pub calls: &'static [Call],
}

/// A call of the Engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// HTTP method.
    pub method: &'static str,
    /// Path behind the version; `*` stands for one name or id.
    pub path: &'static str,
    /// What for.
    pub purpose: &'static str,
}

const fn call(method: &'static str, path: &'static str, purpose: &'static str) -> Call {
    Call { method, path, purpose }
}

const GET: &str = "GET";
const POST: &str = "POST";
const PUT: &str = "PUT";
const DELETE: &str = "DELETE";

/// All of them.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "looking at the Engine",
        about: "Every command that has to do with Docker; `list-containers`, `list-volumes`, `list-networks`, `coverage` need nothing \
                else, and a `--dry-run` only logs and changes besides. Without those on images their digests and what they are made for are not recorded, and a warning says so; without one of the others nothing is done.",
        calls: &[
            call(GET, "/version", "which API the Engine speaks"),
            call(GET, "/info", "which Engine it is, where its data is"),
            call(GET, "/containers/json", "which containers there are"),
            call(GET, "/containers/*/json", "the configuration of each, which is what is saved of it"),
            call(GET, "/volumes", "which volumes there are"),
            call(GET, "/volumes/*", "a volume as it is right before it is read"),
            call(GET, "/networks", "which networks there are"),
            call(GET, "/networks/*", "the configuration of each, which is what is saved of it"),
            call(GET, "/images/json", "the digests of images"),
            call(GET, "/images/*/json", "what those of the containers are made for"),
        ],
    },
    Feature {
        name: "saving logs",
        about: "`backup` with `scope.logs`. Without it the logs of a container are an item that failed; `--no-logs` does without.",
        calls: &[call(GET, "/containers/*/logs", "the last lines")],
    },
    Feature {
        name: "what containers wrote outside their mounts",
        about: "`backup`: looked at in any case, saved with `scope.layers: true`. Without the first a note says that it is not known; without the second, \
                where it is wanted, it is an item that failed.",
        calls: &[call(GET, "/containers/*/changes", "which files it has written"), call(GET, "/containers/*/export", "these files")],
    },
    Feature {
        name: "saving images",
        about: "`backup` with `scope.images: local`. Without it the image is an item that failed.",
        calls: &[call(GET, "/images/*/get", "images that no registry has"), call(GET, "/images/*/json", "whether its name still means it")],
    },
    Feature {
        name: "commands in containers",
        about: "`backup` where labels or the set name some. Without it such a command has failed.",
        calls: &[
            call(POST, "/containers/*/exec", "the command"),
            call(POST, "/exec/*/start", "running it and what it prints"),
            call(GET, "/exec/*/json", "its exit code"),
        ],
    },
    Feature {
        name: "stopping containers while they are read",
        about: "`backup` with `consistency: stop`. Without the first an application that runs is not read; nobody must forbid only the second: what was stopped would stay so.",
        calls: &[call(POST, "/containers/*/stop", "before its volumes are read"), call(POST, "/containers/*/start", "afterwards")],
    },
    Feature {
        name: "pausing containers while they are read",
        about: "`backup` with `consistency: pause`, and wherever a container must not be stopped. The same holds of the two.",
        calls: &[call(POST, "/containers/*/pause", "before its volumes are read"), call(POST, "/containers/*/unpause", "afterwards")],
    },
    Feature {
        name: "seeing who writes to what is read",
        about: "`backup` where containers have to keep still. Without it a note says that containers that come and go while a volume is read (`docker run --rm`) are not seen; those that are still there are.",
        calls: &[call(GET, "/events", "containers that are started meanwhile")],
    },
    Feature {
        name: "scaling services of a swarm",
        about: "`backup` where a task of a swarm would be stopped. The first is asked for its labels, also by a `--dry-run`; the others only with `docker.swarm: scale` or the label \
                `bbackup.swarm`. Without it the tasks are paused, and a note says why; nobody must forbid it in the middle: what was scaled to 0 would stay so.",
        calls: &[
            call(GET, "/services/*", "whether and how it is to be scaled, and whether somebody else changed it"),
            call(POST, "/services/*/update", "to 0 before volumes are read, and back afterwards"),
            call(GET, "/tasks", "whether all of its tasks have ended, and run again"),
            call(GET, "/containers/json", "the same of those on this node"),
            call(GET, "/nodes/*", "whether a node with such a task is lost; without it the task is waited for"),
        ],
    },
    Feature {
        name: "reading volumes through a helper",
        about: "`backup` where a volume, bind mount or compose file cannot be read as files: an Engine on another machine, a driver or options. Without it such a volume or bind mount is an item that failed, and a warning names the compose files.",
        calls: &[
            call(GET, "/images/*/json", "whether the empty image is there"),
            call(POST, "/images/create", "the empty image, made from nothing"),
            call(POST, "/containers/create", "the helper, which is never started"),
            call(GET, "/containers/*/archive", "the files"),
            call(DELETE, "/containers/*", "the helper again"),
            call(DELETE, "/volumes/*", "a volume that appeared only because the helper named it, as somebody removed it that very moment"),
        ],
    },
    Feature {
        name: "writing volumes through a helper",
        about: "`restore` where a volume cannot be written as files. The helper is made and removed as above.",
        calls: &[
            call(GET, "/images/*/json", "whether the empty image is there"),
            call(POST, "/images/create", "the empty image, made from nothing"),
            call(POST, "/containers/create", "the helper, which is never started"),
            call(PUT, "/containers/*/archive", "the files"),
            call(DELETE, "/containers/*", "the helper again"),
        ],
    },
    Feature {
        name: "restoring applications",
        about: "`restore` without `--to`. What is forbidden stops the restore of that application, and what was made for it is removed again.",
        calls: &[
            call(POST, "/images/create", "pulling an image that is not there"),
            call(POST, "/images/load", "images that the snapshot brings"),
            call(GET, "/images/*/json", "whether an image without a name is there"),
            call(POST, "/images/*/tag", "the name that the image had"),
            call(POST, "/networks/create", "networks"),
            call(POST, "/volumes/create", "volumes"),
            call(POST, "/containers/create", "containers"),
            call(PUT, "/containers/*/archive", "what it had written outside its mounts"),
            call(POST, "/networks/*/connect", "a container's further networks"),
            call(POST, "/networks/*/disconnect", "a network that the Engine joined by itself"),
            call(POST, "/containers/*/start", "containers that ran"),
            call(POST, "/containers/*/pause", "containers that were paused"),
            call(POST, "/containers/*/stop", "with `--in-place`: what is there"),
            call(
                POST,
                "/containers/*/update",
                "with `--in-place`: what has to stay stopped is not started by an Engine that restarts; without it a warning says so",
            ),
            call(POST, "/containers/*/rename", "with `--in-place`: what is there is set aside, and put back when the rest fails"),
            call(DELETE, "/containers/*", "taking back what was made, when the rest fails"),
            call(DELETE, "/volumes/*", "taking back what was made, when the rest fails"),
            call(DELETE, "/networks/*", "taking back what was made, when the rest fails"),
        ],
    },
];

impl Call {
    /// Whether a request is this call.
    pub fn is(&self, method: &str, path: &str) -> bool {
        let path = unversioned(path.split('?').next().unwrap_or_default());
        let mut asked = path.split('/');
        let alike = self.path.split('/').all(|part| asked.next().is_some_and(|asked| part == asked || (part == "*" && !asked.is_empty())));
        method == self.method && alike && asked.next().is_none()
    }
}

/// A path without the version in front.
fn unversioned(path: &str) -> &str {
    let rest = path.strip_prefix("/v").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    rest.and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path)
}

/// The features that need a request (`POST /containers/x/stop`), for people; none for one that is not listed.
pub fn needed_for(request: &str) -> Option<String> {
    let (method, path) = request.split_once(' ')?;
    let needs = |feature: &&Feature| feature.calls.iter().any(|call| call.is(method, path));
    let names: Vec<&str> = FEATURES.iter().filter(needs).map(|feature| feature.name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The list as it stands in `docs/docker-permissions.md`.
pub fn markdown() -> String {
    let mut text = String::new();
    for feature in FEATURES {
        let mut name = feature.name.to_owned();
        name[..1].make_ascii_uppercase();
        let _ = write!(text, "## {name}\n\n{}\n\n| call | for |\n|---|---|\n", feature.about);
        for call in feature.calls {
            let _ = writeln!(text, "| `{} {}` | {} |", call.method, call.path, call.purpose);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_whatever_it_names() {
        let stop = "stopping containers while they are read, restoring applications";
        assert_eq!(needed_for("POST /containers/ab12/stop").as_deref(), Some(stop));
        assert_eq!(needed_for("POST /v1.41/containers/ab12/stop?t=5").as_deref(), Some(stop));
        assert_eq!(needed_for("GET /volumes/volumes").as_deref(), Some("looking at the Engine"));
        assert!(
            needed_for("POST /containers/create?name=x")
                .is_some_and(|names| names.contains("through a helper") && names.contains("restoring"))
        );
        for unknown in ["POST /volumes/prune", "GET /containers/a/b/c", "DELETE /containers/a/stop", "GET /containers//json", "nonsense"] {
            assert_eq!(needed_for(unknown), None, "{unknown}");
        }
    }
}
