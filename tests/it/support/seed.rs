//! The seed of a random test: a run that fails says how it is repeated.

use std::io::Write as _;
use std::time::SystemTime;

/// A seed: that of `BBACKUP_TEST_SEED`, else a new one. It is told if the test fails while this is held.
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// The seed of this run.
    pub(crate) fn of_this_run() -> Self {
        let given = std::env::var("BBACKUP_TEST_SEED").ok();
        let random = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        Self(given.map_or_else(random, |text| text.parse().unwrap_or_else(|_| panic!("BBACKUP_TEST_SEED={text} is no number"))))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "repeat it with BBACKUP_TEST_SEED={}", self.0);
        }
    }
}
