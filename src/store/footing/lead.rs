//! What a leader knows for the modes, for one term.

use std::collections::VecDeque;

use crate::logic::remote_sync::{CityLeader, CommitMode, Footing, Knowledge, durable_on_two};
use crate::store::commitment::Commitment;

/// How long answers wait for the remote center before it counts as not keeping up: a way
/// that is long, and a disk that is busy, take less.
const STALL_MS: u64 = 2_000;
/// A remote center keeps up if it holds all that was committed so long ago.
const LEVEL_MS: u64 = 1_000;
/// How often the time of what was written is noted.
const SAMPLE_MS: u64 = 100;
/// Times that are kept; of more every second one is dropped.
const SAMPLES: usize = 4_096;

/// When the log had reached an index.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: u64,
    applied: u64,
    last: u64,
}

/// What a leader sees at one moment.
#[derive(Debug)]
pub(in crate::store) struct Seen<'a> {
    pub(in crate::store) now_ms: u64,
    pub(in crate::store) commitment: &'a Commitment,
    pub(in crate::store) applied: u64,
    /// Durable on each remote member.
    pub(in crate::store) remote: &'a [u64],
}

#[derive(Debug)]
pub(in crate::store) struct Lead {
    pub(in crate::store) term: u64,
    pub(in crate::store) city: CityLeader,
    /// A change is proposed, and it is not known what became of it.
    pub(in crate::store) pending: bool,
    /// Until then nothing is promised, because a change waits for the promises to run out.
    pub(in crate::store) silent_until_ms: u64,
    /// The newest change that was seen, and whether answers wait since it.
    seen_change: (u64, bool),
    /// When the last promise was given.
    pub(in crate::store) promised_ms: Option<u64>,
    /// An index that waits to be safe, and since when.
    waiting: Option<(u64, u64)>,
    samples: VecDeque<Sample>,
}

impl Lead {
    /// A leader that has applied all up to `first`, at or behind its own first entry, and of
    /// it what holds.
    pub(in crate::store) fn begin(term: u64, now_ms: u64, first: u64, now: &Commitment) -> Self {
        Self {
            term,
            city: CityLeader::elected(now_ms, first),
            pending: false,
            silent_until_ms: 0,
            seen_change: (now.changed, now.waits_for_remote()),
            promised_ms: None,
            waiting: None,
            samples: VecDeque::new(),
        }
    }

