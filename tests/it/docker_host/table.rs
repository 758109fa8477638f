//! The containers, networks and volumes of the host, as a table.

/// What a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// Nothing, until it is asked to end, which it does at once.
    Sleeps,
    /// Nothing, and it does not hear that it is asked to end.
    Deaf,
    /// A web server over `/www`.
    Web,
    /// PostgreSQL over `/data`, at `/tmp`.
    Postgres,
    /// MariaDB over `/data`, at `/tmp/my.sock`.
    MariaDb,
    /// Redis over `/data`, at `/tmp/redis.sock`.
    Redis,
    /// Ends at once, with this exit code.
    Ends(u8),
}

/// In which state a container is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It runs.
    Running,
    /// It was frozen.
    Paused,
    /// Somebody has stopped it.
    Stopped,
    /// It came to its end by itself.
    Ended,
    /// It ends again and again, and the Engine starts it anew.
    Crashing,
    /// It was never started.
    Created,
}

/// One container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Its name; of compose's containers `project-service-number`. Empty: the Engine makes one up.
    pub(super) name: &'static str,
    /// What its compose file says it depends on, as compose labels it; none for a container without compose.
    pub(super) compose: Option<&'static str>,
    /// What it runs.
    pub(super) runs: Runs,
    /// How it is left.
    pub(super) left: Left,
    /// Options of `docker create`, set apart by `; `, the value behind the first space. `+network …` joins a further network.
    pub(super) options: &'static str,
}

const fn composed(name: &'static str, depends_on: &'static str, runs: Runs, left: Left, options: &'static str) -> Row {
    Row { name, compose: Some(depends_on), runs, left, options }
}

const fn single(name: &'static str, runs: Runs, left: Left, options: &'static str) -> Row {
    Row { name, compose: None, runs, left, options }
}

/// Networks: name, further options, and whether the Engine chooses the addresses.
pub(super) const NETWORKS: &[(&str, &str, bool)] = &[
    (
        "shop_front",
        "--subnet 10.91.1.0/24; --ip-range 10.91.1.128/25; --gateway 10.91.1.254; --label com.docker.compose.project=shop",
        false,
    ),
    (
        "shop_back",
        "--internal; --subnet 10.91.2.0/24; --label com.docker.compose.project=shop; --label com.docker.compose.network=back",
        false,
    ),
    ("wiki_default", "--label com.docker.compose.project=wiki; --label com.docker.compose.network=default", true),
    (
        "metrics",
        "--ipv6; --subnet 10.91.3.0/24; --subnet fd00:91::/64; --attachable; --opt com.docker.network.driver.mtu=1400; \
         --aux-address router=10.91.3.9",
        false,
    ),
    ("unused", "--subnet 10.91.9.0/24; --label kept=yes", false),
    ("unused-auto", "", true),
];

/// Volumes with a name: name, further options, owner, and mode of the folder. `{srv}` is a folder of the machine.
pub(super) const VOLUMES: &[(&str, &str, u32, u32)] = &[
    ("shop_db", "--label com.docker.compose.project=shop; --label com.docker.compose.volume=db", 65534, 0o755),
    ("shop_cache", "--label com.docker.compose.project=shop; --label com.docker.compose.volume=cache", 65534, 0o700),
    ("shop_web", "--label com.docker.compose.project=shop; --label com.docker.compose.volume=web", 0, 0o755),
    ("shop_media", "--label com.docker.compose.project=shop; --label com.docker.compose.volume=media", 1000, 0o2775),
    ("wiki_db", "--label com.docker.compose.project=wiki", 65534, 0o755),
    ("wiki_uploads", "--label com.docker.compose.project=wiki; --label line=a b=c", 33, 0o1777),
    ("wiki_search", "--label com.docker.compose.project=wiki", 0, 0o755),
    ("metrics_store", "", 123_456, 0o770),
    ("old_cache", "", 65534, 0o755),
    ("files", "--label kept=yes", 0, 0o755),
    ("crashing", "", 0, 0o755),
    ("device", "--opt type=none; --opt o=bind; --opt device={srv}/device", 0, 0o755),
    ("memory", "--opt type=tmpfs; --opt device=tmpfs; --opt o=size=1m", 0, 0o755),
    ("unused_files", "--label kept=yes; --label empty=", 4_000_000_000, 0o750),
    ("unused_empty", "", 7, 0o711),
];

/// Volumes whose files change while their databases run: what is compared is what the databases answer.
pub(super) const OF_DATABASES: &[&str] = &["shop_db", "shop_cache", "wiki_db", "old_cache"];

