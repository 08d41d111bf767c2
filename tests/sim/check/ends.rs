//! What the members hold in the end: all the same, and what the history makes.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast::model::auth::Caller;
use holdfast::model::kv::{Event, KeyValue, RangeRequest, Revision, WatchItem, WatchRequest};
use holdfast::model::lease::LeaseId;
use holdfast::store::admin_api::{Leases, Maintenance};
use holdfast::store::{Kv, Store, StoreError};

use super::Truth;
use crate::history::History;

/// What one member holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) revision: Revision,
    /// Oldest revision that can be read, 0 if all can.
    pub(crate) compacted: Revision,
    pub(crate) kvs: Vec<KeyValue>,
    /// Every change since then.
    pub(crate) changes: BTreeMap<Revision, Vec<Event>>,
    pub(crate) leases: Vec<LeaseId>,
    /// Of the newest records, leases, users and roles; and of the history.
    pub(crate) hashes: (u32, u32),
}

pub(crate) async fn dump(store: &Store) -> Result<Dump, StoreError> {
    let all = Bytes::from_static(&[0]);
    let everything =
        RangeRequest { key: all.clone(), range_end: all.clone(), ..RangeRequest::default() };
    let answer = store.range(everything).await?;
    let compacted = store.status().compacted;
    let request = WatchRequest {
        key: all.clone(),
        range_end: all,
        // Of the compacted revision itself members may or may not know what was before.
        start_revision: compacted.max(1) + 1,
        prev_kv: true,
        progress_notify: true,
        ..WatchRequest::default()
    };
    let mut watch = store.watch(request).await?;
    let mut changes = BTreeMap::new();
    while let Some(item) = watch.recv().await {
        match item {
            WatchItem::Events { revision, events } => {
                changes.insert(revision, events);
                if revision >= answer.revision {
                    break;
                }
            }
            WatchItem::Progress(revision) if revision >= answer.revision => break,
            WatchItem::Progress(_) => {}
            WatchItem::Compacted { .. } => return Err(StoreError::ShuttingDown),
        }
    }
    let mut leases = store.leases(&Caller::Internal).await?;
    leases.sort_unstable();
    let (newest, _) = store.hash(&Caller::Internal).await?;
    let history = store.hash_kv(&Caller::Internal, answer.revision).await?.hash;
    let hashes = (newest, history);
    Ok(Dump { revision: answer.revision, compacted, kvs: answer.kvs, changes, leases, hashes })
}

/// All members hold the same, and it is what the archive was told; answers the newest
/// revision.
pub(crate) fn agree(history: &History, dumps: &[Dump]) -> Result<Revision, String> {
    let first = dumps.first().ok_or("no member answered at the end")?;
    for dump in dumps {
        if dump != first {
            return Err(format!("two members hold different states: {first:?} and {dump:?}"));
        }
        for (revision, events) in &dump.changes {
            let known = history.archive.get(revision);
            // What was seen last may not have reached the archive.
            if known.is_some_and(|known| known != events) {
                return Err(format!(
                    "a member holds {events:?} at {revision}, the archive {known:?}"
                ));
            }
        }
    }
    if history.archived() > first.revision {
        let text = format!("revision {} was seen and is lost", history.archived());
        return Err(text);
    }
    Ok(first.revision)
}

/// The end is what the history makes.
pub(crate) fn check(truth: &Truth, dumps: &[Dump]) -> Result<(), String> {
    for dump in dumps {
        let right = truth.model.live(&[0], &[0], truth.model.revision);
        if dump.kvs != right {
            return Err(format!("a member holds {:?}, right is {right:?}", dump.kvs));
        }
        // A key never outlives its lease.
        if let Some(kv) =
            dump.kvs.iter().find(|kv| kv.lease != 0 && !dump.leases.contains(&kv.lease))
        {
            return Err(format!("{kv:?} outlived its lease"));
        }
    }
    Ok(())
}
