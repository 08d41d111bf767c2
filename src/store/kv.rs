//! Reads, transactions and watches on a member, wherever the leader is.
//!
//! Linearizable reads: the leader confirms with a majority that it still leads and names
//! the log index that a read starting now must see; this member waits until it has
//! applied that far. Reads that wait at the same time share one such round.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::api::{Kv, StoreError};
use super::disk::run_on;
use super::health::Health;
use super::member::{Shared, Store};
use super::message::{Answer, Request};
use super::propose::refused;
use super::state::StateError;
use super::types::{Command, Reply, RequestId};
use super::watch::Watcher;
use crate::base::chain::chain;
use crate::base::limits::{STORE_REQUEST_MAX_BYTES, WATCH_BUFFER_EVENTS};
use crate::logic::mvcc::{MvccError, check_txn, is_read_only};
use crate::model::kv::{
    Op, RangeRequest, RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};

/// How long a read may look for a leader.
const READ_BUDGET: Duration = Duration::from_secs(10);
/// How long one round with one leader may take.
const ROUND: Duration = Duration::from_millis(1_500);

type Waiting = oneshot::Sender<Result<u64, StoreError>>;

/// Reads that wait for the next confirmation.
#[derive(Debug, Default)]
pub(super) struct ReadGate {
    waiting: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    next: Vec<Waiting>,
    running: bool,
}

impl ReadGate {
    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.waiting.lock().expect("no holder of the read gate panics")
    }
}

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
    /// Returns when this member has applied all that was acknowledged before the call.
    async fn barrier(self: &Arc<Self>) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        let start = {
            let mut gate = self.gate.lock();
            gate.next.push(tx);
            !std::mem::replace(&mut gate.running, true)
        };
        if start {
            // On the tracker, so that a reader who gives up does not stop the others.
            let shared = self.clone();
            self.tracker.spawn(async move { shared.run_gate().await });
        }
        let index = rx.await.map_err(|_| StoreError::ShuttingDown)??;
        let mut progress = self.state.progress();
        let applied = progress.wait_for(|progress| progress.applied >= index);
        match timeout(READ_BUDGET, applied).await {
            Ok(Ok(_)) => self.health.borrow().check(),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) => Err(StoreError::NoLeader {
                reason: format!("this member did not catch up to entry {index} in time"),
            }),
        }
    }

    async fn run_gate(self: Arc<Self>) {
        loop {
            // Only reads that were waiting before the round began may use its answer.
            let served = {
                let mut gate = self.gate.lock();
                if gate.next.is_empty() {
                    gate.running = false;
                    return;
                }
                std::mem::take(&mut gate.next)
            };
            let index = self.read_index().await;
            for waiting in served {
                // A reader may have given up.
                let _ = waiting.send(index.clone());
            }
        }
    }

    async fn read_index(self: &Arc<Self>) -> Result<u64, StoreError> {
        let until = Instant::now() + READ_BUDGET;
        let mut last = String::from("no leader is known");
        loop {
            self.health.borrow().check()?;
            let leader = *self.leader.borrow();
            match leader {
                None => {}
                Some(leader) if leader == self.identity.member => {
                    match self.read_index_here(until).await {
                        Ok(index) => return Ok(index),
                        Err(reason) => last = reason,
                    }
                }
                Some(leader) => {
                    let deadline = ROUND.min(until.saturating_duration_since(Instant::now()));
                    match self.outbound.call_member(leader.0, Request::ReadIndex, deadline).await {
                        Ok(Answer::ReadIndex(Ok(index))) => return Ok(index),
                        Ok(Answer::ReadIndex(Err(reason))) => last = reason,
                        Ok(answer) => last = format!("unexpected answer {answer:?}"),
                        Err(error) => last = error.to_string(),
                    }
                }
            }
            if Instant::now() >= until {
                return Err(StoreError::NoLeader { reason: last });
            }
            self.pause(leader).await;
        }
    }

    /// The index that a read starting now must see; only the leader knows.
    pub(super) async fn read_index_here(&self, until: Instant) -> Result<u64, String> {
        let until = until.min(Instant::now() + ROUND);
        match timeout_at(until, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
            Ok(Ok((read, _applied))) => Ok(read.log_id().index),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the leader could not confirm that it leads".into()),
        }
    }

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
            MvccError::BadRequest { reason } => StoreError::BadRequest { reason },
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
            return Err(StoreError::BadRequest { reason: "request is too large".into() });
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
            return Err(StoreError::BadRequest { reason: "key is not provided".into() });
        }
        let (tx, rx) = mpsc::channel(WATCH_BUFFER_EVENTS);
        let watcher = Watcher::new(shared.state.clone(), shared.disk.clone(), request, tx);
        let (health, cancel) = (shared.health.subscribe(), shared.cancel.clone());
        shared.tracker.spawn(watcher.run(health, cancel));
        Ok(rx)
    }
}