/// Stands for `{pg-health}`.
const PG_READY: &str = "--health-cmd {pg}/pg_isready -h /tmp; --health-interval 1s; --health-retries 60";

/// The containers; those of one project, and those without one, follow each other.
pub(super) const CONTAINERS: &[&[Row]] = &[SHOP, WIKI, METRICS, SINGLE];

const SHOP: &[Row] = &[
    composed(
        "shop-db-1",
        "",
        Runs::Postgres,
        Left::Running,
        "--network shop_back; --ip 10.91.2.10; --network-alias database; --user 65534:65534; --stop-signal SIGINT; --restart unless-stopped; \
         --shm-size 32m; --volume shop_db:/data; --env POSTGRES_PASSWORD=hunter2; {pg-health}",
    ),
    composed(
        "shop-cache-1",
        "",
        Runs::Redis,
        Left::Running,
        "--network shop_back; --ip 10.91.2.11; --user 65534:65534; --restart always; --read-only; --tmpfs /tmp; --sysctl net.core.somaxconn=511; \
         --volume shop_cache:/data; --health-cmd redis-cli -s /tmp/redis.sock ping; --health-interval 1s; --health-timeout 5s",
    ),
    composed(
        "shop-web-1",
        "db:service_healthy:false,cache:service_started:true",
        Runs::Web,
        Left::Running,
        "--network shop_front; --ip 10.91.1.20; +shop_back --ip 10.91.2.20 --alias www; --publish 18080:80; --publish 127.0.0.1:18443:443; \
         --volume shop_web:/www:ro; --volume {srv}/shop-conf:/etc/shop:ro; --memory 128m; --cap-drop MKNOD; --restart on-failure:3; \
         --health-cmd wget -q -O /dev/null http://127.0.0.1/; --health-interval 1s",
    ),
    composed(
        "shop-worker-1",
        "web:service_healthy:false",
        Runs::Sleeps,
        Left::Running,
        "--network shop_back; --volume shop_media:/media; --cpus 0.5; --memory 64m; --memory-swap 64m; --pids-limit 50",
    ),
    composed(
        "shop-worker-2",
        "web:service_healthy:false",
        Runs::Sleeps,
        Left::Running,
        "--network shop_back; --volume shop_media:/media; --cpus 0.5; --memory 64m; --memory-swap 64m; --pids-limit 50",
    ),
    composed("shop-sidecar-1", "web:service_started:false", Runs::Sleeps, Left::Running, "--network container:shop-web-1; --env EMPTY="),
    composed("shop-migrate-1", "db:service_healthy:false", Runs::Ends(0), Left::Ended, "--network shop_back; --volume shop_media:/media"),
];

const WIKI: &[Row] = &[
    composed(
        "wiki-db-1",
        "",
        Runs::MariaDb,
        Left::Running,
        "--network wiki_default; --network-alias db; --user 65534:65534; --restart unless-stopped; --volume wiki_db:/data; \
         --health-cmd mariadb --no-defaults -uroot -S /tmp/my.sock -e 'select 1'; --health-interval 1s; --health-retries 60",
    ),
    composed(
        "wiki-app-1",
        "db:service_healthy:true",
        Runs::Sleeps,
        Left::Running,
        "--network wiki_default; --publish 18081:80; --volume wiki_uploads:/uploads; --read-only; --tmpfs /tmp:size=8m,noexec,mode=1770; \
         --env TITLE=it's \"ours\" $HOME; --env UML=ü; --workdir /tmp; --entrypoint sh; --label line=a b",
    ),
    composed(
        "wiki-search-1",
        "db:service_started:false",
        Runs::Sleeps,
        Left::Paused,
        "--network wiki_default; --volume wiki_search:/index",
    ),
    composed(
        "wiki-export-1",
        "app:service_started:false",
        Runs::Sleeps,
        Left::Created,
        "--network wiki_default; --volume wiki_uploads:/uploads:ro; --env TOKEN=never-started",
    ),
    composed(
        "wiki-proxy-1",
        "app:service_started:true",
        Runs::Sleeps,
        Left::Running,
        "--network wiki_default; --network-alias edge; +shop_front --ip 10.91.1.30 --alias wiki; --add-host elsewhere:10.0.0.9; --dns 10.0.0.53; \
         --dns-search example.test; --restart always",
    ),
    composed(
        "wiki-sick-1",
        "",
        Runs::Sleeps,
        Left::Running,
        "--network wiki_default; --health-cmd false; --health-interval 1s; --health-retries 1; --restart unless-stopped",
    ),
];

