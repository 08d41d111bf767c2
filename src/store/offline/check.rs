//! Looks through a stopped member's directory for anything that cannot be.
//!
//! | what | how |
//! |---|---|
//! | log | every kept segment and frame by its checksum, no number missing, every entry decodes, indexes and terms in order |
//! | state file | redb's own check of every page; every record decodes |
//! | history and current | the newest history record of each key is its current one, and a deleted key has none |
//! | changes | each change has its record; each record behind what was trimmed has its change |
//! | marks | applied, committed and purged stand in order, compacted is not above revision |
//!
//! Invariant: the directory is not changed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::OfflineError;
use super::stopped::StoppedMember;
use crate::base::chain::chain;
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::Revision;
use crate::store::log::LogFile;
use crate::store::state::{DiskView, StateCheck, check_pages};

/// Problems beyond which no more are collected.
const FINDINGS_MAX: usize = 100;
/// Log entries that are read at once.
const ENTRIES: u64 = 1_024;

/// One thing that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `log` or `state`.
    pub part: &'static str,
    pub what: String,
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    pub cluster: Option<ClusterId>,
    pub generation: Option<Generation>,
    pub member: Option<MemberId>,
    pub log_entries: u64,
    pub keys: u64,
    pub history_records: u64,
    pub revision: Revision,
    /// Empty when all is well.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    fn find(&mut self, part: &'static str, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { part, what: what.into() });
        }
    }
}

impl StoppedMember {
    /// Checks a directory. An error means that it could not be looked at; damage is part
    /// of the report.
    pub fn check(path: &Path) -> Result<CheckReport, OfflineError> {
        let mut report = CheckReport::default();
        match check_pages(&super::OverlayDisk::new(path)) {
            Ok(true) => {}
            Ok(false) => report.find("state", "pages of the state file are damaged"),
            Err(error) => match super::stopped::state_error(path, error) {
                error @ OfflineError::Running { .. } => return Err(error),
                error => report.find("state", chain(&error)),
            },
        }
        let member = match Self::open(path) {
            Ok(member) => member,
            Err(error) if error.is_damage() => {
                let log = matches!(error, OfflineError::Log { .. });
                report.find(if log { "log" } else { "state" }, chain(&error));
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        report.cluster = Some(member.identity.cluster);
        report.generation = Some(member.identity.generation);
        report.member = Some(member.identity.member);
        member.check_log(&mut report);
        let view = member.state.view();
        if let Err(error) = member.check_state(&view, &mut report) {
            report.find("state", chain(&error));
        }
        Ok(report)
    }

    fn check_log(&self, report: &mut CheckReport) {
        let index = |mark: Option<crate::store::types::LogId>| mark.map(|mark| mark.index);
        let (purged, last) = (index(self.head.purged), index(self.head.last));
        if index(self.head.committed) > last {
            report.find("log", "more is committed than the log holds");
        }
        let applied = index(self.state.applied().0);
        if purged > applied {
            report.find("log", "it begins behind what the state has applied: entries are missing");
        }
        let Some(last) = last else { return };
        let mut next = purged.map_or(0, |purged| purged + 1);
        let mut term = 0;
        while next <= last {
            let entries = match self.log.read(next, next + ENTRIES) {
                Ok(entries) if entries.is_empty() => {
                    report.find("log", format!("entry {next} is missing"));
                    return;
                }
                Ok(entries) => entries,
                Err(error) => return report.find("log", chain(&error)),
            };
            for entry in entries {
                let found = entry.log_id;
                if found.index != next || found.leader_id.term < term {
                    report.find("log", format!("entry {next} is {found}"));
                }
                (next, term) = (found.index + 1, found.leader_id.term);
                report.log_entries += 1;
            }
        }
    }

    fn check_state(
        &self,
        view: &DiskView,
        report: &mut CheckReport,
    ) -> Result<(), crate::store::state::StateError> {
        let marks = view.image_marks()?;
        report.revision = marks.revision;
        if marks.compacted > marks.revision {
            report.find("state", "more is compacted than was ever written");
        }
        let mut problems: BTreeMap<String, ()> = BTreeMap::new();
        let seen: StateCheck = view.check(&mut |problem| {
            if problems.len() < FINDINGS_MAX {
                problems.insert(problem, ());
            }
        })?;
        report.keys = seen.keys;
        report.history_records = seen.history;
        for (problem, ()) in problems {
            report.find("state", problem);
        }
        Ok(())
    }
}
