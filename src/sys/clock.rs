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

/// Whether something told the kernel that it keeps the clock right.
pub fn is_synchronized() -> Option<bool> {
    // SAFETY: zero is a value of every field, and with `modes` zero nothing is set.
    #[expect(unsafe_code, reason = "no crate of ours asks for the state of the clock")]
    let state = unsafe {
        let mut asked: nix::libc::timex = std::mem::zeroed();
        nix::libc::adjtimex(&raw mut asked)
    };
    (state >= 0).then_some(state != nix::libc::TIME_ERROR)
}