const METRICS: &[Row] = &[
    composed(
        "metrics-agent-1",
        "",
        Runs::Sleeps,
        Left::Running,
        "--network host; --pid host; --cap-add SYS_PTRACE; --volume {srv}/metrics:/etc/metrics:ro; --volume {srv}/one-file:/etc/one-file; \
         --volume /:/rootfs:ro; --volume /proc:/host/proc:ro; --volume /etc/localtime:/etc/localtime:ro; \
         --restart on-failure:5; --log-driver local; --log-opt max-size=1m",
    ),
    composed(
        "metrics-store-1",
        "agent:service_started:false",
        Runs::Sleeps,
        Left::Running,
        "--network metrics; --ip 10.91.3.15; --ip6 fd00:91::15; --ulimit nofile=1000:2000; --mount type=volume,src=metrics_store,dst=/data",
    ),
    composed("metrics-exporter-1", "store:service_started:false", Runs::Sleeps, Left::Running, "--network metrics; --ipc shareable"),
    composed(
        "metrics-view-1",
        "exporter:service_started:false",
        Runs::Sleeps,
        Left::Running,
        "--network metrics; --ipc container:metrics-exporter-1; --pid container:metrics-exporter-1; --log-opt max-file=2; --log-opt max-size=1m",
    ),
    composed("metrics-rotate-1", "store:service_started:false", Runs::Ends(3), Left::Ended, "--network metrics; --restart no"),
];

const SINGLE: &[Row] = &[
    single("old-cache", Runs::Redis, Left::Stopped, "--user 65534:65534; --volume old_cache:/data; --restart unless-stopped"),
    single(
        "files",
        Runs::Sleeps,
        Left::Running,
        "--volume files:/files; --user nobody; --cap-drop ALL; --security-opt no-new-privileges; --read-only; --mount type=tmpfs,dst=/scratch",
    ),
    single("files-reader", Runs::Sleeps, Left::Running, "--volume files:/files:ro; --publish 19100-19103:5000; --expose 7000"),
    single(
        "anonymous",
        Runs::Sleeps,
        Left::Running,
        "--volume /one; --mount type=volume,dst=/two,volume-label=made=here; --hostname keeps.its.name",
    ),
    single("borrower", Runs::Sleeps, Left::Running, "--volumes-from anonymous:ro; --group-add 7"),
    single("terminal", Runs::Deaf, Left::Running, "--tty; --interactive; --stop-timeout 1; --domainname example.test"),
    single("legacy", Runs::Sleeps, Left::Running, "--link terminal:term; --oom-score-adj 100; --cpu-shares 300"),
    single("init", Runs::Deaf, Left::Running, "--init; --stop-timeout 1; --device /dev/null:/dev/nothing; --publish 80; --publish-all"),
    single("failed", Runs::Ends(3), Left::Ended, "--volume {srv}/metrics:/metrics"),
    single("gave-up", Runs::Ends(1), Left::Ended, "--restart on-failure:2"),
    single("temporary", Runs::Sleeps, Left::Running, "--rm; --volume /kept"),
    single("crashing", Runs::Ends(1), Left::Crashing, "--restart always; --volume crashing:/data"),
    single(
        "watcher",
        Runs::Sleeps,
        Left::Running,
        "--volume {sock}:/var/run/docker.sock; --volume memory:/memory; --restart unless-stopped",
    ),
    single("", Runs::Sleeps, Left::Running, "--label role=unnamed"),
    single("alone", Runs::Sleeps, Left::Running, "--network none; --volume device:/device; --env SECRET=Pa55w0rd"),
    single("prepared", Runs::Sleeps, Left::Created, "--hostname prepared; --network metrics; --ip 10.91.3.40; --volume /prepared"),
    single("frozen", Runs::Sleeps, Left::Paused, "--volume /ice; --restart always; --network shop_front; --cap-add NET_ADMIN"),
];

/// The options of a row, one word each; `places` says what stands for the words in braces.
pub(super) fn words(options: &str, places: &[(&str, String)]) -> Vec<String> {
    let options = places.iter().fold(options.replace("{pg-health}", PG_READY), |options, (name, place)| options.replace(name, place));
    let word = |option: &str| option.split_once(' ').map_or_else(|| option.to_owned(), |(flag, value)| format!("{flag}={value}"));
    options.split("; ").filter(|option| !option.is_empty()).map(word).collect()
}
