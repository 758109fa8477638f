//! The one table of every field that creating a container takes: how it is made again, how it is compared, and since which
//! API version an Engine knows it.
//!
//! `create` makes a container from it, `normalise` compares with it, and the tests make sure that every field in it was tried
//! on a real Engine. A field that is not in it (of an Engine later than this program) is sent as it is and compared plainly.

use serde_json::Value;

use super::json::is_default;

/// How one field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Absent, null, empty, false and zero are one. The rule of every field that the table does not name.
    Plain,
    /// Only null and absent are one: zero, false or -1 mean something else than nothing.
    Exact,
    /// A list in which order means nothing.
    Set,
    /// Capabilities: a set, with or without `CAP_` in front (the Engine adds it from 20.10 on).
    Capabilities,
    /// A mode that may name a container by id.
    Mode,
    /// The network mode, which may also name a network by id.
    NetworkMode,
    /// A list of references to containers.
    VolumesFrom,
    /// Links in either form.
    Links,
    /// Published ports; `0` and an empty host port both mean a random one.
    Ports,
    /// A restart policy; an empty name means `no`.
    RestartPolicy,
    /// The host name, unless it was made up.
    Hostname,
    /// The image's name, unless it is an id: a container whose tag has moved on is made by id.
    Image,
    /// Not compared here; the text says why.
    Not(&'static str),
}

/// How one field comes into the body of create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// As inspect gave it.
    Same,
    /// With the names that things have now in the place of ids and old names.
    Named,
    /// Put together anew, from what the text says.
    Anew(&'static str),
    /// Not at all; the text says why.
    Dropped(&'static str),
}

/// One field of `Config` or `HostConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// `Config.Env`, `HostConfig.Memory`.
    pub path: &'static str,
    /// How it is made again.
    pub made: Made,
    /// How it is compared.
    pub rule: Rule,
}

const fn same(path: &'static str) -> Field {
    Field { path, made: Made::Same, rule: Rule::Plain }
}

const fn exact(path: &'static str) -> Field {
    Field { path, made: Made::Same, rule: Rule::Exact }
}

const fn by(path: &'static str, rule: Rule) -> Field {
    Field { path, made: Made::Same, rule }
}

const fn named(path: &'static str, rule: Rule) -> Field {
    Field { path, made: Made::Named, rule }
}

const fn anew(path: &'static str, from: &'static str, rule: Rule) -> Field {
    Field { path, made: Made::Anew(from), rule }
}

const fn dropped(path: &'static str, why: &'static str) -> Field {
    Field { path, made: Made::Dropped(why), rule: Rule::Not(why) }
}

