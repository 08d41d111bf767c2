//! What a node may not say of itself, although it writes its own object.
//!
//! Why: whoever takes a node over must not be able to call other pods to it by a label that
//! they select, or to drive them to it by taking its taints away.
//! Source: `plugin/pkg/admission/noderestriction/admission.go`. A role of this cluster is a
//! label of Kubernetes' own that a node may carry if it joined with that role.
//! Not here: which objects a node may write at all (`access`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::access::Author;
use super::{Address, Objects, refusal};
use crate::model::cluster_record::{NODES_PREFIX, NodeRecord};
use crate::model::kv::RangeRequest;
use crate::model::node_config::Role;
use crate::model::status::Status;

const RESTRICTED: &str = "node-restriction.kubernetes.io";
const ROLE: &str = "node-role.kubernetes.io/";
/// Kubernetes' own labels that say what a node is.
const ALLOWED: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Whole domains of such labels.
const DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

fn is_within(namespace: &str, domain: &str) -> bool {
    let parent = namespace.strip_suffix(domain);
    parent.is_some_and(|parent| parent.is_empty() || parent.ends_with('.'))
}

/// Whether a node may set, change and drop the label.
fn is_free(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else { return true };
    if is_within(namespace, RESTRICTED) {
        return false;
    }
    let reserved = is_within(namespace, "kubernetes.io") || is_within(namespace, "k8s.io");
    !reserved
        || ALLOWED.contains(&label)
        || DOMAINS.iter().any(|domain| is_within(namespace, domain))
}

fn label_of(role: Role) -> &'static str {
    match role {
        Role::Control => "control-plane",
        Role::Worker => "worker",
    }
}

/// Labels that are not the same on both sides.
fn modified(old: Option<&Value>, new: &Value) -> BTreeSet<String> {
    let labels = |object: Option<&Value>| {
        let labels = object.and_then(|object| object.pointer("/metadata/labels"));
        labels.and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (before, after) = (labels(old), labels(Some(new)));
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// A list, where an absent one is as good as an empty one.
fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Objects {
    /// Refuses what a node says of itself and may not.
    pub(super) async fn admit_node(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: &Value,
        author: Option<&Author>,
    ) -> Result<(), Status> {
        let kind = address.kind;
        let Some(node) = author.and_then(|author| author.identity.node()) else { return Ok(()) };
        if kind.kind != "Node" || !kind.group.is_empty() {
            return Ok(());
        }
        let refuse = |why: &str| Err(Status::forbidden(kind.plural, "", &address.name, why));
        let mut forbidden: Vec<String> =
            modified(old, new).into_iter().filter(|label| !is_free(label)).collect();
        if forbidden.iter().any(|label| label.starts_with(ROLE)) {
            let roles = self.roles_of(&address.name).await?;
            forbidden.retain(|label| {
                let carried = new["metadata"]["labels"].get(label).is_some();
                let role = label.strip_prefix(ROLE).unwrap_or_default();
                !(carried && roles.contains(&role))
            });
        }
        if !forbidden.is_empty() {
            let labels = forbidden.join(", ");
            return refuse(&match old {
                None => format!("is not allowed to set the following labels: {labels}"),
                Some(_) => format!("is not allowed to modify labels: {labels}"),
            });
        }
        let Some(old) = old else { return Ok(()) };
        if list(old, "/spec/taints") != list(new, "/spec/taints") {
            return refuse(&format!("node {node:?} is not allowed to modify taints"));
        }
        if list(old, "/metadata/ownerReferences") != list(new, "/metadata/ownerReferences") {
            return refuse(&format!("node {node:?} is not allowed to modify ownerReferences"));
        }
        Ok(())
    }

    /// The roles that a node joined with, as labels name them. While no node is known at
    /// all, the first one of the cluster is being made: it is what it says.
    async fn roles_of(&self, node: &str) -> Result<Vec<&'static str>, Status> {
        let request = RangeRequest::key(format!("{NODES_PREFIX}{node}"));
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        if let Some(kv) = answer.kvs.first() {
            let record: NodeRecord = serde_json::from_slice(&kv.value)
                .map_err(|error| Status::internal(format!("the record of {node}: {error}")))?;
            return Ok(record.roles.into_iter().map(label_of).collect());
        }
        let any = RangeRequest { limit: 1, keys_only: true, ..RangeRequest::prefix(NODES_PREFIX) };
        let known = !self.kv.range(any).await.map_err(refusal::of)?.kvs.is_empty();
        Ok(if known { Vec::new() } else { [Role::Control, Role::Worker].map(label_of).to_vec() })
    }
}
