//! What a LimitRange fills into new pods, and what it refuses.
//!
//! Source: `plugin/pkg/admission/limitranger/admission.go`; the words are Kubernetes'.
//! Not here: which objects are looked at (`objects/limits`), a pod's sums (`pod_resources`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::pod_resources::{self, Amounts, Side};
use crate::model::quantity::Quantity;

/// Says on a pod what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn items(range: &Value) -> impl Iterator<Item = &Value> {
    range.pointer("/spec/limits").and_then(Value::as_array).into_iter().flatten()
}

fn of_type<'v>(range: &'v Value, name: &'v str) -> impl Iterator<Item = &'v Value> {
    items(range).filter(move |item| item["type"] == name)
}

/// Requests and limits of a container that says nothing; the last item counts.
fn defaults(range: &Value) -> (Map<String, Value>, Map<String, Value>) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for item in of_type(range, "Container") {
        for (field, into) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
            let given = item[field].as_object().cloned().unwrap_or_default();
            into.extend(given);
        }
    }
    (requests, limits)
}

/// Adds what is missing at `side`; the names of what was added, sorted.
fn fill(container: &mut Value, side: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut added = Vec::new();
    for (name, amount) in defaults {
        let there = container.get("resources").and_then(|all| all.get(side)?.get(name));
        if there.is_none() {
            if !container["resources"][side].is_object() {
                container["resources"][side] = json!({});
            }
            container["resources"][side][name] = amount.clone();
            added.push(name.clone());
        }
    }
    added.sort();
    added
}

/// Fills a new pod's containers; whether anything was missing.
pub fn fill_pod(range: &Value, pod: &mut Value) -> bool {
    let (requests, limits) = defaults(range);
    let mut notes = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (side, given, what) in
                [("requests", &requests, "request"), ("limits", &limits, "limit")]
            {
                let added = fill(container, side, given);
                if !added.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", added.join(", ")));
                }
            }
        }
    }
    if notes.is_empty() {
        return false;
    }
    if !pod["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = json!({});
    }
    let note = format!("LimitRanger plugin set: {}", notes.join("; "));
    pod["metadata"]["annotations"][ANNOTATION] = note.into();
    true
}

/// One bound on one resource of one thing.
struct Bound<'a> {
    resource: &'a str,
    kind: &'a str,
    bound: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
}