/// Every field that `POST /containers/create` takes from API 1.41 to 1.51, networks and name aside.
pub const FIELDS: &[Field] = &[
    same("Config.ArgsEscaped"),
    same("Config.AttachStderr"),
    same("Config.AttachStdin"),
    same("Config.AttachStdout"),
    same("Config.Cmd"),
    same("Config.Domainname"),
    anew("Config.Entrypoint", "inspect; one that is missing takes the image's away", Rule::Plain),
    same("Config.Env"),
    same("Config.ExposedPorts"),
    same("Config.Healthcheck"),
    anew("Config.Hostname", "inspect, unless it was made up", Rule::Hostname),
    anew("Config.Image", "the image that was found", Rule::Image),
    same("Config.Labels"),
    anew("Config.MacAddress", "the endpoint", Rule::Not("in Networks: from API 1.44 on it stands with the endpoint")),
    same("Config.NetworkDisabled"),
    same("Config.OnBuild"),
    same("Config.OpenStdin"),
    same("Config.Shell"),
    same("Config.StdinOnce"),
    same("Config.StopSignal"),
    exact("Config.StopTimeout"),
    same("Config.Tty"),
    same("Config.User"),
    by("Config.Volumes", Rule::Not("in Mounts")),
    same("Config.WorkingDir"),
    same("HostConfig.Annotations"),
    same("HostConfig.AutoRemove"),
    anew("HostConfig.Binds", "what was bound, and the anonymous volumes by name", Rule::Not("in Mounts")),
    same("HostConfig.BlkioDeviceReadBps"),
    same("HostConfig.BlkioDeviceReadIOps"),
    same("HostConfig.BlkioDeviceWriteBps"),
    same("HostConfig.BlkioDeviceWriteIOps"),
    same("HostConfig.BlkioWeight"),
    same("HostConfig.BlkioWeightDevice"),
    by("HostConfig.CapAdd", Rule::Capabilities),
    by("HostConfig.CapDrop", Rule::Capabilities),
    same("HostConfig.Capabilities"),
    same("HostConfig.Cgroup"),
    same("HostConfig.CgroupParent"),
    named("HostConfig.CgroupnsMode", Rule::Plain),
    by("HostConfig.ConsoleSize", Rule::Not("the size of the client's terminal")),
    dropped("HostConfig.ContainerIDFile", "a file of the client"),
    same("HostConfig.CpuCount"),
    same("HostConfig.CpuPercent"),
    same("HostConfig.CpuPeriod"),
    same("HostConfig.CpuQuota"),
    same("HostConfig.CpuRealtimePeriod"),
    same("HostConfig.CpuRealtimeRuntime"),
    same("HostConfig.CpuShares"),
    same("HostConfig.CpusetCpus"),
    same("HostConfig.CpusetMems"),
    same("HostConfig.DeviceCgroupRules"),
    same("HostConfig.DeviceRequests"),
    same("HostConfig.Devices"),
    same("HostConfig.Dns"),
    same("HostConfig.DnsOptions"),
    same("HostConfig.DnsSearch"),
    same("HostConfig.ExtraHosts"),
    same("HostConfig.GroupAdd"),
    same("HostConfig.IOMaximumBandwidth"),
    same("HostConfig.IOMaximumIOps"),
    exact("HostConfig.Init"),
    named("HostConfig.IpcMode", Rule::Mode),
    by("HostConfig.Isolation", Rule::Not("Windows only; `default` or empty elsewhere, by version")),
    same("HostConfig.KernelMemory"),
    same("HostConfig.KernelMemoryTCP"),
    named("HostConfig.Links", Rule::Links),
    same("HostConfig.LogConfig"),
    by("HostConfig.MaskedPaths", Rule::Set),
    same("HostConfig.Memory"),
    same("HostConfig.MemoryReservation"),
    same("HostConfig.MemorySwap"),
    exact("HostConfig.MemorySwappiness"),
    anew("HostConfig.Mounts", "what was mounted, volumes by name", Rule::Not("in Mounts")),
    same("HostConfig.NanoCpus"),
    named("HostConfig.NetworkMode", Rule::NetworkMode),
    same("HostConfig.OomKillDisable"),
    same("HostConfig.OomScoreAdj"),
    named("HostConfig.PidMode", Rule::Mode),
    same("HostConfig.PidsLimit"),
    named("HostConfig.PortBindings", Rule::Ports),
    same("HostConfig.Privileged"),
    same("HostConfig.PublishAllPorts"),
    by("HostConfig.ReadonlyPaths", Rule::Set),
    same("HostConfig.ReadonlyRootfs"),
    by("HostConfig.RestartPolicy", Rule::RestartPolicy),
    same("HostConfig.Runtime"),
    same("HostConfig.SecurityOpt"),
    same("HostConfig.ShmSize"),
    same("HostConfig.StorageOpt"),
    same("HostConfig.Sysctls"),
    same("HostConfig.Tmpfs"),
    named("HostConfig.UTSMode", Rule::Mode),
    same("HostConfig.Ulimits"),
    named("HostConfig.UsernsMode", Rule::Plain),
    same("HostConfig.VolumeDriver"),
    named("HostConfig.VolumesFrom", Rule::VolumesFrom),
];

/// The rule of a field; one that the table does not name is compared plainly.
pub fn rule(path: &str) -> Rule {
    FIELDS.binary_search_by(|field| field.path.cmp(path)).map_or(Rule::Plain, |index| FIELDS[index].rule)
}

/// What is lost where an Engine does not know something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The container would do something else than it did: it is not made.
    Wrong,
    /// It does what it did, less well: somebody should know.
    Lesser,
}

/// Something inside of inspect that not every API version from 1.41 on knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Where it is; `*` stands for every element.
    pub path: &'static str,
    /// Only this value counts; none for any that somebody set.
    pub value: Option<&'static str>,
    /// What it is, for people.
    pub what: &'static str,
    /// The first version that knows it.
    pub since: (u64, u64),
    /// The last version that knows it.
    pub until: Option<(u64, u64)>,
    /// What is lost without.
    pub without: Without,
}

const fn since(path: &'static str, what: &'static str, since: (u64, u64), without: Without) -> Feature {
    Feature { path, value: None, what, since, until: None, without }
}

