//! The Election service: campaigners of one name, of whom the oldest leads.
//!
//! Invariants: a leader's key exists as long as it leads; a campaigner whose client went
//! away while it waited leaves no place behind; a proclamation of one who leads no more is
//! refused.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::status;
use super::messages::v3electionpb as pb;
use super::messages::v3electionpb::election_server::Election;
use super::turns;
use super::unattended::attended;
use super::wire;
use crate::model::auth::Caller;
use crate::model::kv::{
    EventKind, KeyValue, Op, OpResponse, PutRequest, RangeRequest, Revision, TxnRequest,
};

/// The service over the store.
#[derive(Debug)]
pub(super) struct ElectionService(pub(super) Arc<Backend>);

fn leader_of(key: Option<pb::LeaderKey>) -> Result<pb::LeaderKey, Status> {
    key.ok_or_else(|| Status::invalid_argument("\"leader\" field must be provided"))
}

/// Writes the leader's value, if it still leads.
async fn proclaim(
    backend: &Backend,
    caller: &Caller,
    leader: &pb::LeaderKey,
    value: Bytes,
) -> Result<Revision, Status> {
    let key = leader.key.clone();
    let put = PutRequest { key, value, lease: leader.lease, ..PutRequest::default() };
    let request = TxnRequest {
        compare: vec![turns::created_at(&leader.key, leader.rev)],
        success: vec![Op::Put(put)],
        failure: Vec::new(),
    };
    let done = backend.store.kv.txn_as(caller, request).await.map_err(status)?;
    if done.succeeded { Ok(done.revision) } else { Err(Status::unknown("election: not leader")) }
}

/// Takes a place; answers the revision of it and of the key's creation.
async fn enter(
    backend: &Backend,
    caller: &Caller,
    place: &pb::LeaderKey,
    value: &Bytes,
) -> Result<(Revision, Revision), Status> {
    let put = PutRequest {
        key: place.key.clone(),
        value: value.clone(),
        lease: place.lease,
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![turns::created_at(&place.key, 0)],
        success: vec![Op::Put(put)],
        failure: vec![Op::Range(RangeRequest::key(place.key.clone()))],
    };
    let done = backend.store.kv.txn_as(caller, request).await.map_err(status)?;
    let Some(OpResponse::Range(range)) = done.responses.first() else {
        return Ok((done.revision, done.revision));
    };
    let found = range.kvs.first().cloned().unwrap_or_default();
    if found.value != *value {
        let leader = pb::LeaderKey { rev: found.create_revision, ..place.clone() };
        proclaim(backend, caller, &leader, value.clone()).await?;
    }
    Ok((done.revision, found.create_revision))
}

async fn campaign(
    backend: &Backend,
    caller: &Caller,
    place: &pb::LeaderKey,
    value: &Bytes,
) -> Result<(Revision, Revision), Status> {
    let (revision, created) = enter(backend, caller, place, value).await?;
    backend.wait_for_turn(caller, &turns::prefix(&place.name), created - 1).await?;
    Ok((revision, created))
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let lease = self.0.lease_or_new(&caller, lease).await?;
        let key = turns::key(&turns::prefix(&name), lease);
        let mut leader = pb::LeaderKey { name, key, rev: 0, lease };
        let (backend, place) = (self.0.clone(), leader.clone());
        let (revision, created) = attended(&self.0, move |gone| async move {
            let won = tokio::select! {
                won = campaign(&backend, &caller, &place, &value) => won,
                () = gone.cancelled() => Err(Status::cancelled("the caller went away")),
            };
            if won.is_err() {
                // What cannot be removed goes with its lease.
                let _ = backend.remove(&caller, place.key, None).await;
            }
            won
        })
        .await?;
        leader.rev = created;
        let header = self.0.header_at(revision);
        Ok(Response::new(pb::CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let leader = leader_of(request.leader)?;
        let revision = proclaim(&self.0, &caller, &leader, request.value).await?;
        Ok(Response::new(pb::ProclaimResponse { header: self.0.header_at(revision) }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let prefix = turns::prefix(&request.into_inner().name);
        let (revision, leader) = self.0.read(&caller, turns::first(&prefix)).await?;
        let kv = leader.ok_or_else(|| Status::unknown("election: no leader"))?;
        let kv = Some(wire::key_value(kv));
        Ok(Response::new(pb::LeaderResponse { header: self.0.header_at(revision), kv }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let caller = self.0.caller(&request).await?;
        let prefix = turns::prefix(&request.into_inner().name);
        let observer = Observer { backend: self.0.clone(), caller, prefix, leader: None };
        let answers = futures::stream::unfold(Some(observer), |observer| async move {
            let mut observer = observer?;
            match observer.next().await {
                Ok(answer) => Some((Ok(answer), Some(observer))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let leader = leader_of(request.into_inner().leader)?;
        let guard = turns::created_at(&leader.key, leader.rev);
        let revision = self.0.remove(&caller, leader.key, Some(guard)).await?;
        Ok(Response::new(pb::ResignResponse { header: self.0.header_at(revision) }))
    }
}

/// Follows the leaders of one name.
struct Observer {
    backend: Arc<Backend>,
    caller: Caller,
    prefix: Bytes,
    /// The leader's key, and the last revision at which it was looked at.
    leader: Option<(Bytes, Revision)>,
}

impl Observer {
    async fn next(&mut self) -> Result<pb::LeaderResponse, Status> {
        if let Some((key, seen)) = self.leader.take() {
            let any = |_, _: &KeyValue| true;
            let news = self.wait(key, Bytes::new(), seen + 1, any).await?;
            if let (EventKind::Put, kv) = news {
                let revision = kv.mod_revision;
                return Ok(self.tell(revision, kv));
            }
        }
        let (revision, leader) =
            self.backend.read(&self.caller, turns::first(&self.prefix)).await?;
        if let Some(kv) = leader {
            return Ok(self.tell(revision, kv));
        }
        let put = |kind, _: &KeyValue| kind == EventKind::Put;
        let end = turns::end_of(&self.prefix);
        let (_, kv) = self.wait(self.prefix.clone(), end, revision + 1, put).await?;
        let revision = kv.mod_revision;
        Ok(self.tell(revision, kv))
    }

    async fn wait(
        &self,
        key: Bytes,
        end: Bytes,
        from: Revision,
        wanted: impl Fn(EventKind, &KeyValue) -> bool + Send,
    ) -> Result<(EventKind, KeyValue), Status> {
        self.backend.wait_for(&self.caller, key, end, from, wanted).await
    }

    fn tell(&mut self, revision: Revision, kv: KeyValue) -> pb::LeaderResponse {
        self.leader = Some((kv.key.clone(), revision));
        pb::LeaderResponse {
            header: self.backend.header_at(revision),
            kv: Some(wire::key_value(kv)),
        }
    }
}
