//! Small adapters: what one module declares as a trait, done by another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use super::status_view::SILENCE_MAX_MS;
use crate::agent::ports::{ImageError, ImageSource, PodNetwork, PodNetworkError, ResolvedImage};
use crate::api::admin::Door;
use crate::api::oci::PasswordCheck;
use crate::api::peer::{PeerClient, PeerServices};
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::install::join_service::Membership;
use crate::logic::balance::VirtualPort;
use crate::model::node_list::MemberSeat;
use crate::network::PodNet;
use crate::registry::{BlobPeers, BlobStream, Digest, PeerFetchError, Registry, RegistryError};
use crate::store::{MemberInfo, Store};

/// How long the leader may take to tell who answers it.
const SEATS_DEADLINE: Duration = Duration::from_secs(2);

/// The agent's network port over [`PodNet`].
#[derive(Debug)]
pub(super) struct AgentNetwork(pub Arc<PodNet>);

#[async_trait]
impl PodNetwork for AgentNetwork {
    async fn attach(&self, pod_uid: &str, pid: i32) -> Result<IpAddr, PodNetworkError> {
        self.0.attach(pod_uid, pid).await.map_err(|error| PodNetworkError::Attach {
            pod_uid: pod_uid.into(),
            reason: chain(&error),
        })
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), PodNetworkError> {
        self.0.detach(pod_uid).await.map_err(|error| PodNetworkError::Detach {
            pod_uid: pod_uid.into(),
            reason: chain(&error),
        })
    }

    async fn publish(&self, pod_uid: &str, ports: Vec<VirtualPort>) {
        self.0.publish(pod_uid, ports);
    }

    async fn attached(&self) -> Result<Vec<String>, PodNetworkError> {
        Ok(self.0.attached().await)
    }

    fn dns_server(&self) -> IpAddr {
        self.0.dns_server()
    }
}

/// The agent's image port over this node's registry.
#[derive(Debug)]
pub(super) struct RegistryImages {
    pub registry: Arc<Registry>,
    /// This node's registry as the engine reaches it.
    pub endpoint: SocketAddr,
}

#[async_trait]
impl ImageSource for RegistryImages {
    async fn resolve(&self, image: &str) -> Result<ResolvedImage, ImageError> {
        let found = self.registry.resolve(image).await.map_err(|error| match error {
            RegistryError::ImageInvalid { .. }
            | RegistryError::NameInvalid { .. }
            | RegistryError::TagInvalid { .. }
            | RegistryError::DigestInvalid { .. } => {
                ImageError::Invalid { image: image.into(), reason: chain(&error) }
            }
            RegistryError::ImageUnknown { .. } => ImageError::Absent { image: image.into() },
            other => ImageError::Lookup { image: image.into(), reason: chain(&other) },
        })?;
        let digest = found.digest.to_string();
        Ok(ResolvedImage {
            pull: format!("{}/{}@{digest}", self.endpoint, found.repository),
            digest,
        })
    }
}

/// Admission's way into Raft's membership.
#[derive(Debug)]
pub(super) struct StoreMembership(pub Arc<Store>);

#[async_trait]
impl Membership for StoreMembership {
    async fn add_member(
        &self,
        member: MemberId,
        name: &str,
        peer_address: &str,
        voter: bool,
    ) -> Result<(), String> {
        self.0.add_member(member, name, peer_address, voter).await.map_err(|error| chain(&error))
    }

    async fn remove_member(&self, member: MemberId) -> Result<(), String> {
        self.0.remove_member(member).await.map_err(|error| chain(&error))
    }

    async fn seats(&self) -> Result<Vec<MemberSeat>, String> {
        let status = self.0.status_with_lag(SEATS_DEADLINE).await;
        let Some(leader) = status.leader else {
            return Err("the store has no leader, so no majority of its members answers".into());
        };
        // Only what the leader said tells who answers it.
        if status.members.iter().all(|member| member.silent_ms.is_none()) {
            return Err("the store's leader does not tell who answers it; try again".into());
        }
        let seat = |member: MemberInfo| MemberSeat {
            id: member.member,
            answers: member.silent_ms.is_some_and(|silent| silent <= SILENCE_MAX_MS),
            leader: member.member == leader,
            name: member.name,
            address: member.address,
            voter: member.voter,
            lag_entries: member.lag,
        };
        Ok(status.members.into_iter().map(seat).collect())
    }
}

/// What this node offers to its peers.
#[derive(Debug)]
pub(super) struct NodePeerServices {
    pub store: Arc<Store>,
    pub registry: Arc<Registry>,
}

#[async_trait]
impl PeerServices for NodePeerServices {
    async fn receive(&self, message: Bytes) -> Result<Bytes, String> {
        Ok(self.store.receive(message).await)
    }

    async fn blob(&self, digest: &str) -> Result<Option<Body>, String> {
        let digest: Digest = digest.parse().map_err(|error| chain(&error))?;
        let opened = match self.registry.local_blob(&digest).await {
            Ok(opened) => opened,
            Err(RegistryError::BlobUnknown { .. }) => return Ok(None),
            Err(error) => return Err(chain(&error)),
        };
        let file = opened.into_reader_at(0).await.map_err(|error| error.to_string())?;
        Ok(Some(Body::from_stream(ReaderStream::new(file))))
    }
}

/// The administrator's password for the registry, as for the admin page.
#[derive(Debug)]
pub(super) struct RegistryPasswords(pub Arc<Door>);

#[async_trait]
impl PasswordCheck for RegistryPasswords {
    async fn is_admin(&self, user: &str, password: &str, source: &str) -> bool {
        self.0.is_admin(user, password, source).await
    }
}

/// Blobs from whichever member of the store holds them.
#[derive(Debug)]
pub(super) struct MemberBlobs {
    pub store: Arc<Store>,
    pub peers: PeerClient,
}

#[async_trait]
impl BlobPeers for MemberBlobs {
    async fn fetch(&self, digest: &Digest) -> Result<BlobStream, PeerFetchError> {
        let own = self.store.member_id();
        let mut silent = Vec::new();
        for member in self.store.status().members.iter().filter(|member| member.member != own) {
            match self.peers.blob(&member.address, &digest.to_string()).await {
                Ok(Some(answer)) => {
                    let bytes = answer.bytes_stream().map_err(std::io::Error::other);
                    return Ok(bytes.boxed());
                }
                Ok(None) => {}
                Err(error) => silent.push(chain(&error)),
            }
        }
        if silent.is_empty() {
            Err(PeerFetchError::Nowhere)
        } else {
            Err(PeerFetchError::Unreachable { reason: silent.join("; ") })
        }
    }
}
