//! Which pods a ReplicaSet gives up first.
//!
//! Source: Kubernetes' `ActivePodsWithRanks`. The order is total (the name decides last),
//! so two controllers that see the same pods choose the same victims.

use std::cmp::Ordering;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;

/// The annotation by which people lower a pod's worth.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Whether the pod's containers can still do work.
pub fn is_active(pod: &Pod) -> bool {
    !is_ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Succeeded or Failed: it will never run again.
pub fn is_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The status of the pod's Ready condition.
pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Since when the pod is ready; the epoch where the condition does not say.
pub fn ready_since(pod: &Pod) -> Option<jiff::Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |t| t.0);
    (ready.status == "True").then_some(since)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn phase_rank(pod: &Pod) -> u8 {
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The `count` pods to delete, worst first: unassigned, not running, not ready, cheap,
/// sharing a node with most siblings, ready most recently, restarted most, youngest.
pub fn victims<P: AsRef<Pod> + Clone>(pods: &[P], count: usize) -> Vec<P> {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for pod in pods {
        if let Some(node) = node_of(pod.as_ref()) {
            *crowd.entry(node).or_default() += 1;
        }
    }
    let rank = |pod: &Pod| node_of(pod).and_then(|node| crowd.get(node)).copied().unwrap_or(0);
    let mut sorted: Vec<P> = pods.to_vec();
    sorted.sort_by(|one, other| {
        let (one, other) = (one.as_ref(), other.as_ref());
        worst_first(one, other, rank(one), rank(other))
    });
    sorted.truncate(count);
    sorted
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn worst_first(one: &Pod, other: &Pod, one_rank: usize, other_rank: usize) -> Ordering {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    node_of(one)
        .is_some()
        .cmp(&node_of(other).is_some())
        .then_with(|| phase_rank(one).cmp(&phase_rank(other)))
        .then_with(|| is_ready(one).cmp(&is_ready(other)))
        .then_with(|| deletion_cost(one).cmp(&deletion_cost(other)))
        .then_with(|| other_rank.cmp(&one_rank))
        .then_with(|| ready_since(other).cmp(&ready_since(one)))
        .then_with(|| restarts(other).cmp(&restarts(one)))
        .then_with(|| created(other).cmp(&created(one)))
        .then_with(|| one.metadata.name.cmp(&other.metadata.name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: Option<&str>, ready: bool, cost: &str) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let value = json!({
            "metadata": {"name": name, "annotations": {DELETION_COST: cost}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn unassigned_then_unready_then_cheap_then_crowded() {
        let pods = [
            pod("fine", Some("n2"), true, "0"),
            pod("crowded-1", Some("n1"), true, "0"),
            pod("crowded-2", Some("n1"), true, "0"),
            pod("cheap", Some("n3"), true, "-5"),
            pod("unready", Some("n4"), false, "0"),
            pod("unassigned", None, false, "0"),
        ];
        let order = victims(&pods, 6);
        assert_eq!(
            names(&order),
            ["unassigned", "unready", "cheap", "crowded-1", "crowded-2", "fine"]
        );
        assert_eq!(names(&victims(&pods, 1)), ["unassigned"]);
    }

    proptest! {
        #[test]
        fn the_choice_does_not_depend_on_the_order_seen(
            facts in prop::collection::vec((0_u8..3, any::<bool>(), -1_i8..2), 1..8),
            shift in 0_usize..8,
        ) {
            let mut pods: Vec<_> = facts.iter().enumerate().map(|(at, (node, ready, cost))| {
                let node = format!("n{node}");
                pod(&format!("p{at}"), Some(&node), *ready, &cost.to_string())
            }).collect();
            let before: Vec<String> =
                names(&victims(&pods, 3)).into_iter().map(str::to_owned).collect();
            let middle = shift % pods.len();
            pods.rotate_left(middle);
            let after = victims(&pods, 3);
            prop_assert_eq!(names(&after), before);
        }
    }
}