    fn known<'a>(&self, seen: &Seen<'a>) -> Knowledge<'a> {
        Knowledge {
            mode: seen.commitment.mode,
            footing: seen.commitment.footing,
            change_pending: self.pending,
            committed: seen.applied,
            remote: seen.remote,
        }
    }

    /// Notes how far the log is, for the ages of what is missing elsewhere.
    pub(in crate::store) fn sample(&mut self, now_ms: u64, applied: u64, last: u64) {
        if self.samples.back().is_some_and(|newest| now_ms < newest.at_ms + SAMPLE_MS) {
            return;
        }
        if self.samples.len() >= SAMPLES {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1 || number > SAMPLES / 2
            });
        }
        self.samples.push_back(Sample { at_ms: now_ms, applied, last });
    }

    /// The age of the oldest entry behind `matched`, at most; 0 if there is none.
    pub(in crate::store) fn age_behind(&self, now_ms: u64, matched: u64, last: u64) -> u64 {
        if matched >= last {
            return 0;
        }
        let before = self.samples.iter().rev().find(|sample| sample.last <= matched);
        let since = before.or(self.samples.front()).map_or(now_ms, |sample| sample.at_ms);
        now_ms.saturating_sub(since)
    }

    /// How far may be answered; 0 while that is not known.
    pub(in crate::store) fn safe(&mut self, seen: &Seen<'_>) -> u64 {
        let (known, waited) = self.seen_change;
        if seen.commitment.changed > known {
            self.city.changed(seen.commitment.changed, waited);
            self.seen_change = (seen.commitment.changed, seen.commitment.waits_for_remote());
        }
        let safe = self.city.safe(&self.known(seen));
        match self.waiting {
            Some((index, _)) if index > safe => {}
            _ => self.waiting = (seen.applied > safe).then_some((seen.applied, seen.now_ms)),
        }
        safe
    }

    /// For how long answers have been waiting for the remote center.
    pub(in crate::store) fn waiting_ms(&self, now_ms: u64) -> u64 {
        self.waiting.map_or(0, |(_, since_ms)| now_ms.saturating_sub(since_ms))
    }

    pub(in crate::store) fn is_stalled(&self, now_ms: u64) -> bool {
        self.waiting_ms(now_ms) >= STALL_MS
    }

    /// Call it only after a majority confirmed, since the question came, that it leads.
    pub(in crate::store) fn promise(&mut self, seen: &Seen<'_>) -> bool {
        self.safe(seen);
        // A center that does not keep up must not hold the city for ever.
        if self.is_stalled(seen.now_ms) || seen.now_ms < self.silent_until_ms {
            return false;
        }
        let promised = self.city.promise(seen.now_ms, &self.known(seen));
        if promised {
            self.promised_ms = Some(seen.now_ms);
        }
        promised
    }

    /// The footing to change to, if it is time to.
    pub(in crate::store) fn change_due(&mut self, seen: &Seen<'_>) -> Option<Footing> {
        let known = self.known(seen);
        if self.is_stalled(seen.now_ms) && self.city.may_fall_back(seen.now_ms, &known) {
            return Some(Footing::FallenBack);
        }
        let past = seen.now_ms.checked_sub(LEVEL_MS);
        let then =
            past.and_then(|past| self.samples.iter().rev().find(|sample| sample.at_ms <= past));
        let keeps_up = seen.remote.len() > 1
            && then.is_some_and(|then| durable_on_two(seen.remote) >= then.applied);
        self.city.may_return(seen.now_ms, &known, keeps_up).then_some(Footing::Synchronous)
    }

    /// Why nothing that adds to the log is taken in, if so.
    pub(in crate::store) fn holds_back(
        &self,
        now_ms: u64,
        commitment: &Commitment,
    ) -> Option<String> {
        (commitment.mode == CommitMode::MaxProtection && self.is_stalled(now_ms)).then(|| {
            format!(
                "the commit mode is max-protection and two control nodes of the remote center \
                 have not confirmed anything for {} s; restore the center or the way to it, or \
                 let the city go on alone with `holdfast dr mode set remote-sync`",
                self.waiting_ms(now_ms) / 1_000
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::logic::remote_sync::{HYSTERESIS_MS, LEASE_MS};

    fn commitment(mode: CommitMode, footing: Footing) -> Commitment {
        let remote = BTreeSet::from([5, 6, 7]);
        Commitment { mode, footing, remote, changed: 1, ..Commitment::default() }
    }

    #[test]
    fn a_silent_center_is_left_behind_when_its_promise_is_over() {
        let now = commitment(CommitMode::RemoteSync, Footing::Synchronous);
        let mut lead = Lead::begin(1, 0, 1, &now);
        let seen = |now_ms, applied, remote| Seen { now_ms, commitment: &now, applied, remote };
        assert!(lead.promise(&seen(100, 5, &[5, 5, 5])));
        assert_eq!(lead.safe(&seen(200, 6, &[5, 5, 5])), 5);
        let late = 200 + STALL_MS;
        assert_eq!(lead.change_due(&seen(late, 6, &[5, 5, 5])), None, "it is promised");
        assert!(!lead.promise(&seen(late, 6, &[5, 5, 5])), "and no more promised");
        let over = 100 + LEASE_MS;
        assert_eq!(lead.change_due(&seen(over, 6, &[5, 5, 5])), Some(Footing::FallenBack));
    }

    #[test]
    fn a_change_of_who_counts_makes_nothing_safe() {
        let now = commitment(CommitMode::RemoteSync, Footing::Synchronous);
        let mut lead = Lead::begin(1, 0, 1, &now);
        let behind = [5, 5, 5];
        let seen = Seen { now_ms: 0, commitment: &now, applied: 8, remote: &behind };
        assert_eq!(lead.safe(&seen), 5);
        let other = Commitment { changed: 9, ..now.clone() };
        let seen = Seen { now_ms: 0, commitment: &other, applied: 9, remote: &behind };
        assert_eq!(lead.safe(&seen), 5);
    }

    #[test]
    fn a_center_that_lags_by_its_way_keeps_up_and_comes_back() {
        let now = commitment(CommitMode::RemoteSync, Footing::FallenBack);
        let mut lead = Lead::begin(1, 0, 1, &now);
        let mut came_back = None;
        for now_ms in (0..30_000).step_by(100) {
            let applied: u64 = now_ms + 10;
            // Always 300 entries, here 300 ms, behind.
            let remote = [applied.saturating_sub(300); 3];
            lead.sample(now_ms, applied, applied);
            let seen = Seen { now_ms, commitment: &now, applied, remote: &remote };
            if lead.change_due(&seen).is_some() && came_back.is_none() {
                came_back = Some(now_ms);
            }
        }
        let came_back = came_back.unwrap();
        assert!((HYSTERESIS_MS..HYSTERESIS_MS + 2_000).contains(&came_back), "{came_back}");
    }

    #[test]
    fn the_age_of_what_is_missing_is_never_told_too_small() {
        let now = commitment(CommitMode::RemoteSync, Footing::FallenBack);
        let mut lead = Lead::begin(1, 0, 1, &now);
        for second in 0..100_u64 {
            lead.sample(second * 1_000, second * 10, second * 10);
        }
        let age = lead.age_behind(99_000, 500, 990);
        assert_eq!(age, 49_000, "entry 501 was written after second 50");
        assert_eq!(lead.age_behind(99_000, 990, 990), 0);
        for more in 0..3 * SAMPLES as u64 {
            lead.sample(100_000 + more * 100, 1_000 + more, 1_000 + more);
        }
        assert!(lead.samples.len() <= SAMPLES);
    }

    #[test]
    fn max_protection_says_why_it_holds_back_and_what_to_do() {
        let now = commitment(CommitMode::MaxProtection, Footing::Synchronous);
        let mut lead = Lead::begin(1, 0, 1, &now);
        lead.safe(&Seen { now_ms: 0, commitment: &now, applied: 6, remote: &[5, 5, 5] });
        assert_eq!(lead.holds_back(STALL_MS - 1, &now), None);
        let reason = lead.holds_back(STALL_MS, &now).unwrap();
        assert!(reason.contains("max-protection") && reason.contains("dr mode set"), "{reason}");
        let late = STALL_MS + LEASE_MS;
        let seen = Seen { now_ms: late, commitment: &now, applied: 6, remote: &[5, 5, 5] };
        assert_eq!(lead.change_due(&seen), None);
    }
}
