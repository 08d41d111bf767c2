//! The host's wall clock, for times that people read.
//!
//! Why one door: nothing may be decided by comparing wall clocks of two hosts, so every
//! use of one is easy to find here. Not here: durations and deadlines, which are
//! measured on the monotonic clock.

/// Now, as far as this host knows.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
