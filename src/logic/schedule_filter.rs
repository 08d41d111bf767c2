//! Whether a node may take a pod at all, and if not, why, in Kubernetes' words.
//!
//! Why its words: people search for these sentences.
//! Not here: which of several good nodes is best (schedule.rs).

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration};

use crate::logic::rollout_selector::requirement;

/// Why a node is out of the question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Obstacle {
    NotReady,
    Unschedulable,
    Taint {
        key: String,
        value: String,
    },
    Affinity,
    OtherNode,
    Cpu,
    Memory,
    PodCount,
    HostPort,
    /// Its volume can be used on other nodes only.
    VolumeElsewhere,
    /// Nothing here can be bound to a claim of the pod.
    NoVolume,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Obstacle::NotReady => "node(s) were not ready",
            Obstacle::Unschedulable => "node(s) were unschedulable",
            Obstacle::Taint { key, value } => {
                return write!(f, "node(s) had untolerated taint {{{key}: {value}}}");
            }
            Obstacle::Affinity => "node(s) didn't match Pod's node affinity/selector",
            Obstacle::OtherNode => "node(s) didn't match the requested node name",
            Obstacle::Cpu => "Insufficient cpu",
            Obstacle::Memory => "Insufficient memory",
            Obstacle::PodCount => "Too many pods",
            Obstacle::VolumeElsewhere => "node(s) had volume node affinity conflict",
            Obstacle::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Obstacle::HostPort => "node(s) didn't have free ports for the requested pod ports",
        })
    }
}

/// Whether the node's Ready condition is True.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the pod bears the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect_fits = effect.is_empty() || effect == taint.effect;
        let key_fits = key.is_empty() || key == taint.key;
        let value_fits = match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => {
                !key.is_empty()
                    && toleration.value.as_deref().unwrap_or_default()
                        == taint.value.as_deref().unwrap_or_default()
            }
        };
        effect_fits && key_fits && value_fits
    })
}

/// The pod's wishes against the node's standing facts; resources are apart because they
/// change with every placement.
pub fn check_node(pod: &Pod, node: &Node) -> Result<(), Obstacle> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let node_spec = node.spec.as_ref();
    if node_spec.and_then(|spec| spec.unschedulable) == Some(true) {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if !tolerates(tolerations, &taint) {
            return Err(Obstacle::Unschedulable);
        }
    }
    for taint in node_spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten() {
        if taint.effect != "PreferNoSchedule" && !tolerates(tolerations, taint) {
            let value = taint.value.clone().unwrap_or_default();
            return Err(Obstacle::Taint { key: taint.key.clone(), value });
        }
    }
    if !is_ready(node) && !bears_unready(tolerations) {
        return Err(Obstacle::NotReady);
    }
    if selects(spec, node) { Ok(()) } else { Err(Obstacle::Affinity) }
}

/// Daemons start on a node that is not ready: it may become ready through them.
fn bears_unready(tolerations: &[Toleration]) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/not-ready".into(),
        effect: "NoExecute".into(),
        ..Taint::default()
    };
    let lasting = tolerations.iter().filter(|one| one.toleration_seconds.is_none());
    let lasting: Vec<Toleration> = lasting.cloned().collect();
    tolerates(&lasting, &taint)
}

/// Whether the pod's node selector and required node affinity choose the node.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let chosen = spec.node_selector.iter().flatten();
    if chosen.into_iter().any(|(key, value)| label(key) != Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| any_term_matches(&required.node_selector_terms, node))
}

/// Whether one of the terms chooses the node; none chooses nothing.
pub fn any_term_matches(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    terms.iter().any(|term| term_matches(term, node))
}

/// All expressions of a term must hold; a term without any matches no node.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let held = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    labels.iter().all(|term| {
        requirement(&term.operator, term.values.as_deref().unwrap_or_default(), held(&term.key))
    }) && fields.iter().all(|term| {
        let name = node.metadata.name.as_ref().filter(|_| term.key == "metadata.name");
        requirement(&term.operator, term.values.as_deref().unwrap_or_default(), name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(extra: Value) -> Node {
        let mut value = json!({"metadata": {"name": "a1", "labels": {"disk": "ssd"}},
            "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        json_patch::merge(&mut value, &extra);
        serde_json::from_value(value).unwrap()
    }

    fn pod(spec: Value) -> Pod {
        let mut value = json!({"spec": {"containers": []}});
        json_patch::merge(&mut value["spec"], &spec);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn taints_keep_pods_away_that_do_not_bear_them() {
        let tainted = node(json!({"spec": {"taints": [
            {"key": "dedicated", "value": "db", "effect": "NoSchedule"}]}}));
        let refused = check_node(&pod(json!({})), &tainted).unwrap_err();
        assert_eq!(refused.to_string(), "node(s) had untolerated taint {dedicated: db}");
        for toleration in [
            json!({"operator": "Exists"}),
            json!({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}),
            json!({"key": "dedicated", "value": "db"}),
        ] {
            assert_eq!(check_node(&pod(json!({"tolerations": [toleration]})), &tainted), Ok(()));
        }
        let other = pod(json!({"tolerations": [{"key": "dedicated", "value": "web"}]}));
        assert!(check_node(&other, &tainted).is_err());
    }

    #[test]
    fn unready_and_cordoned_nodes_are_left_out() {
        let silent =
            node(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}));
        assert_eq!(check_node(&pod(json!({})), &silent), Err(Obstacle::NotReady));
        let cordoned = node(json!({"spec": {"unschedulable": true}}));
        assert_eq!(check_node(&pod(json!({})), &cordoned), Err(Obstacle::Unschedulable));
    }

    #[test]
    fn selector_and_affinity_must_match() {
        let plain = node(json!({}));
        let ssd = pod(json!({"nodeSelector": {"disk": "ssd"}}));
        assert_eq!(check_node(&ssd, &plain), Ok(()));
        let hdd = pod(json!({"nodeSelector": {"disk": "hdd"}}));
        assert_eq!(check_node(&hdd, &plain), Err(Obstacle::Affinity));
        let affinity = |operator: &str| {
            pod(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": operator, "values": ["ssd"]}]}
            ]}}}}))
        };
        assert_eq!(check_node(&affinity("In"), &plain), Ok(()));
        assert_eq!(check_node(&affinity("NotIn"), &plain), Err(Obstacle::Affinity));
    }
}
