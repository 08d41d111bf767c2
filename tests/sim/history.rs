//! What clients asked and what they were told, in the order of one clock.
//!
//! Invariant: a moment is taken before a question leaves its client and after its answer
//! came, so `a.ended < b.begun` says that b was asked knowing a's answer.

use std::collections::BTreeMap;

use holdfast::model::kv::{
    Event, RangeRequest, RangeResponse, Revision, TxnRequest, TxnResponse, WatchRequest,
};
use holdfast::model::lease::LeaseId;
use holdfast::store::StoreError;

use crate::check::logs::LogBook;
use crate::world::now_ms;

/// A place in the order of all that clients did, and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) number: u64,
    pub(crate) ms: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Question {
    Txn(TxnRequest),
    Range(RangeRequest),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Txn(TxnResponse),
    Range(RangeResponse),
}

impl Answer {
    pub(crate) fn revision(&self) -> Revision {
        match self {
            Answer::Txn(answer) => answer.revision,
            Answer::Range(answer) => answer.revision,
        }
    }
}

/// How a question ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Answered(Answer),
    /// It was not done and never will be.
    Refused(StoreError),
    /// It may have been done, or may still be.
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Whom; for people who read a violation.
    #[expect(dead_code, reason = "shown, not compared")]
    pub(crate) place: u64,
    pub(crate) question: Question,
    pub(crate) begun: Moment,
    pub(crate) ended: Option<Moment>,
    pub(crate) end: End,
}

/// What one watch was given.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Events(Revision, Vec<Event>),
    Progress(Revision),
    Compacted(Revision),
}

/// One watch from its making to its end.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) place: u64,
    pub(crate) request: WatchRequest,
    /// First revision it has to give.
    pub(crate) from: Revision,
    /// Each item with the newest revision that the member had applied when it came.
    pub(crate) given: Vec<(Moment, Revision, Given)>,
}

/// A lease as its holder knows it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) ttl_s: i64,
    pub(crate) granted: Moment,
    /// Whether the grant was answered.
    pub(crate) is_certain: bool,
    /// Last moments at which an answered keepalive was sent.
    pub(crate) renewed: Vec<Moment>,
    /// When its end was asked for.
    pub(crate) revoked: Option<Moment>,
    /// Moments at which somebody was told that it is no more.
    pub(crate) told_gone: Vec<(Moment, Moment)>,
}

/// Everything that was noted.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: u64,
    pub(crate) asked: Vec<Asked>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) leases: BTreeMap<LeaseId, Held>,
    /// When anybody was first told of a revision at least as new as this one.
    pub(crate) seen: BTreeMap<Revision, Moment>,
    /// What happened in each revision, as the archive was told.
    pub(crate) archive: BTreeMap<Revision, Vec<Event>>,
    /// What members' logs hold.
    pub(crate) logs: LogBook,
    /// The highest compaction that was ever asked for.
    pub(crate) compacted: Revision,
    pub(crate) violations: Vec<String>,
}

impl History {
    pub(crate) fn now(&mut self) -> Moment {
        self.clock += 1;
        Moment { number: self.clock, ms: now_ms() }
    }

    pub(crate) fn begin(&mut self, place: u64, question: Question) -> usize {
        let begun = self.now();
        self.asked.push(Asked { place, question, begun, ended: None, end: End::Unknown });
        self.asked.len() - 1
    }

    pub(crate) fn end(&mut self, number: usize, end: End) {
        let now = self.now();
        if let End::Answered(answer) = &end {
            self.see(answer.revision(), now);
        }
        let asked = &mut self.asked[number];
        asked.ended = Some(now);
        asked.end = end;
    }

    /// Notes that a revision is known to somebody.
    pub(crate) fn see(&mut self, revision: Revision, now: Moment) {
        if self.newest_seen() < revision {
            self.seen.insert(revision, now);
        }
    }

    pub(crate) fn newest_seen(&self) -> Revision {
        self.seen.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// When a revision was certainly there.
    pub(crate) fn seen_at(&self, revision: Revision) -> Option<Moment> {
        self.seen.range(revision..).next().map(|(_, moment)| *moment)
    }

    /// The archive is whole up to here.
    pub(crate) fn archived(&self) -> Revision {
        self.archive.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    pub(crate) fn violate(&mut self, text: String) {
        self.violations.push(text);
    }
}

/// What an error says of the fate of a question.
pub(crate) fn fate(error: StoreError) -> End {
    match error {
        StoreError::NoLeader { .. }
        | StoreError::NoQuorum(_)
        | StoreError::HeldBack { .. }
        | StoreError::Refused(_)
        | StoreError::Compacted { .. }
        | StoreError::Future { .. }
        | StoreError::NoSpace { .. }
        | StoreError::NoKey { .. }
        | StoreError::BadRequest { .. } => End::Refused(error),
        // A member that fails or stops before it proposed says so, too; to call that
        // unknown only weakens the check.
        StoreError::Unknown { .. }
        | StoreError::Removed
        | StoreError::ShuttingDown
        | StoreError::Fatal { .. } => End::Unknown,
    }
}
