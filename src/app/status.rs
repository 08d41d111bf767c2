//! Gathers `holdfast status` from what this node holds itself.
//!
//! Why from itself: the status is needed most when others do not answer. Objects are
//! read from the local replica without asking for a majority; whether there is one is
//! asked apart, with a short deadline.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::api::admin::AdminBackend;
use crate::base::chain::chain;
use crate::model::cluster_record::ADMIN_PASSWORD_KEY;
use crate::model::cluster_status::{
    CertificateView, ClusterStatus, DiskView, MemberView, NodeView, PodCounts, StoreView,
};
use crate::model::kv::{KeyValue, RangeRequest};
use crate::model::node_config::{NodeConfig, Role};
use crate::pki;
use crate::store::{Kv, MemberInfo, Store, StoreStatus};
use crate::sys::clock;
use crate::sys::host;

/// How long a majority may take to prove itself.
const QUORUM_DEADLINE: Duration = Duration::from_secs(2);
/// How long the leader may take to tell how far the others are.
const LAG_DEADLINE: Duration = Duration::from_secs(1);
/// A certificate with fewer days left is a problem.
const CERTIFICATE_DAYS_MIN: i64 = 30;
/// Less free space than this share of the disk is a problem, percent.
const DISK_FREE_MIN_PERCENT: u64 = 10;
/// Silence of a member towards the leader that is a problem, milliseconds.
pub(super) const SILENCE_MAX_MS: u64 = 3_000;
/// Entries behind the leader that are a problem.
const LAG_MAX_ENTRIES: u64 = 10_000;

/// The status of one control node.
#[derive(Debug)]
pub(super) struct NodeStatus {
    pub config: Arc<NodeConfig>,
    pub store: Arc<Store>,
}

fn text_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn is_true(condition: Option<&Value>) -> bool {
    condition.is_some_and(|condition| condition["status"] == "True")
}

impl NodeStatus {
    /// Objects of a kind as the local replica has them; what cannot be read is left out.
    async fn local(&self, prefix: &str) -> Vec<Value> {
        let request =
            RangeRequest { serializable: true, ..RangeRequest::prefix(prefix.as_bytes().to_vec()) };
        let found = self.store.range(request).await.map(|answer| answer.kvs).unwrap_or_default();
        let parse = |kv: &KeyValue| serde_json::from_slice(&kv.value).ok();
        found.iter().filter_map(parse).collect()
    }

    async fn quorum(&self) -> bool {
        let read = self.store.range(RangeRequest::key(ADMIN_PASSWORD_KEY.as_bytes()));
        matches!(tokio::time::timeout(QUORUM_DEADLINE, read).await, Ok(Ok(_)))
    }

    fn certificates(&self, problems: &mut Vec<String>) -> Vec<CertificateView> {
        let found = match pki::certificates(&self.config.paths.pki()) {
            Ok(found) => found,
            Err(error) => {
                problems.push(format!("The certificates cannot be read: {}.", chain(&error)));
                return Vec::new();
            }
        };
        let now = clock::now();
        let view = |info: pki::CertificateInfo| CertificateView {
            days_left: info.days_left(now),
            expires: info.not_after.to_string(),
            name: info.name,
        };
        let views: Vec<CertificateView> = found.into_iter().map(view).collect();
        for item in views.iter().filter(|item| item.days_left < CERTIFICATE_DAYS_MIN) {
            problems.push(format!("Certificate {} expires in {} days.", item.name, item.days_left));
        }
        views
    }

    fn disks(&self, problems: &mut Vec<String>) -> Vec<DiskView> {
        let path = &self.config.paths.data;
        match host::file_system(path) {
            Ok(found) => {
                if found.free_bytes * 100 < found.total_bytes * DISK_FREE_MIN_PERCENT {
                    problems.push(format!("The disk of {} is nearly full.", path.display()));
                }
                vec![DiskView {
                    path: path.display().to_string(),
                    total_bytes: found.total_bytes,
                    free_bytes: found.free_bytes,
                }]
            }
            Err(error) => {
                problems.push(format!("The disk of {} cannot be read: {error}.", path.display()));
                Vec::new()
            }
        }
    }
}

