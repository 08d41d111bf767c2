//! The store's contract in memory, for tests of the protocol alone.
//!
//! Keys and watches are the object layer's test store; leases live as long as they are not
//! revoked; users are absent.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::base::ids::MemberId;
use crate::model::auth::{AuthChange, AuthInfo, AuthStatus, Caller, Permission};
use crate::model::kv::{
    DeleteRangeRequest, KeyValue, Op, OpResponse, PutRequest, RangeRequest, RangeResponse,
    Revision, SortOrder, SortTarget, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::model::lease::{LeaseGranted, LeaseId, LeaseTimeToLive};
use crate::model::refusal::Refusal;
use crate::objects::memory_kv::MemoryKv;
use crate::store::admin_api::{
    Alarm, Auth, ClusterAdmin, ClusterMember, HistoryHash, Leases, Maintenance, MemberStatus,
};
use crate::store::api::{AnswerHeader, DeleteAnswer, PutAnswer, WHOLE_STREAM};
use crate::store::{EtcdKv, Kv, Measured, StoreError, WatchStream};

#[derive(Debug)]
pub(super) struct Memory {
    kv: Arc<MemoryKv>,
    leases: Mutex<BTreeMap<LeaseId, HashSet<Bytes>>>,
    pub(super) leader: Mutex<Option<MemberId>>,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            kv: Arc::new(MemoryKv::new()),
            leases: Mutex::default(),
            leader: Mutex::new(Some(MemberId(1))),
        })
    }

    fn attach(&self, key: &Bytes, lease: i64) -> Result<(), StoreError> {
        let mut leases = self.leases.lock().unwrap();
        for keys in leases.values_mut() {
            keys.remove(key);
        }
        if lease != 0 {
            let held = leases.get_mut(&lease).ok_or(Refusal::LeaseNotFound)?;
            held.insert(key.clone());
        }
        Ok(())
    }
}

/// Order, bounds and limit, which the object layer's store does not have.
fn finish(request: &RangeRequest, answer: &mut RangeResponse) {
    let kvs = &mut answer.kvs;
    let newest = request.max_create_revision;
    kvs.retain(|kv| newest == 0 || kv.create_revision <= newest);
    let by = |kv: &KeyValue| match request.sort_target {
        SortTarget::Create => kv.create_revision,
        SortTarget::Mod => kv.mod_revision,
        SortTarget::Version => kv.version,
        SortTarget::Key | SortTarget::Value => 0,
    };
    kvs.sort_by_key(by);
    if request.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
    let limit = usize::try_from(request.limit).unwrap();
    if limit > 0 && kvs.len() > limit {
        kvs.truncate(limit);
        answer.more = true;
    }
    if request.count_only {
        kvs.clear();
    }
}

fn unlimited(request: &RangeRequest) -> RangeRequest {
    RangeRequest { limit: 0, ..request.clone() }
}

#[async_trait]
impl EtcdKv for Memory {
    fn header(&self) -> AnswerHeader {
        let revision = self.kv.revision();
        AnswerHeader { cluster_id: 77, member_id: 1, revision, raft_term: 3 }
    }

    async fn range_as(
        &self,
        _caller: &Caller,
        request: RangeRequest,
    ) -> Result<RangeResponse, StoreError> {
        if request.key.is_empty() {
            return Err(Refusal::EmptyKey.into());
        }
        let mut answer = self.kv.range(unlimited(&request)).await?;
        finish(&request, &mut answer);
        Ok(answer)
    }

