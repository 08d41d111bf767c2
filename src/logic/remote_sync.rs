//! How far the city may answer while the remote center keeps up, and what that center can
//! prove of it. `store/modes` drives it.
//!
//! Why pure: a reply too early is a write that a forced failover loses although its loss
//! was printed as none; so every order of messages, leaders and losses is explored
//! (`model`).
//!
//! ```text
//!  remote center C                       the city's leader
//!  asks, notes when        ──question──► confirms with a majority that it still leads,
//!                                        then promises: no falling back for LEASE from now
//!  proven until            ◄──promise──  (only while all that was answered is durable in C)
//!  asked + CLAIM
//! ```
//! Why C asks and counts from its question: a promise that C counted from its receipt, or
//! a lease that C granted and the city never got, would let C claim too long.
//! Why everything waits for the leader's own first entry: earlier leaders may have answered
//! anything before it, and until it is committed an entry of theirs, a fallback too, can
//! come back with the next leader.
//! Why a change of footing or mode is such an entry, too: a replica that has not applied it
//! yet still answers whatever is committed before it.
//!
//! Invariants: what was answered under remote synchronization is durable on two of C's
//! three members; no fallback within LEASE of a promise, whoever leads by then; while C
//! claims *proven*, any two of its members hold all that was ever answered; no leader
//! answers from less than an earlier one did.
//!
//! Not here: carrying messages and the log entries of a change of mode (`store/`), the
//! order of a forced failover (`logic/generation`). Times are milliseconds of one monotonic
//! clock each; the two clocks need not agree, they may only not drift apart by a tenth.

#[cfg(test)]
mod model;

pub use crate::model::commit_mode::{CommitMode, Footing};

/// For how long the city promises not to fall back.
pub const LEASE_MS: u64 = 5_000;
/// For how long C relies on it: shorter by more than clocks drift apart.
pub const CLAIM_MS: u64 = LEASE_MS / 10 * 9;
/// How long C must have kept up before the city takes it back.
pub const HYSTERESIS_MS: u64 = 10_000;

/// The index that two of the remote members hold, and so many more that of any two at
/// least one does: of three two, of more all but one. 0 with fewer than two members.
pub fn durable_on_two(remote: &[u64]) -> u64 {
    let mut sorted = remote.to_vec();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    sorted.get(sorted.len().saturating_sub(2).max(1)).copied().unwrap_or(0)
}

/// What the leader knows when it decides; all of it is its own and current.
#[derive(Clone, Debug)]
pub struct Knowledge<'a> {
    pub mode: CommitMode,
    /// Of the newest committed entry that says so.
    pub footing: Footing,
    /// An entry that changes the footing is in the leader's log and not committed.
    pub change_pending: bool,
    /// Committed by Raft's majority, log index.
    pub committed: u64,
    /// Durable on each of the remote center's members, as they acknowledged.
    pub remote: &'a [u64],
}

/// The city's side: one per term of a leader, which forgets with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CityLeader {
    /// Index of the first entry of its own term, or of the newest change of mode or footing.
    first: u64,
    /// When it was elected, and later the last time it promised.
    bound_since_ms: u64,
    /// Since when C has kept up without a break.
    level_since_ms: Option<u64>,
    /// The highest index that may be answered, read or watched.
    safe: u64,
}

impl CityLeader {
    /// A leader just elected, whose first own entry is at `first`. It is bound by what the
    /// one before may have promised a moment ago.
    pub fn elected(now_ms: u64, first: u64) -> Self {
        Self { first, bound_since_ms: now_ms, level_since_ms: None, safe: 0 }
    }

    /// The change of mode or footing at this index is committed. If answers did not wait
    /// before it, replicas that have not applied it may answer all before it, so that counts
    /// as answered.
    pub fn changed(&mut self, index: u64, waited_before: bool) {
        if index > self.first {
            self.first = index;
            if !waited_before {
                self.safe = self.safe.max(index - 1);
            }
        }
    }

    /// The index up to which replicas may answer; never goes back, and is 0 until it covers
    /// all that an earlier leader can have answered. Replicas keep the highest they heard.
    pub fn safe(&mut self, known: &Knowledge<'_>) -> u64 {
        let bound = if known.mode.waits_for_remote(known.footing) {
            known.committed.min(durable_on_two(known.remote))
        } else {
            known.committed
        };
        if bound >= self.first {
            self.safe = self.safe.max(bound);
        }
        self.safe
    }

    /// Whether the leader may promise not to fall back for [`LEASE_MS`] from now on.
    /// Call it only after a majority confirmed that it leads, which began after the
    /// question came.
    pub fn promise(&mut self, now_ms: u64, known: &Knowledge<'_>) -> bool {
        let synchronous = known.mode != CommitMode::Majority
            && known.footing == Footing::Synchronous
            && !known.change_pending
            && known.committed >= self.first;
        // What was answered while the city stood alone may not be in C yet.
        if !synchronous || durable_on_two(known.remote) < self.safe.max(self.first) {
            return false;
        }
        self.bound_since_ms = self.bound_since_ms.max(now_ms);
        true
    }

    /// Whether C may still rely on a promise, of this leader or of one before it. Until
    /// then no operator's change to [`CommitMode::Majority`] may be proposed either.
    pub fn is_bound(&self, now_ms: u64) -> bool {
        now_ms < self.bound_since_ms + LEASE_MS
    }

    /// Whether the entry that lets the city answer alone may be proposed now.
    pub fn may_fall_back(&self, now_ms: u64, known: &Knowledge<'_>) -> bool {
        known.mode == CommitMode::RemoteSync
            && known.footing == Footing::Synchronous
            && !known.change_pending
            && !self.is_bound(now_ms)
    }

