//! The host's wall clock, for times that people read.
//!
//! Why one door: nothing may be decided by comparing wall clocks of two hosts, so every
//! use of one is easy to find here. Not here: durations and deadlines, which are
//! measured on the monotonic clock.

use jiff::Timestamp;

/// Now, as far as this host knows.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since 1970; 0 before.
pub fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap_or(0)
}

/// RFC 3339 in whole seconds, as people read it.
pub fn to_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
