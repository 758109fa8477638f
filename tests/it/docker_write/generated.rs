//! Containers with random combinations of everything that create takes are saved, lost and restored, and then are what they were: by the
//! list that bbackup compares with, and by a second look that shares nothing with that list.
//!
//! `BBACKUP_TEST_SEED` chooses other combinations; the seed is in every message.

#![expect(clippy::print_stdout, reason = "what was tried, for those who look")]

use std::collections::{BTreeMap, BTreeSet};

use bbackup::docker::create::fields::{FIELDS, Made};
use bbackup::docker::create::json::is_default;
use bbackup::docker::create::{ContainerBody, Names};
use bbackup::docker::{Engine, make, normalise};
use serde_json::{Value, json};

use super::{block_on, connect, inspect};
use crate::support::engine::{BUSYBOX, SECOND_RUNTIME, Stage};
use crate::support::home::Home;
use crate::support::raw::Raw;

/// Fields that nobody can set here, each with the reason.
const NOT_TRIED: &[(&str, &str)] = &[
    ("Config.ArgsEscaped", "Windows only"),
    ("Config.MacAddress", "stands with the endpoint from API 1.44 on; compared in Networks"),
    ("Config.OnBuild", "comes from the image only"),
    ("HostConfig.Annotations", "from API 1.43 on"),
    ("HostConfig.Capabilities", "was in one version only"),
    ("HostConfig.Cgroup", "not used by any Engine"),
    ("HostConfig.ContainerIDFile", "a file of the client"),
    ("HostConfig.CpuCount", "Windows only"),
    ("HostConfig.CpuPercent", "Windows only"),
    ("HostConfig.IOMaximumBandwidth", "Windows only"),
    ("HostConfig.IOMaximumIOps", "Windows only"),
    ("HostConfig.Isolation", "Windows only"),
    ("HostConfig.StorageOpt", "needs a disk with project quotas"),
];

/// Fields that need something of the kernel: a file of the first version of control groups, or a controller of the second; none where
/// that has nothing of the kind. They are tried wherever it is there.
const NEED_THE_KERNEL: &[(&str, &str, Option<&str>)] = &[
    ("HostConfig.BlkioDeviceReadBps", "blkio/blkio.throttle.read_bps_device", Some("io")),
    ("HostConfig.BlkioDeviceReadIOps", "blkio/blkio.throttle.read_iops_device", Some("io")),
    ("HostConfig.BlkioDeviceWriteBps", "blkio/blkio.throttle.write_bps_device", Some("io")),
    ("HostConfig.BlkioDeviceWriteIOps", "blkio/blkio.throttle.write_iops_device", Some("io")),
    ("HostConfig.BlkioWeight", "blkio/blkio.weight", Some("io")),
    ("HostConfig.BlkioWeightDevice", "blkio/blkio.weight_device", Some("io")),
    ("HostConfig.CpuRealtimePeriod", "cpu/cpu.rt_period_us", None),
    ("HostConfig.CpuRealtimeRuntime", "cpu/cpu.rt_runtime_us", None),
    ("HostConfig.KernelMemory", "memory/memory.kmem.limit_in_bytes", None),
    ("HostConfig.KernelMemoryTCP", "memory/memory.kmem.tcp.limit_in_bytes", None),
    ("HostConfig.MemorySwappiness", "memory/memory.swappiness", None),
    ("HostConfig.OomKillDisable", "memory/memory.oom_control", None),
];

/// Whether this machine's kernel has what the field needs.
fn kernel_has(field: &str) -> bool {
    let Some((_, file, controller)) = NEED_THE_KERNEL.iter().find(|(path, ..)| *path == field) else { return true };
    let groups = std::path::Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_to_string(groups.join("cgroup.controllers")).unwrap_or_default();
    groups.join(file).exists() || controller.is_some_and(|controller| controllers.split_whitespace().any(|one| one == controller))
}

/// Groups that not every machine can start; each is tried in a container of its own, so that the others run.
const MAY_NOT_START: &[&str] = &["blkio", "forced", "gpu", "kernel-memory", "powers", "realtime", "shared", "throttle"];

