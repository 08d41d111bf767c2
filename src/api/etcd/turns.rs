//! What locks and elections have in common: keys of one prefix take turns by age.
//!
//! Each taker's key is the prefix and its lease in hexadecimal, so one lease takes at most
//! one place. A taker waits until every key that was created before its own is gone.
//! The layout is that of etcd's own client library, so that takers through this service
//! and through that library stand in the same queue.

use bytes::Bytes;
use tonic::Status;

use super::backend::Backend;
use super::errors::{refused, status};
use crate::model::auth::Caller;
use crate::model::kv::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, EventKind, KeyValue, RangeRequest,
    Revision, SortOrder, SortTarget, TxnRequest, WatchItem, WatchRequest, prefix_end,
};
use crate::model::refusal::Refusal;

/// Seconds of the lease that a taker without one gets; nobody renews it.
const OWN_LEASE_S: i64 = 60;

/// The prefix of all takers of `name`.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    Bytes::from([name, b"/"].concat())
}

/// The taker's key.
pub(super) fn key(prefix: &[u8], lease: i64) -> Bytes {
    Bytes::from([prefix, format!("{lease:x}").as_bytes()].concat())
}

/// The one who came first and is still there.
pub(super) fn first(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        limit: 1,
        ..RangeRequest::prefix(prefix.clone())
    }
}

/// The key was created at this revision; 0 says that it must not exist.
pub(super) fn created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        key: key.clone(),
        range_end: Bytes::new(),
        op: CompareOp::Equal,
        target: CompareTarget::CreateRevision(revision),
    }
}

impl Backend {
    /// The given lease, or a new one for a taker without.
    pub(super) async fn lease_or_new(&self, caller: &Caller, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let granted = self.store.leases.lease_grant(caller, 0, OWN_LEASE_S).await;
        granted.map(|granted| granted.id).map_err(status)
    }

    pub(super) async fn read(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<(Revision, Option<KeyValue>), Status> {
        let answer = self.store.kv.range_as(caller, request).await.map_err(status)?;
        Ok((answer.revision, answer.kvs.into_iter().next()))
    }

    /// Deletes a key, if `guard` holds.
    pub(super) async fn remove(
        &self,
        caller: &Caller,
        key: Bytes,
        guard: Option<Compare>,
    ) -> Result<Revision, Status> {
        let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let request = TxnRequest {
            compare: guard.into_iter().collect(),
            success: vec![crate::model::kv::Op::DeleteRange(delete)],
            failure: Vec::new(),
        };
        let done = self.store.kv.txn_as(caller, request).await.map_err(status)?;
        Ok(done.revision)
    }

    /// Waits until no key of the prefix is left that was created at or before `newest`.
    pub(super) async fn wait_for_turn(
        &self,
        caller: &Caller,
        prefix: &Bytes,
        newest: Revision,
    ) -> Result<(), Status> {
        loop {
            // The last one before: waiting for it alone wakes one taker at a time.
            let last = RangeRequest {
                sort_order: SortOrder::Descend,
                sort_target: SortTarget::Create,
                limit: 1,
                max_create_revision: newest,
                keys_only: true,
                ..RangeRequest::prefix(prefix.clone())
            };
            let (revision, before) = self.read(caller, last).await?;
            let Some(before) = before else { return Ok(()) };
            let gone = |kind, _: &KeyValue| kind == EventKind::Delete;
            self.wait_for(caller, before.key, Bytes::new(), revision + 1, gone).await?;
        }
    }

    /// Waits for the first event that `wanted` accepts; answers what it is about.
    pub(super) async fn wait_for(
        &self,
        caller: &Caller,
        key: Bytes,
        range_end: Bytes,
        start_revision: Revision,
        wanted: impl Fn(EventKind, &KeyValue) -> bool + Send,
    ) -> Result<(EventKind, KeyValue), Status> {
        let mut feed = self.store.kv.watch_stream(caller).await.map_err(status)?;
        let request = WatchRequest { key, range_end, start_revision, ..WatchRequest::default() };
        feed.add(0, request).await.map_err(status)?;
        loop {
            match feed.next().await {
                Some((_, WatchItem::Events { events, .. })) => {
                    let mut events = events.into_iter();
                    if let Some(found) = events.find(|event| wanted(event.kind, &event.kv)) {
                        return Ok((found.kind, found.kv));
                    }
                }
                Some((_, WatchItem::Progress(_))) => {}
                Some((_, WatchItem::Compacted { .. })) => return Err(refused(Refusal::Compacted)),
                None => return Err(refused(Refusal::Stopped)),
            }
        }
    }
}

/// All keys of a prefix as a watch names them.
pub(super) fn end_of(prefix: &Bytes) -> Bytes {
    prefix_end(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taker_stands_where_etcds_own_library_puts_it() {
        let prefix = prefix(b"jobs");
        assert_eq!(&prefix[..], b"jobs/");
        assert_eq!(&key(&prefix, 0x694d_8f4c_1e2a_3b05)[..], b"jobs/694d8f4c1e2a3b05");
    }
}
