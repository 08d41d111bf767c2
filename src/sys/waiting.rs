//! Waits for a condition outside this process, with a deadline.
//!
//! Why polled: the kernel offers no event for "this control group is empty" or "that
//! program listens now" that works on every kernel we run on. Asynchronous code has
//! timers for this; here stands the one place where a plain thread waits.
//! Invariant: the condition is asked at least once, and once more after the deadline.

use std::time::{Duration, Instant};

/// Asks `condition` every `every` until it holds; false when `limit` passed without it.
pub fn wait_until(limit: Duration, every: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        let now = Instant::now();
        if now >= deadline {
            return condition();
        }
        std::thread::park_timeout(every.min(deadline - now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut asked = 0;
        let held = wait_until(Duration::from_secs(30), Duration::from_millis(1), || {
            asked += 1;
            asked == 3
        });
        assert!(held);
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_condition_that_never_holds_is_reported() {
        assert!(!wait_until(Duration::ZERO, Duration::from_millis(1), || false));
    }
}
