//! What all services share: the store, who is calling, and the header of every answer.
//!
//! Invariants: nobody is served whose certificate the access check did not let in; a call
//! that asks for a leader gets an error at once where there is none.

use std::fmt::Debug;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};

use super::errors::{refused, status};
use super::messages::etcdserverpb::ResponseHeader;
use crate::api::identity::PeerIdentity;
use crate::base::limits::STORE_REQUEST_MAX_BYTES;
use crate::model::auth::Caller;
use crate::model::kv::Revision;
use crate::model::refusal::Refusal;
use crate::store::EtcdKv;
use crate::store::admin_api::{Auth, ClusterAdmin, Leases, Maintenance};

/// The version of etcd whose protocol this is. Clients switch features on by it:
/// Kubernetes asks for progress notifications from 3.4.31 and 3.5.13 on, and streams
/// large ranges from 3.7 on.
pub(super) const VERSION: &str = "3.7.0";

/// Largest message taken in: etcd's request limit and its overhead; one between the two is
/// answered with etcd's own words.
pub(super) const MESSAGE_MAX_BYTES: usize = STORE_REQUEST_MAX_BYTES + 512 * 1024;

/// The store's traits, each of which one store implements.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    pub kv: Arc<dyn EtcdKv>,
    pub leases: Arc<dyn Leases>,
    pub auth: Arc<dyn Auth>,
    pub maintenance: Arc<dyn Maintenance>,
    pub cluster: Arc<dyn ClusterAdmin>,
}

impl EtcdStore {
    /// All of them from one.
    pub fn of<S: EtcdKv + Leases + Auth + Maintenance + ClusterAdmin>(store: Arc<S>) -> Self {
        Self {
            kv: store.clone(),
            leases: store.clone(),
            auth: store.clone(),
            maintenance: store.clone(),
            cluster: store,
        }
    }
}

/// What every service holds.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) store: EtcdStore,
    /// Port on which every member serves clients.
    pub(super) client_port: u16,
    /// Waits of locks and elections, which clean up behind a client that went away.
    pub(super) waits: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl Backend {
    /// A header with this member's newest revision.
    pub(super) fn header(&self) -> Option<ResponseHeader> {
        let header = self.store.kv.header();
        Some(ResponseHeader {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        })
    }

    /// A header with the revision that the answer is of.
    pub(super) fn header_at(&self, revision: Revision) -> Option<ResponseHeader> {
        self.header().map(|header| ResponseHeader { revision, ..header })
    }

    /// On whose behalf a call is made: by its token, or by its certificate's name.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let metadata = request.metadata();
        let asks = metadata.get("hasleader").is_some_and(|value| value.as_bytes() == b"true");
        if asks && !self.has_leader() {
            return Err(refused(Refusal::NoLeader));
        }
        let auth = &self.store.auth;
        if !auth.auth_enabled() {
            return Ok(Caller::Anonymous);
        }
        // The first is gRPC's, the second what the JSON side is given.
        let token = metadata.get("token").or_else(|| metadata.get("authorization"));
        if let Some(token) = token {
            let token = token.to_str().map_err(|_| refused(Refusal::InvalidAuthToken))?;
            return auth.caller_of_token(token).await.map_err(status);
        }
        let identity = request.extensions().get::<PeerIdentity>();
        Ok(identity
            .map_or(Caller::Anonymous, |identity| auth.caller_of_certificate(&identity.user)))
    }

    /// As `caller`, who must be a user where authentication is enabled: for what belongs to
    /// nobody in particular and is still not everybody's.
    pub(super) async fn known_caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = self.caller(request).await?;
        self.store.auth.check_known(&caller).map_err(status)?;
        Ok(caller)
    }

    pub(super) fn has_leader(&self) -> bool {
        self.store.maintenance.member_status().leader.is_some()
    }
}
