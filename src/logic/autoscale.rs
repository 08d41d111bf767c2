//! How many replicas a workload should have, from what its pods use.
//!
//! ```text
//! pods, usage ─► calculator: a proposal per metric ─► the highest ─► behavior: stabilized,
//!                not faster than the policies, within min and max ─► scale
//! ```
//! Source: `pkg/controller/podautoscaler` (`replica_calculator.go`, `horizontal.go`); its
//! sentences are kept, for people search for them.
//! Not here: reading and writing (`controllers/autoscaler.rs`).

pub mod behavior;
pub mod calculator;

use jiff::{SignedDuration, Timestamp};

/// A pod as far as scaling is concerned.
#[derive(Clone, Debug)]
pub struct ScaledPod {
    pub name: String,
    /// It is going, or it failed: it does no work any more.
    pub ignored: bool,
    pub pending: bool,
    pub started: Option<Timestamp>,
    /// Whether it is ready, and since when that is so.
    pub ready: Option<(bool, Timestamp)>,
    /// What it asks for of the metric's resource, in thousandths; an error says for which
    /// container it says nothing.
    pub request: Result<i64, String>,
    pub sample: Option<Sample>,
}

/// What a pod uses, in thousandths, and when that was measured over how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub value: i64,
    pub time: Timestamp,
    pub window: SignedDuration,
}

/// How far from its target a ratio may be without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { down: 0.1, up: 0.1 }
    }
}

impl Tolerances {
    pub(crate) fn hold(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// A quantity in thousandths as Kubernetes writes a decimal one.
pub fn milli_text(milli: i64) -> String {
    if milli % 1_000 != 0 {
        return format!("{milli}m");
    }
    let mut value = milli / 1_000;
    let suffixes = ["", "k", "M", "G", "T", "P", "E"];
    let mut at = 0;
    while value != 0 && value % 1_000 == 0 && at + 1 < suffixes.len() {
        value /= 1_000;
        at += 1;
    }
    format!("{value}{}", suffixes[at])
}

#[cfg(test)]
mod tests {
    use super::milli_text;

    #[test]
    fn quantities_are_written_as_kubernetes_writes_them() {
        for (milli, text) in [
            (0, "0"),
            (250, "250m"),
            (1_000, "1"),
            (2_000_000, "2k"),
            (20_971_520_000, "20971520"),
            (1_500_000, "1500"),
        ] {
            assert_eq!(milli_text(milli), text);
        }
    }
}
