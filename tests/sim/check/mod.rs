//! What must hold of a run, each promise in a file of its own.
//!
//! The checks look only at what clients were told and at what members hold in the end.

pub(crate) mod ends;
pub(crate) mod leases;
pub(crate) mod linear;
pub(crate) mod logs;
mod tests;
pub(crate) mod watches;

use std::collections::BTreeMap;

use holdfast::model::kv::{Event, Revision};
use holdfast::model::lease::LeaseId;

use crate::history::History;
use crate::model::Model;

/// What happened in each revision, by one account that all others must agree with.
pub(crate) struct Truth {
    pub(crate) model: Model,
    pub(crate) events: BTreeMap<Revision, Vec<Event>>,
    /// Leases by the revision in which they ended; only where nothing else explains it.
    pub(crate) ended: BTreeMap<Revision, LeaseId>,
}

/// Everything that is known in the end; the first violation is the answer.
pub(crate) fn check(history: &History, dumps: &[ends::Dump]) -> Result<(), String> {
    if let Some(violation) = history.violations.first() {
        return Err(violation.clone());
    }
    let newest = ends::agree(history, dumps)?;
    let truth = linear::check(history, newest)?;
    ends::check(&truth, dumps)?;
    watches::check(history, &truth)?;
    leases::check(history, &truth)
}
