//! The Lease service.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::status;
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::lease_server::Lease;
use crate::model::auth::Caller;
use crate::model::refusal::Refusal;
use crate::store::StoreError;

/// The service over the store.
#[derive(Debug)]
pub(super) struct LeaseService(pub(super) Arc<Backend>);

impl LeaseService {
    async fn renew(
        backend: &Backend,
        caller: &Caller,
        id: i64,
    ) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let ttl = match backend.store.leases.lease_keep_alive(caller, id).await {
            Ok(ttl) => ttl,
            // The protocol's way to say that the lease is gone.
            Err(StoreError::Refused(Refusal::LeaseNotFound)) => 0,
            Err(error) => return Err(status(error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header: backend.header(), id, ttl })
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let granted = self.0.store.leases.lease_grant(&caller, id, ttl).await.map_err(status)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.0.header(),
            id: granted.id,
            ttl: granted.ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let id = request.into_inner().id;
        let revision = self.0.store.leases.lease_revoke(&caller, id).await.map_err(status)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.0.header_at(revision) }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<tonic::Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let backend = self.0.clone();
        let requests = request.into_inner();
        let answers = requests.then(move |request| {
            let (backend, caller) = (backend.clone(), caller.clone());
            async move { Self::renew(&backend, &caller, request?.id).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let leases = &self.0.store.leases;
        let left = leases.lease_time_to_live(&caller, id, keys).await.map_err(status)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: self.0.header(),
            id: left.id,
            ttl: left.ttl_s,
            granted_ttl: left.granted_ttl_s,
            keys: left.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let ids = self.0.store.leases.leases(&caller).await.map_err(status)?;
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.0.header(), leases }))
    }
}
