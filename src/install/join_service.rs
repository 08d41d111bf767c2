//! The cluster's side of a join: admits a node, and later counts its member in.
//!
//! ```text
//!  joiner                    any control node
//!    │ join {token, request} ──►  one transaction: token used, node recorded, id taken
//!    │ ◄── answer {certificate, pod range, member id, …}
//!    │ (files, engine, serve)
//!    │ joined ──────────────────► add the member to the store's group
//! ```
//! Why two steps: a member that does not answer yet would cost the group its majority.
//! Invariants: a member id is given out once; the same node with the same key gets the
//! same answer again; both steps may be repeated.
//! Not here: HTTP (`api/join`), what makes a token valid (`tokens`).

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;

use crate::base::ids::MemberId;
use crate::model::cluster_record::{
    ADMIN_PASSWORD_KEY, CLUSTER_KEY, ClusterBootstrap, ClusterRecord, NEXT_MEMBER_KEY,
    NODES_PREFIX, NodeRecord, TokenRecord,
};
use crate::model::join::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest};
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::model::node_config::{Ports, Role};
use crate::model::node_list::MemberSeat;
use crate::pki::{
    Authority, JoinToken, NodeNames, PkiError, SecretKeys, describe, key_fingerprint,
};
use crate::store::Kv;

use super::place::{Place, place, roles_asked};
use super::removed_key::removed_key;
use super::tokens::{Clock, JoinRefused, judge, put_record, read_record, token_key, unchanged};

/// How often a transaction that lost a race is tried again.
const ATTEMPTS: usize = 16;

/// The store's group; wired to `store/`. Idempotent: adding a member that is part of the
/// group succeeds.
#[async_trait]
pub trait Membership: Send + Sync + std::fmt::Debug {
    async fn add_member(
        &self,
        member: MemberId,
        name: &str,
        peer_address: &str,
        voter: bool,
    ) -> Result<(), String>;

    /// Takes a member out for good; one that is not part of the group is no error.
    async fn remove_member(&self, member: MemberId) -> Result<(), String>;

    /// The group as its leader sees it; an error while no leader tells.
    async fn seats(&self) -> Result<Vec<MemberSeat>, String>;
}

/// What the service needs.
#[derive(Clone)]
pub struct JoinServiceInput {
    pub kv: Arc<dyn Kv>,
    pub authority: Arc<Authority>,
    /// The administrator's certificate and key (PEM), handed to new control nodes.
    pub admin: Option<(String, String)>,
    pub membership: Arc<dyn Membership>,
    pub ports: Ports,
    /// Handed to new control nodes.
    pub secrets: Arc<SecretKeys>,
    pub clock: Clock,
}

impl std::fmt::Debug for JoinServiceInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinServiceInput").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// Answers joiners; one on every control node.
pub struct JoinService {
    input: JoinServiceInput,
}

impl std::fmt::Debug for JoinService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinService").finish_non_exhaustive()
    }
}

pub(crate) fn node_key(name: &str) -> String {
    format!("{NODES_PREFIX}{name}")
}

/// The record of a node that is admitted now, with the next free range and id.
fn new_node(
    request: &JoinRequest,
    placed: &Place<'_>,
    pod_range: IpNet,
    fingerprint: &str,
    next_member: Option<u64>,
) -> Result<NodeRecord, JoinRefused> {
    let member_id = match (placed.roles.contains(&Role::Control), next_member) {
        (true, Some(next)) => Some(MemberId(next)),
        (true, None) => return Err(JoinRefused::NotReady),
        (false, _) => None,
    };
    Ok(NodeRecord {
        name: request.node_name.clone(),
        address: request.address,
        site: placed.site.to_owned(),
        center: placed.center.name.clone(),
        roles: placed.roles.clone(),
        member_id,
        pod_range,
        key_fingerprint: fingerprint.to_owned(),
        joined: false,
        leaving: false,
    })
}

fn refused(error: PkiError) -> JoinRefused {
    match error {
        PkiError::Request { reason } => JoinRefused::BadRequest { reason },
        other => JoinRefused::Pki(other),
    }
}

impl JoinService {
    pub fn new(input: JoinServiceInput) -> Self {
        Self { input }
    }

    /// Records a new cluster with its first node. Repeating it is fine, replacing a
    /// cluster is not.
    pub async fn bootstrap(&self, request: &ClusterBootstrap) -> Result<(), JoinRefused> {
        let next = request.node.member_id.map_or(1, |member| member.0 + 1);
        let txn = TxnRequest {
            compare: vec![unchanged(CLUSTER_KEY, 0)],
            success: vec![
                put_record(CLUSTER_KEY, &request.record),
                put_record(&node_key(&request.node.name), &request.node),
                put_record(NEXT_MEMBER_KEY, &next),
                Op::put(ADMIN_PASSWORD_KEY, request.admin_password_hash.clone().into_bytes()),
            ],
            failure: Vec::new(),
        };
        if self.input.kv.txn(txn).await?.succeeded {
            return Ok(());
        }
        let found = self.cluster().await?;
        if found.cluster_id == request.record.cluster_id {
            return Ok(());
        }
        Err(JoinRefused::OtherCluster { found: found.cluster.name })
    }