/// What can be said of a mount (`TYPE OPTION`) or an endpoint (`network OPTION`), with the API version that knows it first. All of it is
/// tried wherever the Engine knows it.
const INSIDE: &[(&str, (u64, u64))] = &[
    ("bind ReadOnly", (1, 41)),
    ("bind BindOptions.Propagation", (1, 41)),
    ("bind BindOptions.NonRecursive", (1, 41)),
    ("bind BindOptions.CreateMountpoint", (1, 42)),
    ("bind BindOptions.ReadOnlyNonRecursive", (1, 44)),
    ("bind BindOptions.ReadOnlyForceRecursive", (1, 44)),
    ("volume ReadOnly", (1, 41)),
    ("volume VolumeOptions.NoCopy", (1, 41)),
    ("volume VolumeOptions.Labels", (1, 41)),
    ("volume VolumeOptions.DriverConfig.Name", (1, 41)),
    ("volume VolumeOptions.DriverConfig.Options", (1, 41)),
    ("volume VolumeOptions.Subpath", (1, 45)),
    ("tmpfs TmpfsOptions.SizeBytes", (1, 41)),
    ("tmpfs TmpfsOptions.Mode", (1, 41)),
    ("tmpfs TmpfsOptions.Options", (1, 46)),
    ("image Source", (1, 48)),
    ("image ImageOptions.Subpath", (1, 48)),
    ("network IPAMConfig.IPv4Address", (1, 41)),
    ("network IPAMConfig.IPv6Address", (1, 41)),
    ("network Aliases", (1, 41)),
    ("network Links", (1, 41)),
    ("network DriverOpts", (1, 41)),
    ("network DriverOpts.com.docker.network.endpoint.sysctls", (1, 46)),
    ("network DriverOpts.com.docker.network.endpoint.ifname", (1, 48)),
    ("network GwPriority", (1, 48)),
];

/// Small numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// One thing that can be set. Of one group a container has at most one.
struct Setting {
    group: &'static str,
    patch: Value,
    /// Networks that are joined after create.
    connect: Vec<[String; 4]>,
}

/// What all containers of one round refer to.
struct Ground {
    base: String,
    front: String,
    back: String,
    auto: String,
    /// Networks of a network card, each with its driver: those that this machine's kernel has.
    cards: Vec<(&'static str, String)>,
    volume: String,
    other: String,
    folder: String,
    block_device: Option<String>,
    api: (u64, u64),
}

impl Ground {
    fn lay(stage: &Stage<'_>, home: &Home, project: &str, api: (u64, u64)) -> Self {
        let label = format!("com.docker.compose.project={project}");
        let ground = Self {
            base: stage.name("base"),
            front: stage.name("front"),
            back: stage.name("back"),
            auto: stage.name("auto"),
            cards: cards(stage, home, &label),
            volume: stage.name("volume"),
            other: stage.name("other"),
            folder: home.make_folder("bound").to_str().unwrap().to_owned(),
            block_device: ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"]
                .into_iter()
                .find(|path| std::path::Path::new(path).exists())
                .map(str::to_owned),
            api,
        };
        stage.ok(["network", "create", "--label", &label, "--subnet", "10.204.1.0/24", "--ip-range", "10.204.1.128/25", &ground.front]);
        stage.ok([
            "network",
            "create",
            "--label",
            &label,
            "--ipv6",
            "--subnet",
            "10.204.2.0/24",
            "--subnet",
            "fd01:204::/64",
            "-o",
            "com.docker.network.driver.mtu=1400",
            &ground.back,
        ]);
        stage.ok(["network", "create", "--label", &label, &ground.auto]);
        stage.ok(["volume", "create", "--label", &label, &ground.volume]);
        stage.ok(["volume", "create", "--label", &label, "--label", "second=yes", &ground.other]);
        std::fs::create_dir(stage.mountpoint(&ground.volume).join("part")).unwrap();
        std::fs::write(stage.mountpoint(&ground.volume).join("part/file"), "x").unwrap();
        stage.ok([
            "run",
            "-d",
            "--name",
            &ground.base,
            "--label",
            &label,
            "--ipc",
            "shareable",
            "-v",
            "/from-base",
            "-v",
            &format!("{}:/base-volume", ground.other),
            "--network",
            &ground.auto,
            "--stop-timeout",
            "0",
            BUSYBOX,
            "sleep",
            "1000",
        ]);
        ground
    }

    /// An endpoint with a MAC address where this API version has it there.
    fn mac(&self, number: u64) -> Value {
        let mac = format!("02:42:0a:cc:01:{number:02x}");
        if self.api >= (1, 44) {
            json!({"NetworkingConfig": {"EndpointsConfig": {self.front.clone(): {"MacAddress": mac}}}})
        } else {
            json!({"MacAddress": mac})
        }
    }