impl Bound<'_> {
    fn below(&self) -> Option<String> {
        let Self { resource, kind, bound, .. } = self;
        let text = format!("minimum {resource} usage per {kind} is {bound}");
        match (self.request, self.limit) {
            (None, _) => Some(format!("{text}.  No request is specified")),
            (Some(request), _) if request < *bound => {
                Some(format!("{text}, but request is {request}"))
            }
            (_, Some(limit)) if limit < *bound => Some(format!("{text}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self) -> Option<String> {
        let Self { resource, kind, bound, .. } = self;
        let text = format!("maximum {resource} usage per {kind} is {bound}");
        match (self.request, self.limit) {
            (_, None) => Some(format!("{text}.  No limit is specified")),
            (_, Some(limit)) if limit > *bound => Some(format!("{text}, but limit is {limit}")),
            (Some(request), _) if request > *bound => {
                Some(format!("{text}, but request is {request}"))
            }
            _ => None,
        }
    }

    /// For what knows requests only.
    fn request_above(&self) -> Option<String> {
        let Self { resource, kind, bound, .. } = self;
        let text = format!("maximum {resource} usage per {kind} is {bound}");
        match self.request {
            None => Some(format!("{text}.  No request is specified")),
            Some(request) if request > *bound => Some(format!("{text}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn ratio(&self) -> Option<String> {
        let Self { resource, kind, bound, .. } = self;
        let text = format!("{resource} max limit to request ratio per {kind} is {bound}, but");
        let some = |amount: Option<Quantity>| amount.filter(|amount| *amount != Quantity::ZERO);
        let Some(request) = some(self.request) else {
            return Some(format!("{text} no request is specified or request is 0"));
        };
        let Some(limit) = some(self.limit) else {
            return Some(format!("{text} no limit is specified or limit is 0"));
        };
        // Exactly: limit / request > bound.
        if limit.milli().saturating_mul(1_000) <= bound.milli().saturating_mul(request.milli()) {
            return None;
        }
        let ratio = limit.milli() as f64 / request.milli() as f64;
        Some(format!("{text} provided ratio is {ratio:.6}"))
    }
}

type Judge = fn(&Bound<'_>) -> Option<String>;

const FOR_PODS: &[(&str, Judge)] = &[
    ("min", |bound| bound.below()),
    ("max", |bound| bound.above()),
    ("maxLimitRequestRatio", |bound| bound.ratio()),
];
const FOR_CLAIMS: &[(&str, Judge)] =
    &[("min", |bound| bound.below()), ("max", |bound| bound.request_above())];

fn judge(
    item: &Value,
    judges: &[(&str, Judge)],
    requests: &Amounts,
    limits: &Amounts,
    found: &mut Vec<String>,
) {
    let kind = item["type"].as_str().unwrap_or_default();
    for (field, judge) in judges {
        let bounds: BTreeMap<&String, &Value> =
            item[field].as_object().into_iter().flatten().collect();
        for (resource, bound) in bounds {
            let Some(bound) = bound.as_str().and_then(Quantity::parse) else { continue };
            let request = requests.get(resource).copied();
            let limit = limits.get(resource).copied();
            found.extend(judge(&Bound { resource, kind, bound, request, limit }));
        }
    }
}

/// Why the range refuses a pod; `None` if it does not.
pub fn refuse_pod(range: &Value, pod: &Value) -> Option<String> {
    let mut found = Vec::new();
    let spec = &pod["spec"];
    for item in items(range) {
        if item["type"] == "Container" {
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array().into_iter().flatten() {
                    let requests = pod_resources::amounts(container, Side::Requests);
                    let limits = pod_resources::amounts(container, Side::Limits);
                    judge(item, FOR_PODS, &requests, &limits, &mut found);
                }
            }
        } else if item["type"] == "Pod" {
            let requests = pod_resources::of_containers(spec, Side::Requests);
            let limits = pod_resources::of_containers(spec, Side::Limits);
            judge(item, FOR_PODS, &requests, &limits, &mut found);
        }
    }
    joined(found)
}

/// Why the range refuses a claim; `None` if it does not.
pub fn refuse_claim(range: &Value, claim: &Value) -> Option<String> {
    let mut found = Vec::new();
    let requests = pod_resources::amounts(&claim["spec"], Side::Requests);
    for item in of_type(range, "PersistentVolumeClaim") {
        judge(item, FOR_CLAIMS, &requests, &Amounts::new(), &mut found);
    }
    joined(found)
}

/// Several errors as Kubernetes writes them together, each once.
fn joined(found: Vec<String>) -> Option<String> {
    let mut each: Vec<String> = Vec::new();
    for text in found {
        if !each.contains(&text) {
            each.push(text);
        }
    }
    match each.len() {
        0 => None,
        1 => each.pop(),
        _ => Some(format!("[{}]", each.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limits: Value) -> Value {
        json!({"spec": {"limits": limits}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "resources": resources}, {"name": "b", "resources": resources}]}})
    }

    #[test]
    fn what_a_container_does_not_say_is_filled_in_and_noted() {
        let range = range(json!([{"type": "Container",
            "default": {"cpu": "1", "memory": "64Mi"}, "defaultRequest": {"cpu": "100m"}}]));
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i", "resources": {}}],
            "containers": [{"name": "a"},
                {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}}]}});
        let mut bare = json!({"metadata": {}, "spec": {"containers": []}});
        assert!(!fill_pod(&range, &mut bare));
        assert_eq!(bare, json!({"metadata": {}, "spec": {"containers": []}}));
        assert!(fill_pod(&range, &mut pod));
        let of = |pod: &Value, at: &str| pod.pointer(at).cloned().unwrap_or_default();
        assert_eq!(
            of(&pod, "/spec/containers/0/resources"),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}})
        );
        assert_eq!(of(&pod, "/spec/containers/1/resources/limits/memory"), "1Gi");
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; cpu, memory limit for init container i"
        );
        let before = pod.clone();
        assert!(!fill_pod(&range, &mut pod));
        assert_eq!(pod, before);
    }

    #[test]
    fn bounds_are_told_in_kubernetes_words() {
        let of = |limits: Value, resources: Value| refuse_pod(&range(limits), &pod(resources));
        let min = json!([{"type": "Container", "min": {"cpu": "100m"}}]);
        assert_eq!(
            of(min.clone(), json!({"requests": {"cpu": "50m"}})).unwrap(),
            "minimum cpu usage per Container is 100m, but request is 50m"
        );
        assert_eq!(
            of(min.clone(), json!({})).unwrap(),
            "minimum cpu usage per Container is 100m.  No request is specified"
        );
        assert_eq!(of(min, json!({"requests": {"cpu": "100m"}})), None);
        let max = json!([{"type": "Container", "max": {"memory": "1Gi"}}]);
        assert_eq!(
            of(max.clone(), json!({"limits": {"memory": "2048Mi"}})).unwrap(),
            "maximum memory usage per Container is 1Gi, but limit is 2Gi"
        );
        assert_eq!(
            of(max, json!({"requests": {"memory": "1Mi"}})).unwrap(),
            "maximum memory usage per Container is 1Gi.  No limit is specified"
        );
        let ratio = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
        let both = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}});
        assert_eq!(
            of(ratio.clone(), both).unwrap(),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"
        );
        let both = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}});
        assert_eq!(of(ratio, both), None);
        let of_pod = json!([{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "1500m"}}]);
        let both = json!({"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}});
        assert_eq!(
            of(of_pod, both).unwrap(),
            "[minimum cpu usage per Pod is 1500m, but request is 1200m, maximum cpu usage per Pod is 1, but limit is 1200m]"
        );
    }

    #[test]
    fn claims_are_bounded_by_what_they_request() {
        let range = range(json!([{"type": "PersistentVolumeClaim",
            "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]));
        let of = |size: &str| {
            let claim = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            refuse_claim(&range, &claim)
        };
        assert_eq!(of("2Gi"), None);
        assert_eq!(
            of("500Mi").unwrap(),
            "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"
        );
        assert_eq!(
            of("3Gi").unwrap(),
            "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
        );
    }
}