fn members(store: &StoreStatus, problems: &mut Vec<String>) -> Vec<MemberView> {
    let view = |member: &MemberInfo| MemberView {
        id: member.member,
        name: member.name.clone(),
        address: member.address.clone(),
        voter: member.voter,
        leader: store.leader == Some(member.member),
        lag_entries: member.lag,
    };
    let views: Vec<MemberView> = store.members.iter().map(view).collect();
    // Only what the leader said tells who answers it.
    let told = store.members.iter().any(|member| member.silent_ms.is_some());
    for member in store.members.iter().filter(|_| told) {
        match member.silent_ms {
            Some(silent) if silent <= SILENCE_MAX_MS => {}
            Some(silent) => problems.push(format!(
                "Member {} of the store has not answered for {} s.",
                member.name,
                silent / 1_000
            )),
            None => problems.push(format!("Member {} of the store does not answer.", member.name)),
        }
    }
    for member in views.iter().filter(|member| member.lag_entries > Some(LAG_MAX_ENTRIES)) {
        let lag = member.lag_entries.unwrap_or_default();
        problems.push(format!("Member {} is {lag} entries behind the leader.", member.name));
    }
    views
}

fn nodes(
    objects: &[Value],
    pods: &[Value],
    members: &[MemberView],
    problems: &mut Vec<String>,
) -> Vec<NodeView> {
    let view = |node: &Value| {
        let name = text_at(node, "/metadata/name");
        let ready = condition(node, "Ready");
        let labels = &node["metadata"]["labels"];
        let has = |label: &str| labels.get(label).is_some();
        let mut roles = Vec::new();
        if has("node-role.kubernetes.io/control-plane") {
            roles.push(Role::Control);
        }
        if has("node-role.kubernetes.io/worker") {
            roles.push(Role::Worker);
        }
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
        let address = addresses
            .into_iter()
            .flatten()
            .find(|address| address["type"] == "InternalIP")
            .and_then(|address| address["address"].as_str());
        NodeView {
            name: name.into(),
            center: labels["topology.kubernetes.io/zone"].as_str().unwrap_or_default().into(),
            roles,
            address: address.unwrap_or_default().into(),
            ready: is_true(ready),
            reason: ready.map(|ready| text_at(ready, "/reason").to_owned()).unwrap_or_default(),
            pods: pods.iter().filter(|pod| text_at(pod, "/spec/nodeName") == name).count() as u32,
        }
    };
    let views: Vec<NodeView> = objects.iter().map(view).collect();
    let without = |node: &&NodeView| {
        node.roles.contains(&Role::Control)
            && !members.iter().any(|member| member.name == node.name)
    };
    for node in views.iter().filter(without) {
        problems.push(format!("Control node {} carries no member of the store.", node.name));
    }
    for node in views.iter().filter(|node| !node.ready) {
        problems.push(format!("Node {} is not ready: {}.", node.name, node.reason));
    }
    views
}

fn count(pods: &[Value]) -> PodCounts {
    let phase = |wanted: &str| {
        pods.iter().filter(|pod| text_at(pod, "/status/phase") == wanted).count() as u32
    };
    PodCounts {
        total: pods.len() as u32,
        ready: pods.iter().filter(|pod| is_true(condition(pod, "Ready"))).count() as u32,
        pending: phase("Pending"),
        failed: phase("Failed"),
    }
}

#[async_trait]
impl AdminBackend for NodeStatus {
    async fn status(&self) -> ClusterStatus {
        let (quorum, node_objects, pods) = tokio::join!(
            self.quorum(),
            self.local("/registry/core/nodes/"),
            self.local("/registry/core/pods/")
        );
        let store = self.store.status_with_lag(LAG_DEADLINE).await;
        let mut problems = Vec::new();
        problems
            .extend(store.writes_refused.iter().map(|why| format!("Writes are refused: {why}.")));
        if !quorum {
            problems.push(
                "No majority of the members answers: writes are refused, and what is shown \
                 here may be old."
                    .to_owned(),
            );
        }
        let members = members(&store, &mut problems);
        ClusterStatus {
            cluster: self.config.cluster_name.clone(),
            cluster_id: store.cluster,
            generation: store.generation,
            answered_by: self.config.node_name.clone(),
            quorum,
            nodes: nodes(&node_objects, &pods, &members, &mut problems),
            members,
            pods: count(&pods),
            certificates: self.certificates(&mut problems),
            disks: self.disks(&mut problems),
            store: StoreView {
                member: Some(store.member),
                boot: store.boot,
                term: store.term,
                revision: store.revision,
                committed_index: store.committed,
                applied_index: store.applied,
                log_bytes: store.log_bytes,
                state_bytes: store.state_bytes,
            },
            problems,
        }
    }

    async fn password_hash(&self) -> Option<String> {
        let request =
            RangeRequest { serializable: true, ..RangeRequest::key(ADMIN_PASSWORD_KEY.as_bytes()) };
        let found = self.store.range(request).await.ok()?.kvs.into_iter().next()?;
        String::from_utf8(found.value.to_vec()).ok()
    }
}