    fn networks(&self, number: u64) -> Vec<Setting> {
        let Self { base, front, back, auto, .. } = self;
        let one = |network: &str, endpoint: Value| json!({"HostConfig": {"NetworkMode": network}, "NetworkingConfig": {"EndpointsConfig": {network: endpoint}}});
        let address = format!("10.204.1.{}", 10 + number);
        let mut fixed = one(front, json!({"IPAMConfig": {"IPv4Address": address}, "Aliases": [format!("alias{number}"), "www"]}));
        merge(&mut fixed, &self.mac(number));
        let both = one(
            back,
            json!({"IPAMConfig": {"IPv4Address": format!("10.204.2.{}", 10 + number), "IPv6Address": format!("fd01:204::{:x}", 16 + number)}}),
        );
        let linked = one(auto, json!({"Links": [format!("{base}:linked")]}));
        let mut settings: Vec<Setting> = [
            json!({"HostConfig": {"NetworkMode": "host"}}),
            json!({"HostConfig": {"NetworkMode": "none"}}),
            json!({"HostConfig": {"NetworkMode": "bridge"}}),
            json!({"HostConfig": {"NetworkMode": format!("container:{base}")}}),
            json!({"NetworkDisabled": true}),
            fixed.clone(),
            both,
            linked,
        ]
        .into_iter()
        .map(|patch| Setting { group: "network", patch, connect: Vec::new() })
        .collect();
        settings.push(Setting {
            group: "network",
            patch: fixed,
            connect: vec![
                [back.clone(), format!("10.204.2.{}", 110 + number), format!("fd01:204::{:x}", 116 + number), "api".to_owned()],
                [auto.clone(), String::new(), String::new(), String::new()],
            ],
        });
        for (driver, network) in &self.cards {
            let lan = if *driver == "macvlan" { 3 } else { 4 };
            let patch = one(network, json!({"IPAMConfig": {"IPv4Address": format!("10.204.{lan}.{}", 10 + number)}, "Aliases": ["card"]}));
            settings.push(Setting { group: "network", patch, connect: Vec::new() });
            let patch = one(network, json!({}));
            settings.push(Setting { group: "network", patch, connect: vec![[auto.clone(), String::new(), String::new(), String::new()]] });
        }
        let options = one(front, json!({"DriverOpts": {"com.example.option": "value"}}));
        settings.push(Setting { group: "network", patch: options, connect: Vec::new() });
        if self.api >= (1, 48) {
            let named = one(front, json!({"DriverOpts": {"com.docker.network.endpoint.ifname": "lan7"}}));
            settings.push(Setting { group: "network", patch: named, connect: Vec::new() });
            let patch = one(
                auto,
                json!({"GwPriority": 7, "DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}}),
            );
            settings.push(Setting { group: "network", patch, connect: Vec::new() });
        }
        settings
    }

    fn mounts(&self) -> Vec<Setting> {
        let Self { base, volume, folder, .. } = self;
        let mut all = vec![
            ("bind", json!({"Binds": [format!("{folder}:/b1"), format!("{folder}:/b2:ro,rprivate")]})),
            ("shared", json!({"Binds": [format!("{folder}:/b3:rslave")]})),
            (
                "bind2",
                json!({"Mounts": [{"Type": "bind", "Source": folder, "Target": "/m1", "ReadOnly": true, "BindOptions": {"Propagation": "rslave", "NonRecursive": true}}]}),
            ),
            (
                "bind3",
                json!({"Mounts": [{"Type": "bind", "Source": folder, "Target": "/m3", "BindOptions": {"Propagation": "private"}},
                    {"Type": "bind", "Source": folder, "Target": "/m4", "BindOptions": {"Propagation": "slave"}}]}),
            ),
            ("shared", json!({"Mounts": [{"Type": "bind", "Source": folder, "Target": "/m5", "BindOptions": {"Propagation": "rshared"}}]})),
            (
                "volume3",
                json!({"Mounts": [{"Type": "volume", "Target": "/v9", "VolumeOptions": {"Labels": {"kept": "yes"}, "DriverConfig": {"Name": "local",
                    "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"}}}}]}),
            ),
            ("volume", json!({"Binds": [format!("{volume}:/v1"), format!("{volume}:/v2:ro"), format!("{volume}:/v3:nocopy")]})),
            (
                "volume2",
                json!({"Mounts": [{"Type": "volume", "Source": volume, "Target": "/v4", "ReadOnly": true}, {"Type": "volume", "Target": "/v5", "VolumeOptions": {
                "NoCopy": true, "Labels": {"made": "here"}, "DriverConfig": {"Name": "local"}}}]}),
            ),
            ("anonymous", json!({"Binds": ["/v6"]})),
            ("tmpfs", json!({"Tmpfs": {"/t1": "", "/t2": "rw,noexec,size=65536k,mode=1770"}})),
            (
                "tmpfs2",
                json!({"Mounts": [{"Type": "tmpfs", "Target": "/t3", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o700}}, {"Type": "tmpfs", "Target": "/t4"}]}),
            ),
            ("from", json!({"VolumesFrom": [format!("{base}:ro")]})),
            ("driver", json!({"VolumeDriver": "local", "Binds": ["/v7"]})),
        ];
        let one = |mount: Value| json!({"Mounts": [mount]});
        if self.api >= (1, 42) {
            let made = format!("{folder}-made");
            all.push(("made", one(json!({"Type": "bind", "Source": made, "Target": "/m6", "BindOptions": {"CreateMountpoint": true}}))));
        }
        if self.api >= (1, 44) {
            let forced = json!({"Propagation": "rprivate", "ReadOnlyForceRecursive": true});
            all.push(("forced", one(json!({"Type": "bind", "Source": folder, "Target": "/m7", "ReadOnly": true, "BindOptions": forced}))));
        }
        if self.api >= (1, 46) {
            let options = json!({"SizeBytes": 1_048_576, "Options": [["noexec"]]});
            all.push(("tmpfs3", one(json!({"Type": "tmpfs", "Target": "/t5", "TmpfsOptions": options}))));
        }
        if self.api >= (1, 48) {
            all.push(("image", one(json!({"Type": "image", "Source": BUSYBOX, "Target": "/i1"}))));
            all.push(("image2", one(json!({"Type": "image", "Source": BUSYBOX, "Target": "/i2", "ImageOptions": {"Subpath": "etc"}}))));
        }
        if self.api >= (1, 45) {
            all.push((
                "part",
                json!({"Mounts": [{"Type": "volume", "Source": volume, "Target": "/v8", "VolumeOptions": {"Subpath": "part"}}]}),
            ));
            all.push(("recursive", json!({"Mounts": [{"Type": "bind", "Source": folder, "Target": "/m2", "ReadOnly": true, "BindOptions": {"ReadOnlyNonRecursive": true}}]})));
        }
        all.into_iter().map(|(group, host)| Setting { group, patch: json!({"HostConfig": host}), connect: Vec::new() }).collect()
    }