    /// What is recorded about the cluster.
    pub async fn cluster(&self) -> Result<ClusterRecord, JoinRefused> {
        let found = read_record(self.input.kv.as_ref(), CLUSTER_KEY).await?;
        found.value.ok_or(JoinRefused::NotReady)
    }

    /// All admitted nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, JoinRefused> {
        let answer = self.input.kv.range(RangeRequest::prefix(NODES_PREFIX.as_bytes())).await?;
        let mut nodes = Vec::new();
        for found in answer.kvs {
            nodes.push(serde_json::from_slice(&found.value).map_err(|error| {
                JoinRefused::Damaged {
                    key: String::from_utf8_lossy(&found.key).into_owned(),
                    reason: error.to_string(),
                }
            })?);
        }
        Ok(nodes)
    }

    /// Admits a node, or says why not.
    pub async fn handle(&self, request: &JoinRequest) -> Result<JoinAnswer, JoinRefused> {
        let (token_id, secret_hash) = JoinToken::split_credential(&request.token)
            .map_err(|error| JoinRefused::BadRequest { reason: error.to_string() })?;
        let fingerprint = key_fingerprint(&request.certificate_request).map_err(refused)?;
        for _ in 0..ATTEMPTS {
            let attempt = self.admit(request, &token_id, &secret_hash, &fingerprint).await?;
            if let Some((record, node)) = attempt {
                return self.answer(request, &record, &node).await;
            }
        }
        Err(JoinRefused::Contended)
    }

    /// One try; `None` when another writer was first.
    async fn admit(
        &self,
        request: &JoinRequest,
        token_id: &str,
        secret_hash: &str,
        fingerprint: &str,
    ) -> Result<Option<(ClusterRecord, NodeRecord)>, JoinRefused> {
        let kv = self.input.kv.as_ref();
        let token_key = token_key(token_id);
        let node_key = node_key(&request.node_name);
        let token = read_record::<TokenRecord>(kv, &token_key).await?;
        let record = self.cluster().await?;
        let asked = roles_asked(&record.cluster, token.value.as_ref(), request);
        let now = (self.input.clock)();
        // The token comes first, so that nobody learns about the cluster without one.
        let used_before = token.value.as_ref().is_some_and(|token| token.redeemed.is_some());
        let redeemed =
            judge(token.value, secret_hash, &asked, &request.node_name, fingerprint, now)?;
        if let Some(gone) = removed_key(kv, fingerprint, true).await? {
            return Err(JoinRefused::NodeRemoved { at: gone.at });
        }
        let admitted = self.nodes().await?;
        let placed = place(&record.cluster, &admitted, &redeemed, request)?;
        let existing = read_record::<NodeRecord>(kv, &node_key).await?;
        if let Some(node) = existing.value {
            if node.leaving {
                return Err(JoinRefused::NodeLeaving { node_name: node.name });
            }
            if node.key_fingerprint != fingerprint {
                return Err(JoinRefused::NodeTaken { node_name: node.name });
            }
            // The node was admitted before: it keeps its id and range, whatever token it
            // shows now; a fresh token is used up by that.
            if used_before {
                return Ok(Some((record, node)));
            }
            let txn = TxnRequest {
                compare: vec![unchanged(&token_key, token.revision)],
                success: vec![put_record(&token_key, &redeemed)],
                failure: Vec::new(),
            };
            return Ok(self.input.kv.txn(txn).await?.succeeded.then_some((record, node)));
        }
        let next = read_record::<u64>(kv, NEXT_MEMBER_KEY).await?;
        let taken: Vec<_> = admitted.iter().map(|node| node.pod_range).collect();
        let pod_range = placed.pod_range(&record.cluster, &request.node_name, &taken)?;
        let node = new_node(request, &placed, pod_range, fingerprint, next.value)?;
        let member_id = node.member_id;
        let mut success = vec![put_record(&token_key, &redeemed), put_record(&node_key, &node)];
        // Written also for workers: two joins at once must not take the same pod range.
        let counter = next.value.unwrap_or(1) + u64::from(member_id.is_some());
        success.push(put_record(NEXT_MEMBER_KEY, &counter));
        let txn = TxnRequest {
            compare: vec![
                unchanged(&token_key, token.revision),
                unchanged(&node_key, existing.revision),
                unchanged(NEXT_MEMBER_KEY, next.revision),
            ],
            success,
            failure: Vec::new(),
        };
        Ok(self.input.kv.txn(txn).await?.succeeded.then_some((record, node)))
    }

    async fn answer(
        &self,
        request: &JoinRequest,
        record: &ClusterRecord,
        node: &NodeRecord,
    ) -> Result<JoinAnswer, JoinRefused> {
        let network = record.cluster.network.for_nodes();
        let authority = &self.input.authority;
        let certificate = self.sign(&request.certificate_request, record, node)?;
        let control = node.roles.contains(&Role::Control);
        let server = |address| SocketAddr::new(address, self.input.ports.api);
        let mut servers: Vec<SocketAddr> = self
            .nodes()
            .await?
            .iter()
            .filter(|other| other.name != node.name && other.roles.contains(&Role::Control))
            .map(|other| server(other.address))
            .collect();
        if control {
            servers.insert(0, server(node.address));
        }
        let (admin_certificate, admin_key) = self.input.admin.clone().filter(|_| control).unzip();
        Ok(JoinAnswer {
            cluster_name: record.cluster.name.clone(),
            cluster_id: record.cluster_id,
            generation: record.generation,
            node_name: node.name.clone(),
            site: node.site.clone(),
            center: node.center.clone(),
            roles: node.roles.clone(),
            member_id: node.member_id,
            pod_range: node.pod_range,
            network,
            servers,
            eviction: record.cluster.eviction,
            pause_image: record.pause_image.clone(),
            ca_certificate: authority.certificate_pem().to_owned(),
            ca_key: control.then(|| authority.key_pem()),
            certificate,
            admin_certificate,
            admin_key,
            secret_keys: control.then(|| self.input.secrets.ring().to_vec()),
        })
    }

    fn sign(
        &self,
        certificate_request: &str,
        record: &ClusterRecord,
        node: &NodeRecord,
    ) -> Result<String, JoinRefused> {
        let network = record.cluster.network.for_nodes();
        let names = NodeNames {
            node_name: node.name.clone(),
            address: node.address,
            api_address: network.api_address(),
            cluster_domain: network.cluster_domain,
            control: node.roles.contains(&Role::Control),
        };
        let now = (self.input.clock)();
        let signed = self.input.authority.sign_node(certificate_request, &names, now);
        let certificate = signed.map_err(refused)?;
        // The last door: what leaves is for the key that was admitted, whatever was read how.
        if describe(&certificate, "node").map_err(refused)?.key_fingerprint != node.key_fingerprint
        {
            let reason = "the certificate request is not for the key of this node".to_owned();
            return Err(JoinRefused::Forbidden { reason });
        }
        Ok(certificate)
    }

    /// A new certificate for the key of a node that is part of the cluster.
    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewAnswer, JoinRefused> {
        let fingerprint = key_fingerprint(&request.certificate_request).map_err(refused)?;
        let kv = self.input.kv.as_ref();
        if let Some(gone) = removed_key(kv, &fingerprint, true).await? {
            return Err(JoinRefused::NodeRemoved { at: gone.at });
        }
        let node = read_record::<NodeRecord>(kv, &node_key(&request.node_name)).await?.value;
        // One text for both: nobody learns here which nodes there are.
        let Some(node) = node.filter(|node| node.key_fingerprint == fingerprint) else {
            let reason = "the cluster has no node of this name with this key".to_owned();
            return Err(JoinRefused::Forbidden { reason });
        };
        let record = self.cluster().await?;
        let certificate = self.sign(&request.certificate_request, &record, &node)?;
        Ok(RenewAnswer { certificate })
    }

    /// The node's services answer: its member becomes part of the group.
    pub async fn joined(&self, node_name: &str) -> Result<(), JoinRefused> {
        let key = node_key(node_name);
        for _ in 0..ATTEMPTS {
            let found = read_record::<NodeRecord>(self.input.kv.as_ref(), &key).await?;
            let Some(mut node) = found.value else {
                let reason = format!("node {node_name} was never admitted");
                return Err(JoinRefused::BadRequest { reason });
            };
            if node.leaving {
                return Err(JoinRefused::NodeLeaving { node_name: node.name });
            }
            if let Some(member) = node.member_id {
                let peer = SocketAddr::new(node.address, self.input.ports.peer).to_string();
                // Where there are several sites the leader decides who of all votes.
                let kv = self.input.kv.as_ref();
                let record = read_record::<ClusterRecord>(kv, CLUSTER_KEY).await?.value;
                let votes = record.is_none_or(|record| record.cluster.sites.len() < 2);
                let membership = &self.input.membership;
                let added = membership.add_member(member, node_name, &peer, votes).await;
                added.map_err(|reason| JoinRefused::Membership { reason })?;
                self.still_wanted(node_name, member).await?;
            }
            if node.joined {
                return Ok(());
            }
            node.joined = true;
            let txn = TxnRequest {
                compare: vec![unchanged(&key, found.revision)],
                success: vec![put_record(&key, &node)],
                failure: Vec::new(),
            };
            if self.input.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(JoinRefused::Contended)
    }

    /// A removal that began while the member was being added did not find it in the group;
    /// so it is taken out again here.
    async fn still_wanted(&self, node_name: &str, member: MemberId) -> Result<(), JoinRefused> {
        let key = node_key(node_name);
        let found = read_record::<NodeRecord>(self.input.kv.as_ref(), &key).await?;
        let wanted =
            found.value.is_some_and(|node| !node.leaving && node.member_id == Some(member));
        if wanted {
            return Ok(());
        }
        let removed = self.input.membership.remove_member(member).await;
        removed.map_err(|reason| JoinRefused::Membership { reason })?;
        Err(JoinRefused::NodeLeaving { node_name: node_name.to_owned() })
    }
}
