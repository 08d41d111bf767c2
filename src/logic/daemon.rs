//! A DaemonSet's next steps: on which nodes pods belong, and which of them go.
//!
//! Source: Kubernetes' `pkg/controller/daemon` (`manage` and `rollingUpdate`).
//! Invariants (tested over random clusters): no node is asked to hold two pods of one
//! template; a rollout takes away no more available pods than `max_unavailable`, and has
//! no more second pods beside available ones than `max_surge`; it comes to its end.
//! Not here: choosing the node, which the pod's own affinity does (controllers/scheduler.rs).

use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    PodSpec, PodTemplateSpec, Toleration,
};

use crate::logic::schedule_filter::{selects, tolerates};

/// Taints of a node that its daemons bear, and their effects.
const BORNE: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The template's spec with the tolerations that every daemon has.
pub fn with_tolerations(template: &PodTemplateSpec) -> PodSpec {
    let mut spec = template.spec.clone().unwrap_or_default();
    let mut borne = BORNE.to_vec();
    if spec.host_network == Some(true) {
        borne.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in borne {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

/// Ties a pod to one node through its required affinity, as the scheduler reads it.
pub fn bound_to(mut spec: PodSpec, node: &str) -> PodSpec {
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = &mut nodes.required_during_scheduling_ignored_during_execution;
    let terms = match required.take() {
        // The node was chosen by these terms; what is left to say is its name.
        Some(held) if !held.node_selector_terms.is_empty() => held
            .node_selector_terms
            .into_iter()
            .map(|term| NodeSelectorTerm { match_fields: Some(vec![field.clone()]), ..term })
            .collect(),
        _ => vec![NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None }],
    };
    *required = Some(NodeSelector { node_selector_terms: terms });
    spec
}

/// The node that a pod was made for: where it is, or where its affinity sends it.
pub fn target_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let nodes = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = nodes.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().filter_map(|term| term.match_fields.as_ref());
    let mut names = fields.flatten().filter(|field| field.key == "metadata.name");
    names.find_map(|field| field.values.as_ref()?.first()).map(String::as_str)
}

/// Whether a node should have the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belongs {
    /// A pod is made where there is none.
    pub start: bool,
    /// A pod that is there may stay.
    pub stay: bool,
}

/// Judges a node by the daemon's selector, affinity and tolerations.
pub fn belongs(spec: &PodSpec, node: &Node) -> Belongs {
    if !selects(spec, node) {
        return Belongs { start: false, stay: false };
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let borne = |effects: &[&str]| {
        taints
            .iter()
            .filter(|taint| effects.contains(&taint.effect.as_str()))
            .all(|taint| tolerates(tolerations, taint))
    };
    Belongs { start: borne(&["NoSchedule", "NoExecute"]), stay: borne(&["NoExecute"]) }
}

/// One pod of the set on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The caller's number for it.
    pub id: usize,
    /// Of the present template.
    pub updated: bool,
    /// Succeeded or Failed.
    pub ended: bool,
    pub terminating: bool,
    pub ready: bool,
    pub available: bool,
}

/// One node and its pods, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub belongs: Belongs,
    pub daemons: Vec<Daemon>,
}

/// How a rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    OnDelete,
    Rolling { max_unavailable: usize, max_surge: usize },
}

/// What to do: numbers of places that get a pod, and pods that go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub create: Vec<usize>,
    pub delete: Vec<usize>,
    /// Pods that have ended; they go too, but with a pause that grows.
    pub ended: Vec<usize>,
}

/// The next steps. Rolling goes on only where nothing else is to do.
pub fn plan(places: &[Place], update: Update) -> Steps {
    let mut steps = Steps::default();
    let surges = matches!(update, Update::Rolling { max_surge, .. } if max_surge > 0);
    for (at, place) in places.iter().enumerate() {
        tend(at, place, surges, &mut steps);
    }
    match update {
        Update::OnDelete => {}
        Update::Rolling { max_unavailable, max_surge: 0 } => {
            replace(places, max_unavailable.max(1), &mut steps);
        }
        Update::Rolling { max_surge, .. } => surge(places, max_surge, &mut steps),
    }
    steps
}