    async fn range_stream(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<mpsc::Receiver<Result<RangeResponse, StoreError>>, StoreError> {
        let answer = self.range_as(caller, request).await?;
        let (sender, chunks) = mpsc::channel(answer.kvs.len() + 1);
        let last = RangeResponse { kvs: Vec::new(), ..answer.clone() };
        for kv in answer.kvs {
            let chunk = RangeResponse { kvs: vec![kv], count: 0, more: false, ..last };
            sender.try_send(Ok(chunk)).unwrap();
        }
        sender.try_send(Ok(last)).unwrap();
        Ok(chunks)
    }

    async fn put_as(&self, caller: &Caller, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let wanted = request.prev_kv;
        let request = TxnRequest { success: vec![Op::Put(request)], ..TxnRequest::default() };
        let answer = self.txn_as(caller, request).await?;
        let Some(OpResponse::Put { prev_kv, .. }) = answer.responses.into_iter().next() else {
            unreachable!("a put answers a put")
        };
        let prev_kv = prev_kv.filter(|_| wanted);
        Ok(PutAnswer { revision: answer.revision, prev_kv })
    }

    async fn delete_as(
        &self,
        caller: &Caller,
        request: DeleteRangeRequest,
    ) -> Result<DeleteAnswer, StoreError> {
        let wanted = request.prev_kv;
        let request =
            TxnRequest { success: vec![Op::DeleteRange(request)], ..TxnRequest::default() };
        let answer = self.txn_as(caller, request).await?;
        let Some(OpResponse::DeleteRange { deleted, prev_kvs, .. }) =
            answer.responses.into_iter().next()
        else {
            unreachable!("a deletion answers a deletion")
        };
        let prev_kvs = if wanted { prev_kvs } else { Vec::new() };
        Ok(DeleteAnswer { revision: answer.revision, deleted, prev_kvs })
    }

    async fn txn_as(
        &self,
        _caller: &Caller,
        request: TxnRequest,
    ) -> Result<TxnResponse, StoreError> {
        let mut inner = request.clone();
        for op in inner.success.iter_mut().chain(&mut inner.failure) {
            match op {
                Op::Range(range) => *range = unlimited(range),
                Op::Put(put) if put.key.is_empty() => return Err(Refusal::EmptyKey.into()),
                Op::Put(put) => self.attach(&put.key, put.lease)?,
                _ => {}
            }
        }
        let mut answer = self.kv.txn(inner).await?;
        let ops = if answer.succeeded { &request.success } else { &request.failure };
        for (op, response) in ops.iter().zip(&mut answer.responses) {
            if let (Op::Range(range), OpResponse::Range(response)) = (op, response) {
                finish(range, response);
            }
        }
        Ok(answer)
    }

    async fn compact_as(
        &self,
        _caller: &Caller,
        revision: Revision,
        _physical: bool,
    ) -> Result<Revision, StoreError> {
        self.kv.compact(revision).await?;
        Ok(self.kv.revision())
    }

    async fn watch_stream(&self, _caller: &Caller) -> Result<Box<dyn WatchStream>, StoreError> {
        Ok(Box::new(Watches {
            kv: self.kv.clone(),
            ended: HashSet::new(),
            items: SelectAll::new(),
            progress: false,
        }))
    }
}

struct Watches {
    kv: Arc<MemoryKv>,
    ended: HashSet<i64>,
    items: SelectAll<BoxStream<'static, (i64, WatchItem)>>,
    progress: bool,
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watches")
    }
}

#[async_trait]
impl WatchStream for Watches {
    async fn add(&mut self, id: i64, request: WatchRequest) -> Result<(), StoreError> {
        if request.key == "forbidden" {
            return Err(Refusal::PermissionDenied.into());
        }
        self.ended.remove(&id);
        let items = ReceiverStream::new(self.kv.watch(request).await?);
        self.items.push(items.map(move |item| (id, item)).boxed());
        Ok(())
    }

    fn cancel(&mut self, id: i64) -> bool {
        self.ended.insert(id)
    }

    fn request_progress(&mut self) {
        self.progress = true;
    }

