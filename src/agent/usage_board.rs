//! What was measured last on this node, and how two readings of a counter become a rate.
//!
//! Invariants: a rate is never taken over a restart of the container; what could not be
//! measured for [`USAGE_STALE_AFTER`] is not told any more.
//! Not here: measuring (usage.rs).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::labels::PodIdentity;
use crate::base::limits::{USAGE_INTERVAL, USAGE_STALE_AFTER};
use crate::client::usage::{Measured, NodeReport, NodeUsage, PodUsage, Usage};
use crate::sys::clock;

/// A counter of CPU time, and when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) cpu_total_ns: u64,
}

/// What is known of a container, or of the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Track {
    last: Reading,
    told: Option<(Measured, Usage)>,
}

impl Track {
    pub(super) fn begin(reading: Reading) -> Self {
        Self { last: reading, told: None }
    }

    /// Takes a later reading in.
    pub(super) fn advance(&mut self, reading: Reading, memory_bytes: u64) {
        let window = reading.at.duration_since(self.last.at);
        let spent = reading.cpu_total_ns.checked_sub(self.last.cpu_total_ns);
        self.last = reading;
        let (Some(spent), false) = (spent, window.is_zero()) else {
            // The counter began anew: two more readings make a rate.
            self.told = None;
            return;
        };
        let nano = u128::from(spent) * 1_000_000_000 / window.as_nanos();
        let measured = Measured { time: clock::now(), window_ms: window.as_millis() as u64 };
        let cpu_nano = u64::try_from(nano).unwrap_or(u64::MAX);
        self.told = Some((measured, Usage { cpu_nano, memory_bytes }));
    }

    fn fresh(&self, now: Instant) -> Option<(Measured, Usage)> {
        self.told.filter(|_| now.duration_since(self.last.at) < USAGE_STALE_AFTER)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.told.is_none() || now.duration_since(self.last.at) >= USAGE_INTERVAL
    }
}

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) pod: PodIdentity,
    pub(super) name: String,
    pub(super) track: Track,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) node: Option<Track>,
    /// By the engine's id.
    pub(super) containers: HashMap<String, Tracked>,
}

/// What was measured last; shared by the sampler and those who ask.
#[derive(Debug, Default)]
pub(crate) struct UsageBoard(Mutex<Known>);

impl UsageBoard {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is fresh.
    pub(crate) fn report(&self) -> NodeReport {
        let now = Instant::now();
        let known = self.known();
        let node = known.node.and_then(|track| track.fresh(now));
        let mut pods: BTreeMap<&str, PodUsage> = BTreeMap::new();
        for tracked in known.containers.values() {
            let Some((measured, usage)) = tracked.track.fresh(now) else { continue };
            let pod = pods.entry(&tracked.pod.uid).or_insert_with(|| PodUsage {
                uid: tracked.pod.uid.clone(),
                measured,
                containers: BTreeMap::new(),
            });
            // As old as the oldest of its parts.
            if measured.time < pod.measured.time {
                pod.measured = measured;
            }
            pod.containers.insert(tracked.name.clone(), usage);
        }
        NodeReport {
            node: node.map(|(measured, usage)| NodeUsage { measured, usage }),
            pods: pods.into_values().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(at: Instant, seconds: u64, cpu_total_ns: u64) -> Reading {
        Reading { at: at + Duration::from_secs(seconds), cpu_total_ns }
    }

    #[test]
    fn a_rate_is_the_time_spent_over_the_time_passed() {
        let start = Instant::now();
        let mut track = Track::begin(reading(start, 0, 5_000_000_000));
        assert!(track.told.is_none() && track.is_due(start));
        track.advance(reading(start, 10, 7_500_000_000), 42);
        let (measured, usage) = track.told.unwrap();
        assert_eq!(measured.window_ms, 10_000);
        assert_eq!(usage, Usage { cpu_nano: 250_000_000, memory_bytes: 42 });
        assert!(!track.is_due(start + Duration::from_secs(12)));
        assert!(track.is_due(start + Duration::from_secs(10) + USAGE_INTERVAL));
    }

    #[test]
    fn a_counter_that_began_anew_makes_no_rate() {
        let start = Instant::now();
        let mut track = Track::begin(reading(start, 0, 9_000_000_000));
        track.advance(reading(start, 10, 1_000_000), 42);
        assert!(track.told.is_none());
        track.advance(reading(start, 20, 2_001_000_000), 42);
        assert_eq!(track.told.unwrap().1.cpu_nano, 200_000_000);
    }

    #[test]
    fn what_is_old_is_not_told() {
        let start = Instant::now();
        let mut track = Track::begin(reading(start, 0, 0));
        track.advance(reading(start, 1, 1), 42);
        let then = start + Duration::from_secs(1);
        assert!(track.fresh(then).is_some());
        assert!(track.fresh(then + USAGE_STALE_AFTER).is_none());
    }
}
