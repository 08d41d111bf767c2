//! Reads, transactions and watches on a member, wherever the leader is.
//!
//! Not here: the barrier of linearizable reads (`barrier`), proposing (`propose`).

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::api::{Kv, StoreError};
use super::disk::run_on;
use super::health::Health;
use super::member::Store;
use super::propose::refused;
use super::shared::Shared;
use super::state::StateError;
use super::types::{Command, Reply, RequestId};
use super::watch::Watcher;
use crate::base::chain::chain;
use crate::base::limits::{STORE_REQUEST_MAX_BYTES, WATCH_BUFFER_EVENTS};
use crate::logic::mvcc::{MvccError, check_txn, is_read_only};
use crate::model::kv::{
    Op, RangeRequest, RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::model::refusal::Refusal;

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
    fn request_id(&self) -> RequestId {
        let sequence = self.sequence.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        RequestId { origin: self.identity.member, run: self.run, sequence }
    }

    /// Turns a failed read into an answer; a failed disk stops the member.
    fn read_failed(&self, error: MvccError<StateError>) -> StoreError {
        match error {
            MvccError::Compacted { requested, compacted } => {
                StoreError::Compacted { requested, compacted }
            }
            MvccError::Future { requested, current } => StoreError::Future { requested, current },
            MvccError::Refused(rule) => StoreError::Refused(rule),
            MvccError::View(error) => {
                let reason = chain(&error);
                Health::failed(&self.health, &reason);
                StoreError::Fatal { reason }
            }
        }
    }

    fn disk_failed(&self, error: &std::io::Error) -> StoreError {
        let reason = chain(error);
        Health::failed(&self.health, &reason);
        StoreError::Fatal { reason }
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
        let shared = &self.shared;
        shared.health.borrow().check()?;
        check_txn(&request).map_err(|error| shared.read_failed(error))?;
        if bytes_of(&request) > STORE_REQUEST_MAX_BYTES {
            return Err(Refusal::RequestTooLarge.into());
        }
        if is_read_only(&request) {
            shared.barrier().await?;
            let state = shared.state.clone();
            let outcome = run_on(&*shared.disk, move || state.read_txn(&request))
                .await
                .map_err(|error| shared.disk_failed(&error))?;
            return outcome
                .map(|outcome| outcome.response)
                .map_err(|error| shared.read_failed(error));
        }
        let issued_at = shared.state.progress().borrow().applied;
        let command = Command::Txn { id: shared.request_id(), issued_at, request };
        match shared.propose(command).await? {
            Reply::Txn(response) => Ok(response),
            Reply::Refused(refusal) => Err(refused(refusal)),
            Reply::Done => Err(StoreError::Unknown { reason: "no answer was kept".into() }),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        match self.shared.propose(Command::Compact { revision }).await? {
            Reply::Done | Reply::Txn(_) => Ok(()),
            Reply::Refused(refusal) => Err(refused(refusal)),
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        let shared = &self.shared;
        shared.health.borrow().check()?;
        if request.key.is_empty() {
            return Err(Refusal::EmptyKey.into());
        }
        let (tx, rx) = mpsc::channel(WATCH_BUFFER_EVENTS);
        let watcher = Watcher::new(shared.state.clone(), shared.disk.clone(), request, tx);
        let (health, cancel) = (shared.health.subscribe(), shared.cancel.clone());
        shared.tracker.spawn(watcher.run(health, cancel));
        Ok(rx)
    }
}
