//! This node's Lease in `kube-node-lease`: the sign of life that Kubernetes' tools show.
//!
//! Why beside the heartbeat in the node's status: `kubectl describe node` and monitoring
//! look here. The node controller judges by the status, which is written more often.
//! Invariant: the Lease belongs to the Node object and goes with it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::base::limits::{NODE_LEASE_DURATION, NODE_LEASE_RENEWAL};
use crate::client::{ApiError, PatchKind, ResourceRef};
use crate::sys::clock;

const LEASES: ResourceRef = ResourceRef::of::<Lease>(true);
const NODES: ResourceRef = ResourceRef::of::<Node>(false);
const NAMESPACE: Option<&str> = Some("kube-node-lease");

/// Pause before the next attempt while the node is not registered.
const SOON: Duration = Duration::from_secs(1);

/// Keeps the Lease current.
#[derive(Debug)]
pub(crate) struct NodeLease {
    context: Arc<Context>,
}

impl NodeLease {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(NODE_LEASE_RENEWAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                renewed = self.renew() => match renewed {
                    Ok(()) => {}
                    // The node has not registered itself yet; its Lease comes right after.
                    Err(error) if error.is_not_found() => tick.reset_after(SOON),
                    Err(error) => tracing::debug!(%error, "cannot renew this node's Lease"),
                },
            }
        }
    }

    fn spec(&self) -> Value {
        json!({
            "holderIdentity": self.context.node_name(),
            "leaseDurationSeconds": NODE_LEASE_DURATION.as_secs(),
            "renewTime": clock::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        })
    }

    async fn renew(&self) -> Result<(), ApiError> {
        let (api, name) = (&self.context.api, self.context.node_name());
        let patch = json!({"spec": self.spec()});
        match api.patch(&LEASES, NAMESPACE, name, None, PatchKind::Merge, &patch).await {
            Err(error) if error.is_not_found() => {}
            other => return other.map(drop),
        }
        let node = api.get(&NODES, None, name).await?;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"],
            }]},
            "spec": self.spec(),
        });
        api.create(&LEASES, NAMESPACE, &lease).await.map(drop)
    }
}
