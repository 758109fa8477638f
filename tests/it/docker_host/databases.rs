//! The databases of the host: how they are run from the programs of this machine, filled, and asked for what is in them.

use std::thread;
use std::time::{Duration, Instant};

use super::table::Runs;
use crate::support::engine::Stage;
use crate::support::parts;

/// How many rows each gets.
const ROWS: u32 = 5000;

/// The databases by their containers.
pub(super) const DATABASES: &[(&str, Runs)] =
    &[("shop-db-1", Runs::Postgres), ("shop-cache-1", Runs::Redis), ("wiki-db-1", Runs::MariaDb), ("old-cache", Runs::Redis)];

/// What a container with `/usr` of this machine runs for a database.
pub(super) fn script(runs: Runs) -> String {
    match runs {
        Runs::Postgres => format!(
            "set -e; export PATH={}:$PATH
            test -e /data/pg/PG_VERSION || initdb -D /data/pg -U postgres -A trust --locale=C --no-sync >/dev/null
            exec postgres -D /data/pg -k /tmp -c listen_addresses=",
            postgres()
        ),
        Runs::MariaDb => "set -e; options='--no-defaults --datadir=/data/my --innodb-log-file-size=8M --skip-name-resolve'
            test -e /data/my/mysql_upgrade_info || mariadb-install-db $options --auth-root-authentication-method=normal --skip-test-db
            exec mariadbd $options --socket=/tmp/my.sock --skip-networking"
            .to_owned(),
        _ => "exec redis-server --dir /data --appendonly yes --unixsocket /tmp/redis.sock --port 0".to_owned(),
    }
}

/// The folder of PostgreSQL's programs.
pub(super) fn postgres() -> String {
    parts::postgres_programs().unwrap().display().to_string()
}

fn ask(container: &str, runs: Runs, question: &str) -> Vec<String> {
    let psql = format!("{}/psql", postgres());
    let client: &[&str] = match runs {
        Runs::Postgres => &[&psql, "-h", "/tmp", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc"],
        Runs::MariaDb => &["mariadb", "--no-defaults", "-uroot", "-S", "/tmp/my.sock", "-BNe"],
        _ => &["redis-cli", "-s", "/tmp/redis.sock", "-e", "eval"],
    };
    let end: &[&str] = if runs == Runs::Redis { &[question, "0"] } else { &[question] };
    ["exec", container].iter().chain(client).chain(end).map(|word| (*word).to_owned()).collect()
}

/// Waits until a database answers.
#[track_caller]
pub(super) fn wait(stage: &Stage<'_>, container: &str, runs: Runs) {
    let start = Instant::now();
    let question = if runs == Runs::Redis { "return 1" } else { "select 1" };
    loop {
        let outcome = stage.docker(ask(container, runs, question)).run();
        if outcome.code() == Some(0) {
            return;
        }
        let logs = || stage.docker(["logs", container]).run().describe();
        assert!(start.elapsed() < Duration::from_mins(1), "{container} does not answer\n{}\n{}", outcome.describe(), logs());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Puts rows into a database.
#[track_caller]
pub(super) fn fill(stage: &Stage<'_>, container: &str, runs: Runs) {
    let fill = match runs {
        Runs::Postgres => format!(
            "create table orders (n int primary key, what text not null, pad text);
            create index on orders (what); create view few as select * from orders where n < 10;
            insert into orders select n, md5(n::text), repeat('x', 100) from generate_series(1, {ROWS}) n"
        ),
        Runs::MariaDb => format!(
            "create database wiki character set utf8mb4; use wiki;
            create table pages (n int primary key, title varchar(40) not null unique, body text) engine=InnoDB;
            insert into pages select seq, md5(seq), concat('größer ', repeat('y', seq % 200)) from seq_1_to_{ROWS};
            create user reader@localhost identified by 'hunter2'; grant select on wiki.* to reader@localhost"
        ),
        _ => format!(
            "for n = 1, {ROWS} do redis.call('set', 'key:' .. n, redis.sha1hex('{container}' .. n)) end
            for n = 1, 100 do redis.call('hset', 'hash', n, n * n); redis.call('rpush', 'list', n); redis.call('zadd', 'sorted', n, 'm' .. n) end
            return 'OK'"
        ),
    };
    stage.ok(ask(container, runs, &fill));
}

/// One line that changes with any row.
#[track_caller]
pub(super) fn rows(stage: &Stage<'_>, container: &str, runs: Runs) -> String {
    let question = match runs {
        Runs::Postgres => "select count(*), sum(n), md5(string_agg(what || pad, '' order by n)), (select count(*) from few) from orders",
        Runs::MariaDb => {
            "set session group_concat_max_len = 10000000;
            select count(*), sum(n), md5(group_concat(title, body order by n)) from wiki.pages;
            check table wiki.pages; show grants for reader@localhost"
        }
        _ => {
            "local keys = redis.call('keys', 'key:*')
            table.sort(keys)
            local all = ''
            for _, key in ipairs(keys) do all = redis.sha1hex(all .. key .. redis.call('get', key)) end
            local other = redis.call('hgetall', 'hash')
            for _, value in ipairs(redis.call('lrange', 'list', 0, -1)) do table.insert(other, value) end
            for _, value in ipairs(redis.call('zrange', 'sorted', 0, -1, 'withscores')) do table.insert(other, value) end
            return redis.call('dbsize') .. ' ' .. #keys .. ' ' .. all .. ' ' .. redis.sha1hex(table.concat(other, ','))"
        }
    };
    let rows = stage.ok(ask(container, runs, question));
    assert!(rows.contains(&ROWS.to_string()), "{container} has not what was put into it: {rows}");
    rows
}
