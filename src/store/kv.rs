//! Reads, transactions and watches on a member, wherever the leader is.
//!
//! Not here: the barrier of linearizable reads (`barrier`), proposing (`propose`).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::api::{Interest, Kv, StoreError, WatchStream};
use super::disk::run_on;
use super::member::Store;
use super::propose::refused;
use super::shared::Shared;
use super::types::{Command, Reply};
use crate::base::limits::STORE_REQUEST_MAX_BYTES;
use crate::logic::mvcc::{check_txn, is_read_only};
use crate::model::auth::{AuthInfo, Caller};
use crate::model::kv::{
    Op, RangeRequest, RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::model::refusal::Refusal;

/// Items of one watch that wait beside its stream.
const ITEMS_AHEAD: usize = 64;

fn bytes_of(request: &TxnRequest) -> usize {
    let ops = request.success.iter().chain(&request.failure).map(|op| match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Range(range) => range.key.len() + range.range_end.len(),
        Op::DeleteRange(delete) => delete.key.len() + delete.range_end.len(),
        Op::Txn(nested) => bytes_of(nested),
    });
    ops.sum::<usize>() + request.compare.iter().map(|compare| compare.key.len()).sum::<usize>()
}

impl Shared {
    /// Runs a transaction on the leader, or here if it only reads.
    pub(super) async fn txn(
        self: &Arc<Self>,
        by: Option<AuthInfo>,
        request: TxnRequest,
    ) -> Result<TxnResponse, StoreError> {
        self.health.borrow().check()?;
        check_txn(&request).map_err(|error| self.read_failed(error))?;
        if bytes_of(&request) > STORE_REQUEST_MAX_BYTES {
            return Err(Refusal::RequestTooLarge.into());
        }
        if is_read_only(&request) {
            self.barrier().await?;
            if let Some(by) = &by {
                self.state.auth().check_txn(by, &request)?;
            }
            let state = self.state.clone();
            let outcome = run_on(&*self.disk, move || state.read_txn(&request))
                .await
                .map_err(|error| self.disk_failed(&error))?;
            let outcome = outcome.map_err(|error| self.read_failed(error))?;
            self.check_unchanged(&by.map_or(Caller::Internal, Caller::User))?;
            return Ok(outcome.response);
        }
        let issued_at = self.state.applied_index();
        let command = Command::Txn { id: self.request_id(), issued_at, by, request };
        match self.propose(command).await? {
            Reply::Txn(response) => Ok(response),
            Reply::Refused(refusal) => Err(refused(refusal)),
            _ => Err(StoreError::Unknown { reason: "no answer was kept".into() }),
        }
    }
}

#[async_trait]
impl Kv for Store {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let shared = &self.shared;
        shared.health.borrow().check()?;
        if !request.serializable {
            shared.barrier().await?;
        }
        // One key is a short look; a range may read many pages.
        let answer = if request.range_end.is_empty() {
            shared.state.range(&request)
        } else {
            let state = shared.state.clone();
            run_on(&*shared.disk, move || state.range(&request))
                .await
                .map_err(|error| shared.disk_failed(&error))?
        };
        answer.map_err(|error| shared.read_failed(error))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.shared.txn(None, request).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        match self.shared.propose(Command::Compact { revision }).await? {
            Reply::Refused(refusal) => Err(refused(refusal)),
            _ => Ok(()),
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        self.open_watch(request, None)
    }

    async fn watch_value(
        &self,
        request: WatchRequest,
        interest: Interest,
    ) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        self.open_watch(request, Some(interest))
    }
}

impl Store {
    fn open_watch(
        &self,
        request: WatchRequest,
        interest: Option<Interest>,
    ) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        let shared = &self.shared;
        shared.health.borrow().check()?;
        if request.key.is_empty() {
            return Err(Refusal::EmptyKey.into());
        }
        let mut stream = shared.open_stream(Caller::Internal);
        stream.enter(0, request, interest)?;
        let (tx, rx) = mpsc::channel(ITEMS_AHEAD);
        shared.tracker.spawn(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    () = tx.closed() => return,
                    item = stream.next() => item,
                };
                let Some((_, item)) = item else { return };
                let last = matches!(item, WatchItem::Compacted { .. });
                if tx.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(rx)
    }
}
