//! What a forced failover to the remote center would lose now: proven, bounded or unknown.
//!
//! Why pure: the words are read at the worst moment, and a nothing that is not nothing is
//! worse than no answer.
//! Invariants: *proven* only while the remote center's claim holds, or while the leader
//! itself is bound by a promise; every bound is an upper one; never a bare 0.

use super::remote_sync::CLAIM_MS;
use crate::model::commit_mode::{CommitMode, Footing};
use crate::model::dr_status::Rpo;

/// No bound is told smaller: what is measured is measured now and then.
const RESOLUTION_MS: u64 = 1_000;

/// What is known at one node.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub mode: CommitMode,
    pub footing: Footing,
    /// The remote center has two members, or more.
    pub has_remote: bool,
    /// For how long the remote center's claim holds, where the node is of it.
    pub proven_ms: u64,
    /// How long ago the question of the newest promise was asked, there.
    pub promise_age_ms: Option<u64>,
    /// The leader's word, where it answers.
    pub leader: Option<LeaderWord>,
    /// By the clocks of the day, how long ago the newest canary here was written.
    pub canary_age_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct LeaderWord {
    /// For how long it has promised not to fall back.
    pub promised_ms: u64,
    /// What two of the remote center's members have not confirmed: entries, and the age of
    /// the oldest.
    pub entries: u64,
    pub oldest_ms: u64,
}

/// The loss that is possible.
pub fn rpo(known: &Known) -> Rpo {
    if !known.has_remote {
        return Rpo::Unknown {
            reason: "no other site has two control nodes, so there is nothing to fail over to"
                .into(),
        };
    }
    if known.proven_ms > 0 {
        return Rpo::Proven {
            for_ms: known.proven_ms,
            reason: "the city promised to answer nothing that two nodes here do not hold".into(),
        };
    }
    let waits = known.mode.waits_for_remote(known.footing);
    match known.leader {
        Some(word) if waits && word.promised_ms > 0 => Rpo::Proven {
            for_ms: word.promised_ms,
            reason: "two nodes of the remote center hold everything that was answered".into(),
        },
        Some(word) => Rpo::Bounded {
            at_most_ms: word.oldest_ms.max(RESOLUTION_MS),
            entries: Some(word.entries),
            reason: if waits {
                "answers wait for the remote center, and it was promised nothing lately".into()
            } else {
                "the city answers alone: what the remote center lacks would be lost".into()
            },
        },
        None => alone(known, waits),
    }
}

/// No leader answers: only what this side knows counts.
fn alone(known: &Known, waits: bool) -> Rpo {
    if waits && let Some(age_ms) = known.promise_age_ms {
        let at_most_ms = age_ms.saturating_sub(CLAIM_MS).max(RESOLUTION_MS);
        let reason = if known.mode == CommitMode::MaxProtection {
            "the city must not answer alone under max-protection; it could only since the last \
             promise ran out, and only if an operator there changed the mode"
        } else {
            "the city may have answered alone since its last promise ran out"
        };
        return Rpo::Bounded { at_most_ms, entries: None, reason: reason.into() };
    }
    match known.canary_age_ms {
        Some(age_ms) => Rpo::Bounded {
            at_most_ms: age_ms.max(RESOLUTION_MS),
            entries: None,
            reason: "all before the newest canary is here; by the clocks of both sides".into(),
        },
        None => Rpo::Unknown {
            reason: "no leader answers, no promise was given since this node started, and there \
                     is no canary"
                .into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            mode: CommitMode::RemoteSync,
            footing: Footing::Synchronous,
            has_remote: true,
            proven_ms: 0,
            promise_age_ms: None,
            leader: None,
            canary_age_ms: None,
        }
    }

    fn bound(rpo: &Rpo) -> u64 {
        let Rpo::Bounded { at_most_ms, .. } = rpo else { panic!("{rpo:?}") };
        *at_most_ms
    }

    #[test]
    fn proven_is_only_what_is_promised() {
        let claims = Known { proven_ms: 4_000, ..known() };
        assert!(matches!(rpo(&claims), Rpo::Proven { for_ms: 4_000, .. }));
        let word = LeaderWord { promised_ms: 3_000, entries: 4, oldest_ms: 30 };
        let leader = Known { leader: Some(word), ..known() };
        assert!(matches!(rpo(&leader), Rpo::Proven { for_ms: 3_000, .. }));
        let fallen = Known { footing: Footing::FallenBack, ..leader };
        assert_eq!(bound(&rpo(&fallen)), 1_000, "a promise of before counts no more");
        let unpromised = LeaderWord { promised_ms: 0, ..word };
        assert_eq!(bound(&rpo(&Known { leader: Some(unpromised), ..known() })), 1_000);
    }

    #[test]
    fn without_a_leader_the_bound_grows_from_the_end_of_the_claim() {
        let cut_off = Known { promise_age_ms: Some(30_000), ..known() };
        assert_eq!(bound(&rpo(&cut_off)), 30_000 - CLAIM_MS);
        let strict = Known { mode: CommitMode::MaxProtection, ..cut_off };
        let Rpo::Bounded { reason, .. } = rpo(&strict) else { panic!() };
        assert!(reason.contains("only if an operator"), "{reason}");
        let fallen = Known { footing: Footing::FallenBack, canary_age_ms: Some(70_000), ..cut_off };
        assert_eq!(bound(&rpo(&fallen)), 70_000);
        assert!(matches!(rpo(&known()), Rpo::Unknown { .. }));
    }

    #[test]
    fn never_a_bare_nothing() {
        let word = LeaderWord { promised_ms: 0, entries: 0, oldest_ms: 0 };
        let level = Known { footing: Footing::FallenBack, leader: Some(word), ..known() };
        assert!(bound(&rpo(&level)) > 0);
        assert!(matches!(rpo(&Known { has_remote: false, ..level }), Rpo::Unknown { .. }));
    }
}