/// One node: none missing, none too many, none where none belongs.
fn tend(at: usize, place: &Place, surges: bool, steps: &mut Steps) {
    let all = &place.daemons;
    if !place.belongs.stay {
        steps.delete.extend(all.iter().filter(|one| !one.terminating).map(|one| one.id));
        return;
    }
    if all.is_empty() {
        if place.belongs.start {
            steps.create.push(at);
        }
        return;
    }
    let there = all.iter().filter(|one| !one.terminating);
    steps.ended.extend(there.clone().filter(|one| one.ended).map(|one| one.id));
    let running: Vec<&Daemon> = there.filter(|one| !one.ended).collect();
    if running.len() <= 1 {
        return;
    }
    // Of several the one that serves stays, then the oldest.
    let best = |fits: &dyn Fn(&Daemon) -> bool| {
        let fitting = || running.iter().copied().filter(|one| fits(one));
        fitting().find(|one| one.available).or_else(|| fitting().next())
    };
    if !surges {
        let kept = best(&|_| true).map(|one| one.id);
        let surplus = running.iter().filter(|one| Some(one.id) != kept);
        steps.delete.extend(surplus.map(|one| one.id));
        return;
    }
    let (new, old) = (best(&|one| one.updated), best(&|one| !one.updated));
    let kept = [new, old].map(|one| one.map(|one| one.id));
    let surplus = running.iter().filter(|one| !kept.contains(&Some(one.id)));
    steps.delete.extend(surplus.map(|one| one.id));
    if let (Some(new), Some(old)) = (new, old)
        && (new.available || !old.ready)
    {
        steps.delete.push(old.id);
    }
}

/// The newest-template pod and the old one of a place that has one of each at most.
fn pair(place: &Place) -> Option<(Option<&Daemon>, Option<&Daemon>)> {
    let running = || place.daemons.iter().filter(|one| !one.terminating && !one.ended);
    let (mut new, mut old) = (running().filter(|d| d.updated), running().filter(|d| !d.updated));
    let found = (new.next(), old.next());
    (new.next().is_none() && old.next().is_none()).then_some(found)
}

/// Without surge: old pods that do not serve go at once, others as many as may be down.
fn replace(places: &[Place], max_unavailable: usize, steps: &mut Steps) {
    let mut down = 0;
    let mut candidates = Vec::new();
    for place in places.iter().filter(|place| place.belongs.start) {
        match pair(place) {
            Some((None, Some(old))) if old.available => candidates.push(old.id),
            Some((None, Some(old))) => {
                down += 1;
                steps.delete.push(old.id);
            }
            Some((Some(new), None)) => down += usize::from(!new.available),
            // None at all, or too many: they are tended first.
            _ => down += 1,
        }
    }
    candidates.truncate(max_unavailable.saturating_sub(down));
    steps.delete.extend(candidates);
}

/// With surge: a new pod beside the old one on as many nodes as may have two.
fn surge(places: &[Place], max_surge: usize, steps: &mut Steps) {
    let mut surging = 0;
    let mut candidates = Vec::new();
    for (at, place) in places.iter().enumerate().filter(|(_, place)| place.belongs.start) {
        match pair(place) {
            // An old pod that does not serve is no reason to wait.
            Some((None, Some(old))) if !old.available => steps.create.push(at),
            Some((None, Some(_))) => candidates.push(at),
            Some((Some(new), Some(_))) => surging += usize::from(!new.available),
            _ => {}
        }
    }
    candidates.truncate(max_surge.saturating_sub(surging));
    steps.create.extend(candidates);
}

#[cfg(test)]
#[path = "daemon/tests.rs"]
mod tests;