    /// Whether the entry that takes C back may be proposed: it `keeps_up`, as far as a way
    /// that is long allows, without a break for [`HYSTERESIS_MS`].
    pub fn may_return(&mut self, now_ms: u64, known: &Knowledge<'_>, keeps_up: bool) -> bool {
        if !keeps_up {
            self.level_since_ms = None;
            return false;
        }
        let since = *self.level_since_ms.get_or_insert(now_ms);
        known.mode == CommitMode::RemoteSync
            && known.footing == Footing::FallenBack
            && !known.change_pending
            && now_ms >= since + HYSTERESIS_MS
    }
}

/// The remote center's side: what it may say of its own completeness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RemoteClaim {
    proven_until_ms: Option<u64>,
}

impl RemoteClaim {
    /// A promise came; `asked_ms` is when its question was sent.
    pub fn promised(&mut self, asked_ms: u64) {
        self.proven_until_ms = self.proven_until_ms.max(Some(asked_ms + CLAIM_MS));
    }

    /// Until when it may be said, on its own clock.
    pub fn proven_until_ms(&self) -> Option<u64> {
        self.proven_until_ms
    }

    /// Whether any two of C's members are proven to hold all that was ever answered.
    pub fn is_proven(&self, now_ms: u64) -> bool {
        self.proven_until_ms.is_some_and(|until| now_ms < until)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CLAIM_MS, CityLeader, CommitMode, Footing, HYSTERESIS_MS, Knowledge, LEASE_MS, RemoteClaim,
        durable_on_two,
    };

    fn known(mode: CommitMode, footing: Footing, remote: &[u64]) -> Knowledge<'_> {
        Knowledge { mode, footing, change_pending: false, committed: 9, remote }
    }

    #[test]
    fn two_of_three_is_the_middle_one() {
        assert_eq!(durable_on_two(&[3, 9, 5]), 5);
        assert_eq!(durable_on_two(&[3]), 0);
        assert_eq!(durable_on_two(&[]), 0);
        assert_eq!(durable_on_two(&[3, 9]), 3, "of two both");
        assert_eq!(durable_on_two(&[3, 9, 5, 1]), 3, "of four three, or two could hold nothing");
    }

    #[test]
    fn each_mode_answers_as_far_as_it_says() {
        let remote = [7, 8, 2];
        let safe = |mode, footing| CityLeader::elected(0, 1).safe(&known(mode, footing, &remote));
        assert_eq!(safe(CommitMode::Majority, Footing::Synchronous), 9);
        assert_eq!(safe(CommitMode::RemoteSync, Footing::Synchronous), 7);
        assert_eq!(safe(CommitMode::RemoteSync, Footing::FallenBack), 9);
        assert_eq!(safe(CommitMode::MaxProtection, Footing::FallenBack), 7);
    }

    #[test]
    fn a_leader_answers_nothing_before_its_first_entry_is_safe() {
        let mut leader = CityLeader::elected(0, 8);
        let behind = known(CommitMode::RemoteSync, Footing::Synchronous, &[7, 7, 9]);
        assert_eq!(leader.safe(&behind), 0);
        assert!(!leader.promise(0, &behind));
        let level = known(CommitMode::RemoteSync, Footing::Synchronous, &[8, 7, 9]);
        assert_eq!(leader.safe(&level), 8);
        assert!(leader.promise(0, &level));
    }

    #[test]
    fn max_protection_never_falls_back_and_remote_sync_only_after_its_promise() {
        let remote = [9, 9, 9];
        let mut leader = CityLeader::elected(0, 1);
        let strict = known(CommitMode::MaxProtection, Footing::Synchronous, &remote);
        assert!(!leader.may_fall_back(u64::MAX / 2, &strict));
        let sync = known(CommitMode::RemoteSync, Footing::Synchronous, &remote);
        assert!(leader.promise(1_000, &sync));
        assert!(!leader.may_fall_back(1_000 + LEASE_MS - 1, &sync));
        assert!(leader.may_fall_back(1_000 + LEASE_MS, &sync));
        let mut claim = RemoteClaim::default();
        claim.promised(990);
        assert!(claim.is_proven(990 + CLAIM_MS - 1) && !claim.is_proven(990 + CLAIM_MS));
    }

    #[test]
    fn coming_back_takes_an_unbroken_time_of_keeping_up() {
        let mut leader = CityLeader::elected(0, 1);
        let level = known(CommitMode::RemoteSync, Footing::FallenBack, &[9, 9, 1]);
        assert!(!leader.may_return(0, &level, true));
        assert!(!leader.may_return(HYSTERESIS_MS - 1, &level, false));
        assert!(!leader.may_return(HYSTERESIS_MS, &level, true));
        assert!(leader.may_return(2 * HYSTERESIS_MS, &level, true));
    }

    #[test]
    fn a_change_is_promised_upon_only_once_the_remote_center_has_it() {
        let mut leader = CityLeader::elected(0, 1);
        leader.changed(9, false);
        let lacks_it = known(CommitMode::RemoteSync, Footing::Synchronous, &[8, 8, 9]);
        assert_eq!(leader.safe(&lacks_it), 8, "what was committed before it was answered");
        assert!(!leader.promise(0, &lacks_it));
        let has_it = known(CommitMode::RemoteSync, Footing::Synchronous, &[9, 8, 9]);
        assert_eq!(leader.safe(&has_it), 9);
        assert!(leader.promise(0, &has_it));
    }
}
