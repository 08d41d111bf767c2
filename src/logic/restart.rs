//! Whether an ended container is started again, and how long that waits.
//!
//! Why the step is an input: it travels in the container's label, so the back-off
//! survives a restart of the agent without any memory of its own.
//! The waits are the kubelet's: the first restart is at once, then 10 s, doubled up to
//! 300 s, and a container that ran for 10 minutes starts over.

use std::time::Duration;

/// First wait before a restart.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait before a restart.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long is healthy again.
pub const BACK_OFF_RESET_AFTER: Duration = Duration::from_secs(600);

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// An absent policy is `Always`, as the API's default.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// Whether a container that ended like this runs again.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
}

/// The step of the next attempt: how many restarts in a row lie behind it.
pub fn next_step(step: u32, ran_for: Duration) -> u32 {
    if ran_for >= BACK_OFF_RESET_AFTER { 1 } else { step.saturating_add(1) }
}

/// How long after the end of the former attempt an attempt of this step may start.
pub fn back_off(step: u32) -> Duration {
    if step <= 1 {
        return Duration::ZERO;
    }
    let doublings = (step - 2).min(16);
    BACK_OFF_FIRST.saturating_mul(1 << doublings).min(BACK_OFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_as_the_kubelet_does() {
        let waits: Vec<u64> = (0..10).map(|step| back_off(step).as_secs()).collect();
        assert_eq!(waits, [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(back_off(u32::MAX), BACK_OFF_MAX);
    }

    #[test]
    fn ten_good_minutes_reset_the_back_off() {
        assert_eq!(next_step(7, Duration::from_secs(599)), 8);
        assert_eq!(next_step(7, Duration::from_secs(600)), 1);
    }

    #[test]
    fn policies_decide_by_exit_code() {
        assert!(RestartPolicy::parse(None).restarts(0));
        assert!(!RestartPolicy::parse(Some("OnFailure")).restarts(0));
        assert!(RestartPolicy::parse(Some("OnFailure")).restarts(1));
        assert!(!RestartPolicy::parse(Some("Never")).restarts(1));
    }
}
