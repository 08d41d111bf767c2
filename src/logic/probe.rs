//! When a probe's outcomes change its verdict.
//!
//! Invariant: an outcome that is *unknown* (the engine was silent, the agent stops)
//! changes nothing, not even the count of failures in a row.

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As events name it: `Liveness probe failed: …`.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// What one try showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Success,
    Failure(String),
    /// Nothing can be said; see the invariant.
    Unknown(String),
}

/// What the probe says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few tries yet.
    Open,
    Good,
    Bad,
}

/// Counts outcomes in a row against the thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeMachine {
    success_threshold: u32,
    failure_threshold: u32,
    successes: u32,
    failures: u32,
    verdict: Verdict,
}

impl ProbeMachine {
    /// Thresholds below 1 count as 1. `initial` is what is known from before, for a
    /// container that ran when the agent started.
    pub fn new(success_threshold: i32, failure_threshold: i32, initial: Verdict) -> Self {
        let at_least_one = |value: i32| u32::try_from(value).unwrap_or(1).max(1);
        Self {
            success_threshold: at_least_one(success_threshold),
            failure_threshold: at_least_one(failure_threshold),
            successes: 0,
            failures: 0,
            verdict: initial,
        }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes one outcome in; true when the verdict changed.
    pub fn observe(&mut self, outcome: &ProbeOutcome) -> bool {
        let before = self.verdict;
        match outcome {
            ProbeOutcome::Unknown(_) => {}
            ProbeOutcome::Success => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.success_threshold {
                    self.verdict = Verdict::Good;
                }
            }
            ProbeOutcome::Failure(_) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.failure_threshold {
                    self.verdict = Verdict::Bad;
                }
            }
        }
        before != self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> ProbeOutcome {
        ProbeOutcome::Failure("no".into())
    }

    #[test]
    fn thresholds_count_outcomes_in_a_row() {
        let mut probe = ProbeMachine::new(2, 3, Verdict::Open);
        assert!(!probe.observe(&ProbeOutcome::Success));
        assert!(!probe.observe(&failure()));
        assert!(!probe.observe(&ProbeOutcome::Success));
        assert!(probe.observe(&ProbeOutcome::Success));
        assert_eq!(probe.verdict(), Verdict::Good);
        assert!(!probe.observe(&failure()));
        assert!(!probe.observe(&failure()));
        assert!(probe.observe(&failure()));
        assert_eq!(probe.verdict(), Verdict::Bad);
    }

    #[test]
    fn silence_changes_nothing() {
        let mut probe = ProbeMachine::new(1, 2, Verdict::Good);
        probe.observe(&failure());
        for _ in 0..100 {
            assert!(!probe.observe(&ProbeOutcome::Unknown("silent".into())));
        }
        assert_eq!(probe.verdict(), Verdict::Good);
        assert!(probe.observe(&failure()));
    }
}
