//! Keys for etcd's clients: on somebody's behalf, in chunks, physically compacted.
//!
//! Not here: what this program asks for itself (`kv`), watches (`watch`).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::api::{AnswerHeader, DeleteAnswer, EtcdKv, Kv, PutAnswer, StoreError, WatchStream};
use super::disk::run_on;
use super::member::Store;
use super::shared::Shared;
use super::space::adds;
use super::state::Moment;
use crate::logic::auth::Access;
use crate::logic::mvcc::{KeyRange, check_revision, is_read_only};
use crate::model::auth::Caller;
use crate::model::kv::{
    DeleteRangeRequest, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, Revision,
    SortOrder, TxnRequest, TxnResponse,
};
use crate::model::refusal::Refusal;

/// Chunks of a streamed range on their way.
const CHUNKS_AHEAD: usize = 2;
/// Keys and bytes of one chunk.
const CHUNK_KEYS: usize = 1_000;
const CHUNK_BYTES: usize = 1024 * 1024;

#[async_trait]
impl EtcdKv for Store {
    fn header(&self) -> AnswerHeader {
        use openraft::async_runtime::WatchReceiver;
        let shared = &self.shared;
        AnswerHeader {
            cluster_id: shared.identity.cluster.as_u64(),
            member_id: shared.identity.member.0,
            revision: shared.state.revisions().current,
            raft_term: shared.raft.metrics().borrow_watched().current_term,
        }
    }

    async fn range_as(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<RangeResponse, StoreError> {
        let shared = &self.shared;
        shared.check_access(caller, Access::Read, &request.key, &request.range_end)?;
        let answer = self.range(request).await?;
        shared.check_unchanged(caller)?;
        Ok(answer)
    }

    async fn range_stream(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<mpsc::Receiver<Result<RangeResponse, StoreError>>, StoreError> {
        let shared = &self.shared;
        shared.health.borrow().check()?;
        if request.key.is_empty() {
            return Err(Refusal::EmptyKey.into());
        }
        shared.check_access(caller, Access::Read, &request.key, &request.range_end)?;
        if !request.serializable {
            shared.barrier().await?;
        }
        let moment = shared.state.moment(&request);
        shared.check_unchanged(caller)?;
        check_revision(moment.revisions(), request.revision)
            .map_err(|error| shared.read_failed(error))?;
        let (tx, rx) = mpsc::channel(CHUNKS_AHEAD);
        let (task, cancel) = (shared.clone(), shared.cancel.clone());
        shared.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = task.stream(Arc::new(moment), request, tx) => {}
            }
        });
        Ok(rx)
    }

    async fn put_as(&self, caller: &Caller, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let txn = TxnRequest { success: vec![Op::Put(request)], ..TxnRequest::default() };
        let mut answer = self.txn_as(caller, txn).await?;
        match answer.responses.pop() {
            Some(OpResponse::Put { revision, prev_kv }) => Ok(PutAnswer { revision, prev_kv }),
            other => Err(odd(&other)),
        }
    }

    async fn delete_as(
        &self,
        caller: &Caller,
        request: DeleteRangeRequest,
    ) -> Result<DeleteAnswer, StoreError> {
        let txn = TxnRequest { success: vec![Op::DeleteRange(request)], ..TxnRequest::default() };
        let mut answer = self.txn_as(caller, txn).await?;
        match answer.responses.pop() {
            Some(OpResponse::DeleteRange { revision, deleted, prev_kvs }) => {
                Ok(DeleteAnswer { revision, deleted, prev_kvs })
            }
            other => Err(odd(&other)),
        }
    }

    async fn txn_as(
        &self,
        caller: &Caller,
        request: TxnRequest,
    ) -> Result<TxnResponse, StoreError> {
        if *caller != Caller::Internal && !is_read_only(&request) {
            self.shared.check_alarms(adds(&request))?;
        }
        self.shared.txn(caller.info(), request).await
    }

    async fn compact_as(
        &self,
        caller: &Caller,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, StoreError> {
        if *caller != Caller::Internal {
            self.shared.check_alarms(false)?;
        }
        self.compact(revision).await?;
        let state = &self.shared.state;
        if physical {
            let mut trimmed = state.trimmed();
            // This member may not have heard of the compaction yet.
            let removed = trimmed.wait_for(|trimmed| *trimmed >= revision);
            tokio::select! {
                biased;
                () = self.shared.cancel.cancelled() => return Err(StoreError::ShuttingDown),
                removed = removed => removed.map(drop).map_err(|_| StoreError::ShuttingDown)?,
            }
        }
        Ok(state.revisions().current)
    }

    async fn watch_stream(&self, caller: &Caller) -> Result<Box<dyn WatchStream>, StoreError> {
        self.shared.health.borrow().check()?;
        Ok(Box::new(self.shared.open_stream(caller.clone())))
    }
}