    fn host(&self, number: u64) -> Vec<Setting> {
        let base = &self.base;
        let port = |offset: u64| (19_000 + number * 20 + offset).to_string();
        let mut all = vec![
            (
                "ports",
                json!({"PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port(0)}, {"HostIp": "", "HostPort": port(1)}],
                "53/udp": [{"HostIp": "", "HostPort": ""}], "54/udp": [{"HostIp": "127.0.0.1", "HostPort": "0"}],
                "5000/tcp": [{"HostIp": "", "HostPort": format!("{}-{}", port(2), port(9))}], "443/tcp": [{"HostIp": "::1", "HostPort": port(10)}]}}),
            ),
            ("ports", json!({"PublishAllPorts": true})),
            ("blkio", json!({"BlkioWeight": 300})),
            ("blkio2", json!({"CgroupParent": "/bbackup-test"})),
            ("caps", json!({"CapAdd": ["NET_ADMIN", "CAP_SYS_TIME"], "CapDrop": ["MKNOD", "CHOWN"]})),
            ("caps", json!({"CapDrop": ["ALL"]})),
            ("powers", json!({"CapAdd": ["ALL"]})),
            ("powers", json!({"Privileged": true})),
            ("cgroupns", json!({"CgroupnsMode": "private"})),
            ("cgroupns", json!({"CgroupnsMode": "host"})),
            ("console", json!({"ConsoleSize": [30, 100]})),
            ("cpu", json!({"CpuPeriod": 50_000, "CpuQuota": 25_000})),
            ("cpu", json!({"NanoCpus": 250_000_000})),
            ("cpu2", json!({"CpuShares": 300, "CpusetCpus": "0", "CpusetMems": "0"})),
            (
                "devices",
                json!({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}], "DeviceCgroupRules": ["c 1:3 rwm"]}),
            ),
            (
                "gpu",
                json!({"DeviceRequests": [{"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {"a": "b"}}]}),
            ),
            ("dns", json!({"Dns": ["10.0.0.53", "fd00::53"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.test"]})),
            ("hosts", json!({"ExtraHosts": ["other:10.0.0.9", "six:fd00::9", "gateway:host-gateway"]})),
            ("groups", json!({"GroupAdd": ["7", "nogroup"]})),
            ("init", json!({"Init": true})),
            ("init", json!({"Init": false})),
            ("ipc", json!({"IpcMode": "shareable"})),
            ("ipc", json!({"IpcMode": "none"})),
            ("ipc", json!({"IpcMode": "host"})),
            ("ipc", json!({"IpcMode": format!("container:{base}")})),
            ("links", json!({"NetworkMode": "bridge", "Links": []})),
            ("log", json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2", "labels": "a,b"}}})),
            ("log", json!({"LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}})),
            ("log", json!({"LogConfig": {"Type": "none", "Config": {}}})),
            ("masked", json!({"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"]})),
            ("memory", json!({"Memory": 67_108_864, "MemoryReservation": 33_554_432, "MemorySwap": 134_217_728})),
            ("memory", json!({"Memory": 67_108_864, "MemorySwap": -1})),
            ("oom", json!({"OomScoreAdj": 100})),
            ("pid", json!({"PidMode": "host"})),
            ("pid", json!({"PidMode": format!("container:{base}")})),
            ("pids", json!({"PidsLimit": 50})),
            ("pids", json!({"PidsLimit": -1})),
            ("readonly", json!({"ReadonlyRootfs": true})),
            ("restart", json!({"RestartPolicy": {"Name": "always"}})),
            ("restart", json!({"RestartPolicy": {"Name": "unless-stopped"}})),
            ("restart", json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}})),
            ("restart", json!({"AutoRemove": true})),
            ("runtime", json!({"Runtime": "runc"})),
            ("runtime", json!({"Runtime": SECOND_RUNTIME})),
            ("security", json!({"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]})),
            ("security", json!({"SecurityOpt": ["label=disable", "apparmor=unconfined"]})),
            ("shm", json!({"ShmSize": 1_048_576})),
            ("sysctls", json!({"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}})),
            ("uts", json!({"UTSMode": "host"})),
            ("userns", json!({"UsernsMode": "host"})),
            ("ulimits", json!({"Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": 0, "Hard": 0}]})),
        ];
        if let Some(device) = &self.block_device {
            let rate = json!([{"Path": device, "Rate": 1_000_000}]);
            let limits =
                json!({"BlkioDeviceReadBps": rate, "BlkioDeviceWriteBps": rate, "BlkioDeviceReadIOps": rate, "BlkioDeviceWriteIOps": rate});
            all.push(("throttle", limits));
            all.push(("throttle", json!({"BlkioWeightDevice": [{"Path": device, "Weight": 200}]})));
        }
        let of_kernel = [
            ("realtime", json!({"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 1_000})),
            ("memory", json!({"Memory": 67_108_864, "MemorySwappiness": 40})),
            ("memory", json!({"Memory": 67_108_864, "OomKillDisable": true})),
            ("kernel-memory", json!({"KernelMemoryTCP": 16_777_216})),
        ];
        let has_all = |fields: &Value| fields.as_object().unwrap().keys().all(|name| kernel_has(&format!("HostConfig.{name}")));
        all.extend(of_kernel.into_iter().filter(|(_, fields)| has_all(fields)));
        if self.api < (1, 42) && kernel_has("HostConfig.KernelMemory") {
            all.push(("kernel-memory", json!({"Memory": 67_108_864, "KernelMemory": 33_554_432})));
        }
        if self.api >= (1, 44) {
            let devices =
                json!([{"Driver": "cdi", "Count": 0, "DeviceIDs": ["example.test/device=one"], "Capabilities": null, "Options": null}]);
            all.push(("gpu", json!({"DeviceRequests": devices})));
        }
        if self.api >= (1, 43) {
            all.push(("annotations", json!({"Annotations": {"example.test/a": "b"}})));
        }
        let mut settings: Vec<Setting> =
            all.into_iter().map(|(group, host)| Setting { group, patch: json!({"HostConfig": host}), connect: Vec::new() }).collect();
        let mut links =
            json!({"HostConfig": {"NetworkMode": "bridge", "Links": [format!("{}:thelegacy", self.base.replace("base", "legacy"))]}});
        merge(&mut links, &json!({"Labels": {"linked": "yes"}}));
        settings.push(Setting { group: "network", patch: links, connect: Vec::new() });
        settings
    }

    fn config(&self) -> Vec<Setting> {
        let mut all = vec![
            ("command", json!({"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["trap 'exit 0' TERM INT QUIT; sleep 1000 & wait", "x"]})),
            ("command", json!({"Entrypoint": ["sh"], "Cmd": ["-c", "sleep 1000"], "StopTimeout": 0})),
            ("attach", json!({"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true, "StdinOnce": true})),
            ("domain", json!({"Hostname": "shop", "Domainname": "example.test"})),
            ("env", json!({"Env": ["A=1", "B=x y", "EMPTY=", "QUOTE=\"'$x", "UML=\u{fc}"]})),
            ("exposed", json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})),
            (
                "health",
                json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000, "StartPeriod": 1_000_000_000, "Retries": 4}}),
            ),
            ("health", json!({"Healthcheck": {"Test": ["NONE"]}})),
            ("labels", json!({"Labels": {"com.example/a": "b", "empty": "", "line": "a\nb"}})),
            ("signal", json!({"StopSignal": "SIGINT"})),
            ("timeout", json!({"StopTimeout": 7})),
            ("shell", json!({"Shell": ["/bin/sh", "-ec"]})),
            ("tty", json!({"Tty": true})),
            ("user", json!({"User": "65534:65534"})),
            ("user", json!({"User": "nobody"})),
            ("volumes", json!({"Volumes": {"/a1": {}, "/a2/": {}}})),
            ("workdir", json!({"WorkingDir": "/tmp"})),
        ];
        if self.api >= (1, 44) {
            all.push(("health", json!({"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64, "StartPeriod": 3_000_000_000_i64, "StartInterval": 500_000_000}})));
        }
        all.into_iter().map(|(group, patch)| Setting { group, patch, connect: Vec::new() }).collect()
    }
}

/// Makes a network of each driver that gives containers a network card's own network, on a card of the Engine's. Those that the kernel lacks
/// are told.
fn cards(stage: &Stage<'_>, home: &Home, label: &str) -> Vec<(&'static str, String)> {
    let ip = |arguments: &[&str]| stage.engine().inside(home.program("ip").args(arguments)).run();
    let _ = ip(&["link", "add", "bbmac", "type", "veth", "peer", "name", "bbip"]).success();
    let mut made = Vec::new();
    for (driver, parent, lan, mode) in [("macvlan", "bbmac", 3, "macvlan_mode=bridge"), ("ipvlan", "bbip", 4, "ipvlan_mode=l2")] {
        let _ = ip(&["link", "set", parent, "up"]).success();
        if ip(&["link", "add", "link", parent, "name", "bbprobe", "type", driver]).code() != Some(0) {
            println!("this kernel has no {driver}");
            continue;
        }
        let _ = ip(&["link", "del", "bbprobe"]).success();
        let (name, subnet, range) = (stage.name(driver), format!("10.204.{lan}.0/24"), format!("10.204.{lan}.128/25"));
        let (parent, aux) = (format!("parent={parent}"), format!("router=10.204.{lan}.2"));
        let options = ["-d", driver, "-o", &parent, "-o", mode, "--subnet", &subnet, "--ip-range", &range, "--aux-address", &aux];
        stage.ok(["network", "create", "--label", label].iter().chain(&options).chain(&[name.as_str()]));
        made.push((driver, name));
    }
    made
}

/// What somebody asked for of a network.
fn asked_for(stage: &Stage<'_>, network: &str) -> Value {
    let mut seen = stage.inspect("network", network);
    // An empty object and none are the same.
    seen["IPAM"]["Options"] = seen["IPAM"]["Options"].as_object().filter(|options| !options.is_empty()).cloned().into_iter().collect();
    let field = |name: &str| (name.to_owned(), seen[name].clone());
    ["Name", "Driver", "Scope", "Internal", "Attachable", "EnableIPv6", "Options", "Labels", "IPAM"].map(field).into_iter().collect()
}

/// Objects are joined, lists put one behind the other, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

/// Makes one container that has `must` and as many of the others as the Engine takes together with it.
async fn make_one(
    stage: &Stage<'_>,
    engine: &Engine,
    name: &str,
    project: &str,
    must: &Setting,
    mut more: Vec<Setting>,
) -> Result<(), String> {
    loop {
        let mut body = json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", "trap 'exit 0' TERM INT QUIT; sleep 1000 & wait"],
            "Labels": {"com.docker.compose.project": project}, "HostConfig": {}});
        for setting in more.iter().chain([must]) {
            // A command is one thing, not two behind each other.
            for field in ["Cmd", "Entrypoint"].into_iter().filter(|field| setting.patch.get(field).is_some()) {
                body.as_object_mut().unwrap().remove(field);
            }
            merge(&mut body, &setting.patch);
        }
        let made = ContainerBody { name: name.to_owned(), body, ..ContainerBody::default() };
        match make::container(engine, &made).await {
            Ok(_) => break,
            Err(error) if more.is_empty() => return Err(error.to_string()),
            Err(_) => drop(more.pop()),
        }
    }
    for [network, four, six, alias] in more.iter().chain([must]).flat_map(|setting| &setting.connect) {
        let mut arguments = vec!["network", "connect"];
        for (flag, value) in [("--ip", four), ("--ip6", six), ("--alias", alias)] {
            if !value.is_empty() {
                arguments.extend([flag, value]);
            }
        }
        arguments.extend([network.as_str(), name]);
        stage.ok(arguments);
    }
    Ok(())
}

/// The fields of `Config` and `HostConfig` that somebody set.
fn fields_set(inspect: &Value) -> impl Iterator<Item = String> {
    ["Config", "HostConfig"].into_iter().flat_map(|part| {
        let fields = inspect[part].as_object().unwrap().iter();
        fields
            .filter(|(name, value)| !is_default(value) || matches!(name.as_str(), "Init" if value.is_boolean()))
            .map(move |(name, _)| format!("{part}.{name}"))
            .collect::<Vec<_>>()
    })
}

#[test]
fn whatever_a_container_was_made_of_comes_back() {
    let seed = std::env::var("BBACKUP_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6497);
    println!("BBACKUP_TEST_SEED={seed}");
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "random");
    let project = stage.name("project");
    let engine = block_on(connect(&stage));
    let ground = Ground::lay(&stage, &home, &project, engine.api_version());
    let legacy = stage.name("legacy");
    stage.ok([
        "run",
        "-d",
        "--name",
        &legacy,
        "--label",
        &format!("com.docker.compose.project={project}"),
        "--stop-timeout",
        "0",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let mut containers = vec![ground.base.clone(), legacy];
    containers.extend(make_all(&stage, &engine, &ground, &project, seed));

    let card_networks = || ground.cards.iter().map(|(_, network)| asked_for(&stage, network)).collect::<Vec<_>>();
    let cards_before = card_networks();
    let before = look(&engine, &containers);
    check_what_was_tried(&before, &ground, seed);
    let _ = stage.bbackup(["backup", "--json", "--no-logs", "--projects", &project]).run().success();
    for name in containers.iter().rev() {
        let _ = stage.docker(["rm", "-fv", name]).run();
    }
    stage.ok(["volume", "rm", &ground.volume, &ground.other]);
    for volume in stage.ok(["volume", "ls", "-q", "--filter", "dangling=true"]).lines().filter(|name| name.len() == 64) {
        stage.ok(["volume", "rm", volume]);
    }
    stage.ok(["network", "rm", &ground.front, &ground.back, &ground.auto]);
    for (_, network) in &ground.cards {
        stage.ok(["network", "rm", network]);
    }

    let restored = stage.bbackup(["restore", "latest", "--tag", &format!("app:{project}"), "--json"]).run();
    // The Engine has its own warnings for some combinations.
    assert!(matches!(restored.code(), Some(0 | 4)), "seed {seed}: {}", restored.describe());
    let after = look(&engine, &containers);
    assert_eq!(card_networks(), cards_before, "seed {seed}");
    let (old, new) = (names_of(&before), names_of(&after));
    let (raw_before, raw_after) = (Raw::new(before.values()), Raw::new(after.values()));
    let mut wrong = Vec::new();
    for (name, was) in &before {
        let is = &after[name];
        for difference in normalise::differences(&normalise::container(was, &old), &normalise::container(is, &new)) {
            wrong.push(format!("{name}: {difference}"));
        }
        // Names of networks that were joined after create are there from the first start on.
        let never_ran = is["State"]["Status"] == "created";
        let raw = raw_before.differences(was, &raw_after, is).into_iter();
        let raw = raw.filter(|difference| !(never_ran && difference.contains("/DNSNames/")));
        wrong.extend(raw.map(|difference| format!("{name}, raw: {difference}")));
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
    // The Engine is not only this test's.
    stage.remove_everything();
    let _ = stage.engine().inside(home.program("ip").args(["link", "del", "bbmac"])).run().success();
}

fn make_all(stage: &Stage<'_>, engine: &Engine, ground: &Ground, project: &str, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let catalogue = |number: u64| -> Vec<Setting> {
        let mut all = ground.networks(number);
        all.extend(ground.mounts());
        all.extend(ground.host(number));
        all.extend(ground.config());
        all
    };
    let count = catalogue(0).len();
    let mut waiting: Vec<usize> = (0..count).collect();
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    while !waiting.is_empty() {
        let number = (made.len() + refused.len()) as u64;
        let name = stage.name(&format!("c{number}"));
        let mut settings: Vec<Option<Setting>> = catalogue(number).into_iter().map(Some).collect();
        let first = waiting.swap_remove(usize::try_from(random.next()).unwrap() % waiting.len());
        let must = settings[first].take().unwrap();
        let mut groups = BTreeSet::from([must.group]);
        if MAY_NOT_START.contains(&must.group) {
            // With `--rm` it would be gone.
            groups.insert("restart");
        }
        let mut more = Vec::new();
        // What was not tried yet goes first, then whatever chance adds.
        // With `--rm` it is gone if anything in it cannot be started, so that is tried alone.
        let vanishes = |setting: &Setting| setting.patch["HostConfig"]["AutoRemove"] == true;
        let alone = vanishes(&must);
        let mut order = waiting.clone();
        order.extend((0..count).filter(|index| !waiting.contains(index)));
        for index in order {
            let percent = if waiting.contains(&index) { 14 } else { 4 };
            let free = !alone && settings[index].as_ref().is_some_and(|setting| !groups.contains(setting.group) && !vanishes(setting));
            if free && random.chance(percent) && !settings[index].as_ref().is_some_and(|setting| MAY_NOT_START.contains(&setting.group)) {
                let setting = settings[index].take().unwrap();
                groups.insert(setting.group);
                more.push(setting);
            }
        }
        match block_on(make_one(stage, engine, &name, project, &must, more)) {
            Ok(()) => made.push(name),
            Err(error) => refused.push(format!("{}: {error}", must.patch)),
        }
        // Those that were not refused need no turn of their own.
        let seen = made.last().map(|name| block_on(inspect(engine, name))).unwrap_or_default();
        waiting.retain(|index| !catalogue(number)[*index].patch.is_null() && !is_in(&catalogue(number)[*index].patch, &seen));
    }
    println!("{} containers; refused by the Engine: {refused:#?}", made.len());
    assert!(refused.len() <= 4, "seed {seed}: {refused:#?}");
    let mut running = 0;
    for (number, name) in made.iter().enumerate() {
        // Some stay as they were made.
        if number % 5 != 4 {
            let started = stage.docker(["start", name]).run();
            running += usize::from(started.code() == Some(0));
            if started.code() != Some(0) {
                println!("{}", started.errors());
            }
        }
    }
    println!("{running} run");
    // One with `--rm` that cannot be started is gone.
    made.retain(|name| stage.exists("container", name));
    assert!(running * 3 > made.len(), "seed {seed}: only {running} of {} can be started", made.len());
    made
}

/// Whether everything in the `HostConfig` and the plain fields of a patch is in what inspect says.
fn is_in(patch: &Value, inspect: &Value) -> bool {
    patch.as_object().unwrap().iter().all(|(field, value)| match field.as_str() {
        "HostConfig" => value.as_object().unwrap().iter().all(|(field, value)| inspect["HostConfig"][field] == *value),
        // Networks have a turn each.
        "NetworkingConfig" | "MacAddress" => false,
        _ => inspect["Config"][field] == *value,
    })
}

/// What somebody set inside of mounts and endpoints, as [`INSIDE`] calls it.
fn set_inside(inspect: &Value) -> BTreeSet<String> {
    fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
        if !is_default(value) {
            into.insert(path.to_owned());
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            leaves(&format!("{path}.{name}"), value, into);
        }
    }
    let mut found = BTreeSet::new();
    for mount in inspect["HostConfig"]["Mounts"].as_array().into_iter().flatten() {
        for (name, value) in mount.as_object().unwrap() {
            leaves(&format!("{} {name}", mount["Type"].as_str().unwrap()), value, &mut found);
        }
    }
    for endpoint in inspect["NetworkSettings"]["Networks"].as_object().into_iter().flat_map(|networks| networks.values()) {
        for (name, value) in endpoint.as_object().unwrap() {
            leaves(&format!("network {name}"), value, &mut found);
        }
    }
    found
}

fn look(engine: &Engine, containers: &[String]) -> BTreeMap<String, Value> {
    block_on(async {
        let mut seen = BTreeMap::new();
        for name in containers {
            seen.insert(name.clone(), inspect(engine, name).await);
        }
        seen
    })
}

fn names_of(seen: &BTreeMap<String, Value>) -> Names {
    let mut names = Names::new();
    for inspect in seen.values() {
        names.learn_inspect(inspect);
    }
    names
}

/// A test that tried nothing proves nothing: every field of the table was set at least once, and the Engine shows none that is not in it.
fn check_what_was_tried(seen: &BTreeMap<String, Value>, ground: &Ground, seed: u64) {
    let tried: BTreeSet<String> = seen.values().flat_map(fields_set).collect();
    for field in FIELDS {
        let needs_disk =
            ground.block_device.is_none() && (field.path.contains("BlkioDevice") || field.path == "HostConfig.BlkioWeightDevice");
        let is_gone = field.path == "HostConfig.KernelMemory" && ground.api >= (1, 42);
        let excused =
            NOT_TRIED.iter().any(|(path, _)| *path == field.path) && !(field.path == "HostConfig.Annotations" && ground.api >= (1, 43));
        let excused = excused || is_gone || needs_disk || !kernel_has(field.path);
        assert!(
            excused || matches!(field.made, Made::Dropped(_)) || tried.contains(field.path),
            "seed {seed}: {} was never set",
            field.path
        );
    }
    let inside: BTreeSet<String> = seen.values().flat_map(set_inside).collect();
    for (what, since) in INSIDE.iter().filter(|(_, since)| ground.api >= *since) {
        assert!(inside.contains(*what), "seed {seed}: {what} (API {since:?}) was never set: {inside:#?}");
    }
    for runtime in ["runc", SECOND_RUNTIME] {
        assert!(seen.values().any(|inspect| inspect["HostConfig"]["Runtime"] == runtime), "seed {seed}: nobody has the runtime {runtime}");
    }
    for inspect in seen.values() {
        for part in ["Config", "HostConfig"] {
            for name in inspect[part].as_object().unwrap().keys() {
                let path = format!("{part}.{name}");
                assert!(FIELDS.iter().any(|field| field.path == path), "{path} is not in the table");
            }
        }
    }
}
