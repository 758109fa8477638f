//! Containers that were started again are looked at: who does not stay is started once more, and then is an error that is tried again.

use std::time::{Duration, Instant};

use bbackup::docker::quiesce::{RepairOutcome, recover};
use bbackup::model::application::Consistency;
use bbackup::model::progress::Silent;

use super::{POLITE, STUBBORN, begin, block_on, connect, journals, plan, start, status};
use crate::support::engine::Stage;
use crate::support::home::Home;

/// Counts its starts in the container's own layer. What it does at the second one is up to `second`.
fn counting(second: &str) -> String {
    format!("n=$(cat /n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /n; if [ $n -gt 1 ]; then {second}; fi; {POLITE}")
}

#[test]
fn a_container_that_ends_right_after_it_was_started_again_is_started_once_more_and_then_an_error() {
    let home = Home::new();
    let stage = Stage::new(&home, "ended");
    let state = home.path("state");
    let bad = home.make_folder("bad");
    let mount = format!("{}:/bad", bad.display());
    let broken = start(&stage, "broken", &["-v", &mount], &format!("if [ -e /bad/data ]; then sleep 1.5; exit 7; fi; {POLITE}"));
    let few = start(&stage, "few", &["--restart", "on-failure:1"], &counting("exit 5"));
    let second = start(&stage, "second", &[], &counting("if [ $n = 2 ]; then sleep 0.3; exit 1; fi"));
    let job = start(&stage, "job", &[], &counting("sleep 0.3; exit 0"));
    let always = start(&stage, "z-always", &["--restart", "unless-stopped"], POLITE);
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let began = Instant::now();
        let guard = begin(&engine, &state, "RUN", plan).await;
        std::fs::write(bad.join("data"), "").unwrap();
        let release = guard.release(&Silent).await;
        assert!(began.elapsed() >= release.downtime + Duration::from_secs(3), "the look counts as time down: {:?}", release.downtime);
        let mut failed: Vec<(&str, String)> =
            release.failures.iter().map(|failure| (failure.container.as_str(), failure.cause.to_string())).collect();
        failed.sort_unstable();
        let ended = |code: i64| format!("it ended at once with exit code {code}");
        assert_eq!(failed, [(broken.as_str(), ended(7)), (few.as_str(), ended(5))]);
        assert_eq!(release.notes, [""; 0]);
        for (name, expected) in [(&second, "running"), (&job, "exited"), (&always, "running")] {
            assert_eq!(status(&engine, name).await, expected, "{name}");
        }
        assert_eq!(stage.ok(["exec", &second, "cat", "/n"]), "3", "it was started once more");
        assert_eq!(journals(&state), 1, "what failed is still to be done");

        stage.ok(["rm", "-f", &few]);
        for _ in 0..2 {
            let repaired = recover(&state, &engine, None).await.unwrap().repaired;
            let broken = repaired.iter().find(|repaired| repaired.container == broken).unwrap();
            let RepairOutcome::Failed(cause) = &broken.outcome else { panic!("{repaired:?}") };
            assert_eq!(cause.to_string(), ended(7));
            assert_eq!(journals(&state), 1, "what failed is still to be done");
        }
        std::fs::remove_file(bad.join("data")).unwrap();
        let repaired = recover(&state, &engine, None).await.unwrap().repaired;
        assert!(repaired.len() == 1 && matches!(&repaired[0].outcome, RepairOutcome::Restored), "{repaired:?}");
        assert_eq!((status(&engine, &broken).await.as_str(), journals(&state)), ("running", 0));
    });
}

#[test]
fn who_was_healthy_and_ends_is_started_once_more_and_then_an_error() {
    let home = Home::new();
    let stage = Stage::new(&home, "endedhealth");
    let state = home.path("state");
    let health = ["--health-cmd", "true", "--health-interval", "200ms"];
    let broken = start(&stage, "broken", &health, &counting("exit 7"));
    let second = start(&stage, "second", &health, &counting("if [ $n = 2 ]; then exit 1; fi"));
    for name in [&broken, &second] {
        let deadline = Instant::now() + Duration::from_secs(20);
        while stage.ok(["inspect", "--format", "{{.State.Health.Status}}", name]) != "healthy" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let release = begin(&engine, &state, "RUN", plan).await.release(&Silent).await;
        let failed: Vec<_> = release.failures.iter().map(|failure| (failure.container.as_str(), failure.cause.to_string())).collect();
        assert_eq!(failed, [(broken.as_str(), "it ended at once with exit code 7".to_owned())]);
        assert_eq!((status(&engine, &second).await.as_str(), journals(&state)), ("running", 1));
        assert_eq!(stage.ok(["exec", &second, "cat", "/n"]), "3", "it was started once more");
    });
}

#[test]
fn what_was_started_again_is_free_for_others_while_it_is_looked_at() {
    let home = Home::new();
    let stage = Stage::new(&home, "settling");
    let state = home.path("state");
    let app = start(&stage, "app", &[], STUBBORN);
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        // Another one stops it while it is looked at, and ends later or earlier than that.
        for later in [true, false] {
            let (mut release, settling) = begin(&engine, &state, "ONE", plan.clone()).await.start_again(&Silent).await;
            assert_eq!((status(&engine, &app).await.as_str(), journals(&state)), ("running", 1));
            let other = begin(&engine, &state, "TWO", plan.clone()).await;
            assert_eq!((status(&engine, &app).await.as_str(), journals(&state)), ("exited", 2));
            if later {
                settling.unwrap().end(&mut release).await;
                assert_eq!((status(&engine, &app).await.as_str(), journals(&state)), ("exited", 1), "it was started while it was read");
                drop(other);
            } else {
                let other = other.release(&Silent).await;
                assert!(other.failures.is_empty() && other.records[0].note.is_none(), "{other:?}");
                settling.unwrap().end(&mut release).await;
            }
            assert!(release.failures.is_empty(), "{release:?}");
            assert_eq!((status(&engine, &app).await.as_str(), journals(&state)), ("running", 0));
        }
        // Who dies meanwhile leaves it to the next start to look.
        let (_, settling) = begin(&engine, &state, "ONE", plan).await.start_again(&Silent).await;
        drop(settling);
        stage.ok(["kill", &app]);
        let repaired = recover(&state, &engine, None).await.unwrap().repaired;
        assert!(repaired.len() == 1 && matches!(&repaired[0].outcome, RepairOutcome::Restored), "{repaired:?}");
        assert_eq!((status(&engine, &app).await.as_str(), journals(&state)), ("running", 0));
    });
}
