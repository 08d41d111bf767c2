//! This node's Lease in `kube-node-lease`: its sign of life, renewed over and over.
//!
//! Why a Lease and not the node's status: it is a tenth of the size, and nobody who watches
//! nodes is woken by it. How often depends on how many nodes there are
//! (`logic/node_life`), and the Lease says for how long it holds.
//! Invariant: the Lease belongs to the Node object and goes with it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::context::Context;
use crate::base::limits::{NODE_HEARTBEAT, NODE_LEASE_BEATS};
use crate::client::{ApiError, ListOptions, PatchKind, ResourceRef};
use crate::logic::node_life::{LEASES_NAMESPACE, heartbeat_period};
use crate::sys::clock;

const LEASES: ResourceRef = ResourceRef::of::<Lease>(true);
const NODES: ResourceRef = ResourceRef::of::<Node>(false);
const NAMESPACE: Option<&str> = Some(LEASES_NAMESPACE);

/// Pause before the next attempt while the node is not registered.
const SOON: Duration = Duration::from_secs(1);
/// How often the nodes are counted.
const COUNT_PERIOD: Duration = Duration::from_secs(60);

/// Keeps the Lease current for as long as it is polled.
pub(super) async fn run(context: Arc<Context>) {
    let mut period = NODE_HEARTBEAT;
    let mut counted: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let pause = match renew(&context, period).await {
            Ok(()) => period,
            // The node has not registered itself yet; its Lease comes right after.
            Err(error) if error.is_not_found() => SOON,
            Err(error) => {
                tracing::debug!(%error, "cannot renew this node's Lease");
                NODE_HEARTBEAT
            }
        };
        if counted.is_none_or(|at| at.elapsed() >= COUNT_PERIOD)
            && let Ok(nodes) = count(&context).await
        {
            period = heartbeat_period(nodes);
            counted = Some(Instant::now());
        }
        tokio::time::sleep_until(begun + pause).await;
    }
}

/// How many nodes there are.
async fn count(context: &Context) -> Result<u32, ApiError> {
    let one = ListOptions { limit: Some(1), ..ListOptions::default() };
    let page = context.api.list(&NODES, None, &one).await?;
    let all = page.remaining.unwrap_or_default() + page.items.len() as i64;
    Ok(u32::try_from(all).unwrap_or(u32::MAX))
}

async fn renew(context: &Context, period: Duration) -> Result<(), ApiError> {
    let (api, name) = (&context.api, context.node_name());
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": (period * NODE_LEASE_BEATS).as_secs(),
        "renewTime": clock::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
    });
    let patch = json!({"spec": spec});
    match api.patch(&LEASES, NAMESPACE, name, None, PatchKind::Merge, &patch).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    let node: Value = api.get(&NODES, None, name).await?;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"],
        }]},
        "spec": spec,
    });
    api.create(&LEASES, NAMESPACE, &lease).await.map(drop)
}
