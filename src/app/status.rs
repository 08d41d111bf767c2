//! Gathers `holdfast status` from what this node holds itself.
//!
//! Why from itself: the status is needed most when others do not answer. Objects are
//! read from the local replica without asking for a majority; whether there is one is
//! asked apart, with a short deadline.
//! Not here: what is said of members, nodes and pods (`status_view`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::status_view;
use crate::api::admin::AdminBackend;
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::logic::workload_attention;
use crate::model::cluster_record::{ADMIN_PASSWORD_KEY, NODES_PREFIX};
use crate::model::cluster_status::{
    CertificateView, ClusterStatus, DiskView, QuorumLossView, StoreView,
};
use crate::model::kv::{KeyValue, RangeRequest};
use crate::model::node_config::NodeConfig;
use crate::pki;
use crate::store::{Kv, QuorumLoss, Store};
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

/// The status of one control node.
#[derive(Debug)]
pub(super) struct NodeStatus {
    pub config: Arc<NodeConfig>,
    pub store: Arc<Store>,
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

    /// The loss of the majority as the document has it.
    fn loss(&self, answering: &BTreeSet<MemberId>) -> Option<QuorumLossView> {
        let loss = self.store.quorum_loss(answering)?;
        let remedy = loss.remedy();
        let QuorumLoss { answering, silent, missing } = loss;
        Some(QuorumLossView { answering, silent, missing, remedy })
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

#[async_trait]
impl AdminBackend for NodeStatus {
    async fn status(&self) -> ClusterStatus {
        let (quorum, answering, node_objects, leases, pods, deployments, jobs, store) = tokio::join!(
            self.quorum(),
            self.store.answering(),
            self.local("/registry/core/nodes/"),
            self.local("/registry/coordination.k8s.io/leases/kube-node-lease/"),
            self.local("/registry/core/pods/"),
            self.local("/registry/apps/deployments/"),
            self.local("/registry/batch/jobs/"),
            self.store.status_with_lag(LAG_DEADLINE)
        );
        let loss = if quorum { None } else { self.loss(&answering) };
        let now = clock::now();
        let as_of = if quorum { Some(now) } else { status_view::newest_beat(&leases) };
        let mut problems = Vec::new();
        problems.extend(status_view::no_quorum(quorum, loss.as_ref()));
        problems
            .extend(store.writes_refused.iter().map(|why| format!("Writes are refused: {why}.")));
        for record in
            self.local(NODES_PREFIX).await.iter().filter(|record| record["leaving"] == true)
        {
            let name = status_view::text_at(record, "/name");
            problems.push(format!(
                "The removal of node {name} has begun and is not finished; run holdfast node \
                 remove {name}."
            ));
        }
        let members = status_view::members(&store, quorum, &answering, &mut problems);
        let nodes =
            status_view::nodes(&node_objects, &pods, &members, loss.as_ref(), &mut problems);
        let pods = status_view::pods(&pods, &nodes, as_of.unwrap_or(now), &mut problems);
        problems.extend(workload_attention::sentences(&deployments, &jobs));
        ClusterStatus {
            cluster: self.config.cluster_name.clone(),
            cluster_id: store.cluster,
            generation: store.generation,
            answered_by: self.config.node_name.clone(),
            quorum,
            as_of: as_of.map(clock::to_seconds).unwrap_or_default(),
            quorum_loss: loss,
            pods,
            nodes,
            members,
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
