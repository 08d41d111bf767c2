//! The Lock service: one holder at a time, the others wait in the order they came.
//!
//! Invariant: a taker whose client went away while it waited leaves no place behind.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::status;
use super::messages::v3lockpb as pb;
use super::messages::v3lockpb::lock_server::Lock;
use super::turns;
use super::unattended::attended;
use crate::model::auth::Caller;
use crate::model::kv::{Op, OpResponse, PutRequest, RangeRequest, Revision, TxnRequest};

/// The service over the store.
#[derive(Debug)]
pub(super) struct LockService(pub(super) Arc<Backend>);

/// Takes a place and waits for the turn; answers the revision at which it was seen.
async fn take(
    backend: &Backend,
    caller: &Caller,
    name: &Bytes,
    key: &Bytes,
    lease: i64,
) -> Result<Revision, Status> {
    let prefix = turns::prefix(name);
    let put = PutRequest { key: key.clone(), lease, ..PutRequest::default() };
    let owner = Op::Range(turns::first(&prefix));
    let request = TxnRequest {
        compare: vec![turns::created_at(key, 0)],
        success: vec![Op::Put(put), owner.clone()],
        failure: vec![Op::Range(RangeRequest::key(key.clone())), owner],
    };
    let done = backend.store.kv.txn_as(caller, request).await.map_err(status)?;
    let created = |response: Option<&OpResponse>| match response {
        Some(OpResponse::Range(range)) => range.kvs.first().map(|kv| kv.create_revision),
        _ => None,
    };
    // A lease that has its place already keeps it.
    let own = created(done.responses.first()).unwrap_or(done.revision);
    let owner = created(done.responses.get(1));
    if owner.is_none_or(|owner| owner == own) {
        return Ok(done.revision);
    }
    backend.wait_for_turn(caller, &prefix, own - 1).await?;
    let (revision, kept) = backend.read(caller, RangeRequest::key(key.clone())).await?;
    kept.map(|_| revision).ok_or_else(|| Status::unknown("mutex: session is expired"))
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let pb::LockRequest { name, lease } = request.into_inner();
        let lease = self.0.lease_or_new(&caller, lease).await?;
        let key = turns::key(&turns::prefix(&name), lease);
        let (backend, own) = (self.0.clone(), key.clone());
        let revision = attended(&self.0, move |gone| async move {
            let taken = tokio::select! {
                taken = take(&backend, &caller, &name, &own, lease) => taken,
                () = gone.cancelled() => Err(Status::cancelled("the caller went away")),
            };
            if taken.is_err() {
                // What cannot be removed goes with its lease.
                let _ = backend.remove(&caller, own, None).await;
            }
            taken
        })
        .await?;
        Ok(Response::new(pb::LockResponse { header: self.0.header_at(revision), key }))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let revision = self.0.remove(&caller, request.into_inner().key, None).await?;
        Ok(Response::new(pb::UnlockResponse { header: self.0.header_at(revision) }))
    }
}
