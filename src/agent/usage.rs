//! Measures what the containers of this node and the node itself use.
//!
//! ```text
//! every tick: list ─► who runs ─► measure whom it is time for ─► two measurements: a rate
//! ```
//! Why two speeds: a container that just started gets its rate after two ticks, one that is
//! known costs the engine a call every [`USAGE_INTERVAL`] only.
//! Invariants: a rate is never taken over a restart of the container; what could not be
//! measured for [`USAGE_STALE_AFTER`] is not told any more.
//! Not here: who asks (`api/node_usage`), what pods ask for (the API).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::labels::{CONTAINER_NAME, NODE, PodIdentity, is_sandbox};
use crate::base::limits::{USAGE_INTERVAL, USAGE_STALE_AFTER, USAGE_TICK};
use crate::client::usage::{Measured, NodeReport, NodeUsage, PodUsage, Usage};
use crate::engine::port::RunState;
use crate::sys::{clock, host_facts};

/// Containers that are measured at once.
const AT_ONCE: usize = 4;

/// A counter of CPU time, and when it was read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    cpu_total_ns: u64,
}

/// What is known of a container, or of the node.
#[derive(Clone, Copy, Debug)]
struct Track {
    last: Reading,
    told: Option<(Measured, Usage)>,
}

impl Track {
    fn begin(reading: Reading) -> Self {
        Self { last: reading, told: None }
    }

    /// Takes a later reading in.
    fn advance(&mut self, reading: Reading, memory_bytes: u64) {
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

    fn is_due(&self, now: Instant) -> bool {
        self.told.is_none() || now.duration_since(self.last.at) >= USAGE_INTERVAL
    }
}

#[derive(Debug)]
struct Tracked {
    pod: PodIdentity,
    name: String,
    track: Track,
}

#[derive(Debug, Default)]
struct Known {
    node: Option<Track>,
    /// By the engine's id.
    containers: HashMap<String, Tracked>,
}

/// What was measured last; shared by the sampler and those who ask.
#[derive(Debug, Default)]
pub(crate) struct UsageBoard(Mutex<Known>);

impl UsageBoard {
    fn known(&self) -> MutexGuard<'_, Known> {
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

/// Measures until cancelled.
pub(crate) async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(USAGE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sample(&context) => {}
        }
    }
}

async fn sample(context: &Context) {
    let board = &context.usage;
    match host_facts::usage() {
        Ok(host) => {
            let reading = Reading { at: Instant::now(), cpu_total_ns: host.cpu_total_ns };
            let mut known = board.known();
            match &mut known.node {
                Some(track) if track.is_due(reading.at) => {
                    track.advance(reading, host.memory_working_set_bytes);
                }
                Some(_) => {}
                none => *none = Some(Track::begin(reading)),
            }
        }
        Err(error) => tracing::debug!(%error, "cannot measure this host"),
    }
    let label = (NODE.to_owned(), context.node_name().to_owned());
    let list = match context.engine.list(&[label]).await {
        Ok(list) => list,
        Err(error) => {
            tracing::debug!(%error, "the engine does not say what runs");
            return;
        }
    };
    let running: HashMap<String, (PodIdentity, String)> = list
        .into_iter()
        .filter(|line| line.state == RunState::Running && !is_sandbox(&line.labels))
        .filter_map(|line| {
            let pod = PodIdentity::of(&line.labels)?;
            let name = line.labels.get(CONTAINER_NAME)?.clone();
            Some((line.id, (pod, name)))
        })
        .collect();
    let now = Instant::now();
    let due: Vec<String> = {
        let mut known = board.known();
        known.containers.retain(|id, _| running.contains_key(id));
        let is_due =
            |id: &&String| known.containers.get(*id).is_none_or(|one| one.track.is_due(now));
        running.keys().filter(is_due).cloned().collect()
    };
    let measured: Vec<_> = futures::stream::iter(due)
        .map(|id| async move {
            let usage = context.engine.usage(&id).await;
            (id, Instant::now(), usage)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut known = board.known();
    for (id, at, usage) in measured {
        let Ok(usage) = usage.inspect_err(|error| tracing::debug!(id, %error, "not measured"))
        else {
            continue;
        };
        let reading = Reading { at, cpu_total_ns: usage.cpu_total_ns };
        match known.containers.get_mut(&id) {
            Some(tracked) => tracked.track.advance(reading, usage.memory_working_set_bytes),
            None => {
                if let Some((pod, name)) = running.get(&id) {
                    let (pod, name) = (pod.clone(), name.clone());
                    let track = Track::begin(reading);
                    known.containers.insert(id, Tracked { pod, name, track });
                }
            }
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
