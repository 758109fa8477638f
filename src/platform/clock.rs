//! What time it is: for people, and for measuring.
//!
//! How times are stored is the business of whoever stores them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};

/// The time of day. It jumps when somebody sets the clock; never measure with it.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time zone of this machine; UTC if it has none.
pub fn local_zone() -> TimeZone {
    TimeZone::system()
}

/// For measuring work: never goes back, and stands still while the machine sleeps.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Time since the machine started. Unlike [`monotonic`] it goes on while the machine sleeps: for deadlines that others keep too.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of day when the machine started, by its present clock.
pub fn boot_time() -> Timestamp {
    now().checked_sub(since_boot()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes() {
        let (before, start) = (since_boot(), monotonic());
        std::thread::sleep(Duration::from_millis(5));
        assert!(since_boot() >= before + Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert!(boot_time() < now());
    }
}
