//! Leases in etcd's terms: keys that go when their holder falls silent.
//!
//! All times to live are whole seconds, as in etcd's protocol.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Names a lease; positive, 0 is none.
pub type LeaseId = i64;

/// Longest time to live that can be asked for, seconds (etcd's `MaxLeaseTTL`).
pub const LEASE_TTL_MAX_S: i64 = 9_000_000_000;

/// What a grant answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    pub id: LeaseId,
    /// What was granted, seconds; at least what was asked for and at least the minimum.
    pub ttl_s: i64,
}

/// What `time to live` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimeToLive {
    pub id: LeaseId,
    /// Seconds left; -1 if the lease is gone or its time is over.
    pub ttl_s: i64,
    /// Seconds granted; 0 if the lease is gone.
    pub granted_ttl_s: i64,
    /// Attached keys, if they were asked for, in order.
    pub keys: Vec<Bytes>,
}