fn odd(response: &Option<OpResponse>) -> StoreError {
    StoreError::Unknown { reason: format!("unexpected response {response:?}") }
}

impl Shared {
    /// Sends the answer in chunks until all is sent or nobody listens.
    async fn stream(
        self: Arc<Self>,
        moment: Arc<Moment>,
        request: RangeRequest,
        out: mpsc::Sender<Result<RangeResponse, StoreError>>,
    ) {
        let plain = request.sort_order == SortOrder::None && request == unsorted(&request);
        let sent = if plain && !request.count_only {
            self.stream_plain(&moment, &request, &out).await
        } else {
            self.stream_whole(moment, request, &out).await
        };
        if let Err(error) = sent {
            // The receiver may be gone, and then nobody needs to know.
            let _ = out.send(Err(error)).await;
        }
    }

    /// What must be sorted or filtered must be read whole.
    async fn stream_whole(
        &self,
        moment: Arc<Moment>,
        request: RangeRequest,
        out: &mpsc::Sender<Result<RangeResponse, StoreError>>,
    ) -> Result<(), StoreError> {
        let whole = run_on(&*self.disk, move || moment.range(&request))
            .await
            .map_err(|error| self.disk_failed(&error))?
            .map_err(|error| self.read_failed(error))?;
        let (revision, more, count) = (whole.revision, whole.more, whole.count);
        let mut rest = whole.kvs;
        loop {
            let mut bytes = 0;
            let fits = rest.iter().take(CHUNK_KEYS).take_while(|kv| {
                let room = bytes < CHUNK_BYTES;
                bytes += kv.key.len() + kv.value.len();
                room
            });
            let tail = rest.split_off(fits.count());
            let kvs = std::mem::replace(&mut rest, tail);
            let last = rest.is_empty();
            let (more, count) = if last { (more, count) } else { (false, 0) };
            if out.send(Ok(RangeResponse { revision, kvs, more, count })).await.is_err() || last {
                return Ok(());
            }
        }
    }

    async fn stream_plain(
        &self,
        moment: &Arc<Moment>,
        request: &RangeRequest,
        out: &mpsc::Sender<Result<RangeResponse, StoreError>>,
    ) -> Result<(), StoreError> {
        let (revision, at) = (moment.revision(), request.revision);
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let mut rest = KeyRange::new(request.key.clone(), request.range_end.clone());
        let mut sent = 0;
        loop {
            let left = limit.map_or(usize::MAX, |limit| limit - sent);
            let (of, range) = (moment.clone(), rest.clone());
            let take = left.min(CHUNK_KEYS);
            let kvs = run_on(&*self.disk, move || of.page(&range, at, take, CHUNK_BYTES))
                .await
                .map_err(|error| self.disk_failed(&error))?
                .map_err(|error| self.state_failed(&error))?;
            sent += kvs.len();
            let ended = kvs.is_empty();
            if let Some(last) = kvs.last() {
                rest = rest.behind(&last.key);
            }
            let full = limit.is_some_and(|limit| sent >= limit);
            let mut chunk = RangeResponse { revision, kvs, more: false, count: 0 };
            if ended || full {
                let (of, range) = (moment.clone(), rest.clone());
                let left = run_on(&*self.disk, move || of.count(&range, at))
                    .await
                    .map_err(|error| self.disk_failed(&error))?
                    .map_err(|error| self.state_failed(&error))?;
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                chunk.more = full && left > 0;
                chunk.count =
                    i64::try_from(if ended { sent } else { sent + left }).unwrap_or(i64::MAX);
            }
            if request.keys_only {
                chunk.kvs.iter_mut().for_each(|kv| kv.value.clear());
            }
            if out.send(Ok(chunk)).await.is_err() || ended || full {
                return Ok(());
            }
        }
    }
}

/// The same request with nothing that sorts or filters.
fn unsorted(request: &RangeRequest) -> RangeRequest {
    RangeRequest {
        sort_target: crate::model::kv::SortTarget::Key,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
        ..request.clone()
    }
}
