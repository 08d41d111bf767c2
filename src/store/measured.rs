//! What a member measures of itself while it works, for whoever shows it.
//!
//! Why here and not where it is shown: only who does a thing knows when it began.
//! Clones share the figures. Not here: names and text format (`api/etcd/metrics`).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::commitment::Commitment;

/// The peer that a round trip went to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(non_snake_case, reason = "etcd's name of the label")]
pub struct PeerLabel {
    /// Its id, hexadecimal.
    pub To: String,
}

/// A member's figures since its start; the buckets are etcd's.
#[derive(Clone, Debug)]
pub struct Measured {
    /// One commit of the log: a write and its sync.
    pub log_sync: Histogram,
    /// One flush of the state's file.
    pub state_commit: Histogram,
    /// From a heartbeat to its answer; only a leader has them.
    pub round_trip: Family<PeerLabel, Histogram>,
    /// How often another leader was seen than before.
    pub leader_changes: Counter,
    /// Proposals of this member that wait for an answer.
    pub proposals_pending: Gauge,
    /// Proposals of this member that ended without one.
    pub proposals_failed: Counter,
    /// 1 while answers wait for the remote center, 0 while they do not.
    pub remote_synchronous: Gauge,
    /// How often that changed.
    pub footing_changes: Counter,
}

impl Default for Measured {
    fn default() -> Self {
        let disk = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        Self {
            log_sync: disk(),
            state_commit: disk(),
            round_trip: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0001, 2.0, 16))
            }),
            leader_changes: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            remote_synchronous: Gauge::default(),
            footing_changes: Counter::default(),
        }
    }
}

impl Measured {
    pub(super) fn round_trip(&self, member: u64, took: Duration) {
        let label = PeerLabel { To: format!("{member:x}") };
        self.round_trip.get_or_create(&label).observe(took.as_secs_f64());
    }

    /// Takes in what answers wait for now.
    pub(super) fn footing_changed(&self, now: &Commitment) {
        let synchronous = i64::from(now.waits_for_remote());
        if self.remote_synchronous.set(synchronous) != synchronous {
            self.footing_changes.inc();
        }
    }

    /// Counts a proposal as pending for as long as the answer is kept.
    pub(super) fn pending(&self) -> Pending {
        self.proposals_pending.inc();
        Pending(self.proposals_pending.clone())
    }
}

/// A proposal that waits, also if who made it gives up.
#[derive(Debug)]
pub(super) struct Pending(Gauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}