/// What is not in every API version from 1.41 to 1.51. An Engine passes over what it does not know without a word.
pub const FEATURES: &[Feature] = &[
    since("Config/Healthcheck/StartInterval", "the interval of the health check while it starts", (1, 44), Without::Lesser),
    since("HostConfig/Annotations", "annotations", (1, 43), Without::Lesser),
    Feature {
        value: Some("cdi"),
        ..since("HostConfig/DeviceRequests/*/Driver", "devices by the Container Device Interface", (1, 44), Without::Wrong)
    },
    Feature { until: Some((1, 41)), ..since("HostConfig/KernelMemory", "the limit of kernel memory", (1, 41), Without::Lesser) },
    since("HostConfig/Mounts/*/BindOptions/CreateMountpoint", "a bind mount that makes its folder", (1, 42), Without::Lesser),
    since(
        "HostConfig/Mounts/*/BindOptions/ReadOnlyForceRecursive",
        "a bind mount that is read-only all the way down",
        (1, 44),
        Without::Wrong,
    ),
    since("HostConfig/Mounts/*/BindOptions/ReadOnlyNonRecursive", "a bind mount that is read-only at its top", (1, 44), Without::Lesser),
    since("HostConfig/Mounts/*/TmpfsOptions/Options", "options of a mount in memory", (1, 46), Without::Wrong),
    Feature { value: Some("cluster"), ..since("HostConfig/Mounts/*/Type", "a mount of a cluster volume", (1, 42), Without::Wrong) },
    Feature { value: Some("image"), ..since("HostConfig/Mounts/*/Type", "a mount of an image", (1, 48), Without::Wrong) },
    since("HostConfig/Mounts/*/VolumeOptions/Subpath", "a mount of a part of a volume", (1, 45), Without::Wrong),
    since(
        "NetworkSettings/Networks/*/DriverOpts/com.docker.network.endpoint.ifname",
        "the name of a network's interface",
        (1, 48),
        Without::Lesser,
    ),
    since(
        "NetworkSettings/Networks/*/DriverOpts/com.docker.network.endpoint.sysctls",
        "kernel settings of one network's interface",
        (1, 46),
        Without::Lesser,
    ),
    since("NetworkSettings/Networks/*/GwPriority", "the priority of a network as gateway", (1, 48), Without::Lesser),
];

/// What of `inspect` an Engine of this API version does not know.
pub fn unknown_to(inspect: &Value, api: (u64, u64)) -> impl Iterator<Item = &'static Feature> {
    let lacks = move |feature: &&Feature| api < feature.since || feature.until.is_some_and(|until| api > until);
    FEATURES.iter().filter(lacks).filter(|feature| is_used(inspect, feature))
}

fn is_used(value: &Value, feature: &Feature) -> bool {
    any_at(value, feature.path, &|found| match feature.value {
        Some(wanted) => found.as_str() == Some(wanted),
        None => !is_default(found),
    })
}

fn any_at(value: &Value, path: &str, holds: &dyn Fn(&Value) -> bool) -> bool {
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let deeper = |value: &Value| match rest {
        Some(rest) => any_at(value, rest, holds),
        None => holds(value),
    };
    match (value, first) {
        (Value::Array(items), "*") => items.iter().any(deeper),
        (Value::Object(fields), "*") => fields.values().any(deeper),
        (Value::Object(fields), name) => fields.get(name).is_some_and(deeper),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_field_once() {
        assert!(FIELDS.windows(2).all(|pair| pair[0].path < pair[1].path));
        assert_eq!(rule("HostConfig.Init"), Rule::Exact);
        assert_eq!(rule("HostConfig.OfTomorrow"), Rule::Plain);
    }

    #[test]
    fn every_field_that_an_engine_shows_is_in_the_table() {
        for name in ["rich", "mac", "linked", "joined-namespaces"] {
            let path = format!("{}/tests/fixtures/docker/api-1.41/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let inspect: Value = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            for part in ["Config", "HostConfig"] {
                let fields = inspect[part].as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
                assert!(!fields.is_empty(), "{name}");
                for field in fields {
                    let path = format!("{part}.{field}");
                    assert!(FIELDS.iter().any(|field| field.path == path), "{path}");
                }
            }
        }
    }

    #[test]
    fn what_an_engine_does_not_know_is_found() {
        const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
        let inspect = json!({
            "Config": {"Healthcheck": {"StartInterval": 1_000_000}},
            "HostConfig": {
                "Annotations": {"a": "b"}, "KernelMemory": 4096,
                "DeviceRequests": [{"Driver": "nvidia"}, {"Driver": "cdi"}],
                "Mounts": [{"Type": "volume", "VolumeOptions": {"Subpath": "x"}}, {"Type": "image"},
                    {"Type": "bind", "BindOptions": {"CreateMountpoint": false}}],
            },
            "NetworkSettings": {"Networks": {"n": {"GwPriority": 0}, "m": {"GwPriority": 5,
                "DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1", "other": "x"}}}},
        });
        let found = |api| unknown_to(&inspect, api).map(|feature| feature.path.rsplit('/').next().unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!(found((1, 41)), ["StartInterval", "Annotations", "Driver", "Type", "Subpath", SYSCTLS, "GwPriority"]);
        assert_eq!(found((1, 44)), ["KernelMemory", "Type", "Subpath", SYSCTLS, "GwPriority"]);
        assert_eq!(found((1, 47)), ["KernelMemory", "Type", "GwPriority"]);
        assert_eq!(found((1, 51)), ["KernelMemory"]);
        assert_eq!(unknown_to(&json!({"HostConfig": 5, "Config": []}), (1, 41)).count(), 0);
    }
}