    async fn next(&mut self) -> Option<(i64, WatchItem)> {
        std::future::poll_fn(|context| {
            loop {
                match self.items.poll_next_unpin(context) {
                    Poll::Ready(Some((id, item))) if !self.ended.contains(&id) => {
                        return Poll::Ready(Some((id, item)));
                    }
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) | Poll::Pending => {
                        if std::mem::take(&mut self.progress) {
                            let told = WatchItem::Progress(self.kv.revision());
                            return Poll::Ready(Some((WHOLE_STREAM, told)));
                        }
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}

#[async_trait]
impl Leases for Memory {
    async fn lease_grant(
        &self,
        _caller: &Caller,
        id: LeaseId,
        ttl_s: i64,
    ) -> Result<LeaseGranted, StoreError> {
        let mut leases = self.leases.lock().unwrap();
        let id = if id == 0 { 1_000 + leases.len() as i64 } else { id };
        if leases.contains_key(&id) {
            return Err(Refusal::LeaseExists.into());
        }
        leases.insert(id, HashSet::new());
        Ok(LeaseGranted { id, ttl_s })
    }

    async fn lease_revoke(&self, caller: &Caller, id: LeaseId) -> Result<Revision, StoreError> {
        let keys = self.leases.lock().unwrap().remove(&id).ok_or(Refusal::LeaseNotFound)?;
        let request = TxnRequest {
            success: keys.into_iter().map(Op::delete).collect(),
            ..TxnRequest::default()
        };
        Ok(self.txn_as(caller, request).await?.revision)
    }

    async fn lease_keep_alive(&self, _caller: &Caller, id: LeaseId) -> Result<i64, StoreError> {
        let known = self.leases.lock().unwrap().contains_key(&id);
        if known { Ok(60) } else { Err(Refusal::LeaseNotFound.into()) }
    }

    async fn lease_time_to_live(
        &self,
        _caller: &Caller,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLive, StoreError> {
        let leases = self.leases.lock().unwrap();
        let held = leases.get(&id).filter(|_| keys).into_iter().flatten().cloned().collect();
        Ok(match leases.contains_key(&id) {
            true => LeaseTimeToLive { id, ttl_s: 60, granted_ttl_s: 60, keys: held },
            false => LeaseTimeToLive { id, ttl_s: -1, granted_ttl_s: 0, keys: held },
        })
    }

    async fn leases(&self, _caller: &Caller) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.leases.lock().unwrap().keys().copied().collect())
    }
}

#[async_trait]
impl Auth for Memory {
    async fn auth_status(&self, _caller: &Caller) -> Result<AuthStatus, StoreError> {
        Ok(AuthStatus { enabled: false, auth_revision: 1 })
    }

    fn auth_enabled(&self) -> bool {
        false
    }

    async fn auth_change(&self, _caller: &Caller, _change: AuthChange) -> Result<(), StoreError> {
        Err(Refusal::RootUserNotExist.into())
    }

    async fn authenticate(&self, _name: &str, _password: &str) -> Result<String, StoreError> {
        Err(Refusal::AuthNotEnabled.into())
    }

    async fn caller_of_token(&self, _token: &str) -> Result<Caller, StoreError> {
        Err(Refusal::InvalidAuthToken.into())
    }

    fn caller_of_certificate(&self, _common_name: &str) -> Caller {
        Caller::Anonymous
    }

    async fn user(&self, _caller: &Caller, _name: &str) -> Result<Vec<String>, StoreError> {
        Err(Refusal::UserNotFound.into())
    }

    async fn users(&self, _caller: &Caller) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn role(&self, _caller: &Caller, _name: &str) -> Result<Vec<Permission>, StoreError> {
        Err(Refusal::RoleNotFound.into())
    }

    async fn roles(&self, _caller: &Caller) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn check_admin(&self, _caller: &Caller) -> Result<(), StoreError> {
        Ok(())
    }

    fn check_known(&self, _caller: &Caller) -> Result<(), StoreError> {
        Ok(())
    }

    fn auth_info(&self, _caller: &Caller) -> Option<AuthInfo> {
        None
    }
}

#[async_trait]
impl Maintenance for Memory {
    fn measured(&self) -> Measured {
        Measured::default()
    }

    fn member_status(&self) -> MemberStatus {
        MemberStatus {
            db_size_bytes: 4_096,
            db_size_in_use_bytes: 1_024,
            leader: *self.leader.lock().unwrap(),
            raft_term: 3,
            raft_index: 9,
            raft_applied_index: 9,
            is_learner: false,
            errors: Vec::new(),
        }
    }

    async fn alarms(&self, _caller: &Caller) -> Result<Vec<Alarm>, StoreError> {
        Ok(Vec::new())
    }

    async fn set_alarm(
        &self,
        _caller: &Caller,
        alarm: Alarm,
        _on: bool,
    ) -> Result<Vec<Alarm>, StoreError> {
        Ok(vec![alarm])
    }

    async fn hash(&self, _caller: &Caller) -> Result<(u32, Revision), StoreError> {
        Ok((1, self.kv.revision()))
    }

    async fn hash_kv(
        &self,
        _caller: &Caller,
        revision: Revision,
    ) -> Result<HistoryHash, StoreError> {
        let newest = self.kv.revision();
        Ok(HistoryHash { hash: 1, hash_revision: revision, compact_revision: -1, revision: newest })
    }

    async fn move_leader(&self, _caller: &Caller, _to: MemberId) -> Result<(), StoreError> {
        Err(Refusal::BadLeaderTransferee.into())
    }

    async fn defragment(&self, _caller: &Caller) -> Result<(), StoreError> {
        Ok(())
    }

    async fn snapshot(
        &self,
        _caller: &Caller,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError> {
        let (sender, pieces) = mpsc::channel(1);
        sender.try_send(Ok(Bytes::from_static(b"state"))).unwrap();
        Ok(pieces)
    }
}

#[async_trait]
impl ClusterAdmin for Memory {
    async fn members(&self, _linearizable: bool) -> Result<Vec<ClusterMember>, StoreError> {
        let (name, address) = ("a1".to_owned(), "10.77.0.11:2380".to_owned());
        Ok(vec![ClusterMember { id: MemberId(1), name, address, is_learner: false }])
    }

    async fn member_add(
        &self,
        _caller: &Caller,
        _address: &str,
        _learner: bool,
    ) -> Result<ClusterMember, StoreError> {
        Err(Refusal::Unhealthy.into())
    }

    async fn member_promote(&self, _caller: &Caller, _id: MemberId) -> Result<(), StoreError> {
        Err(Refusal::MemberNotLearner.into())
    }

    async fn member_update(
        &self,
        _caller: &Caller,
        _id: MemberId,
        _address: &str,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn member_remove(&self, _caller: &Caller, _id: MemberId) -> Result<(), StoreError> {
        Err(Refusal::MemberNotFound.into())
    }
}
