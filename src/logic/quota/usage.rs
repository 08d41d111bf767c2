//! What one object uses of what quotas bound.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::logic::pod_resources::{Amounts, Side, amounts, of_pod};
use crate::model::quantity::Quantity;

/// A kind of objects as quotas know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub plural: &'a str,
}

/// What a quota may bound of a pod beside its number.
const COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What each container must say where a quota bounds it.
const DEMANDED: &[&str] =
    &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Kinds whose plural alone also counts them.
const SHORT: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

impl Counted<'_> {
    fn count_name(&self) -> String {
        match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        }
    }

    fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// Whether a bound of this name is about objects of the kind.
    pub fn handles(&self, name: &str) -> bool {
        if name == self.count_name() {
            return true;
        }
        if self.is_core("pods") {
            let asked = name.strip_prefix("requests.").unwrap_or(name);
            return name == "pods"
                || COMPUTE.contains(&name)
                || asked.starts_with("hugepages-")
                || (asked != name && is_extended(asked) && !name.contains(OF_CLASS));
        }
        if self.is_core("services")
            && ["services.nodeports", "services.loadbalancers"].contains(&name)
        {
            return true;
        }
        if self.is_core("persistentvolumeclaims")
            && (name == "requests.storage" || name.contains(OF_CLASS))
        {
            return true;
        }
        self.group.is_empty() && self.plural == name && SHORT.contains(&name)
    }
}

/// One container or the sum of all, by the names that quotas use.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut found = Amounts::new();
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            found.insert(name.to_owned(), *amount);
            found.insert(format!("requests.{name}"), *amount);
        }
        if let Some(amount) = limits.get(name) {
            found.insert(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests {
        if name.starts_with("hugepages-") {
            found.insert(name.clone(), *amount);
        }
        if name.starts_with("hugepages-") || is_extended(name) {
            found.insert(format!("requests.{name}"), *amount);
        }
    }
    found
}

/// Whether a pod has come to its end, or should long have.
fn is_over(pod: &Value, now: Timestamp) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if ["Succeeded", "Failed"].contains(&phase) {
        return true;
    }
    let metadata = &pod["metadata"];
    let end = metadata["deletionTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let grace = metadata["deletionGracePeriodSeconds"].as_i64();
    match (end, grace) {
        (Some(end), Some(grace)) => {
            now > end.checked_add(SignedDuration::from_secs(grace)).unwrap_or(end)
        }
        _ => false,
    }
}

fn pod(pod: &Value, now: Timestamp) -> Amounts {
    if is_over(pod, now) {
        return Amounts::new();
    }
    let spec = &pod["spec"];
    let mut found = compute(&of_pod(spec, Side::Requests), &of_pod(spec, Side::Limits));
    found.insert("pods".to_owned(), Quantity::ONE);
    found
}

fn claim(claim: &Value) -> Amounts {
    let asked = amounts(&claim["spec"], Side::Requests).get("storage").copied();
    let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
    let mut found = Amounts::from([("persistentvolumeclaims".to_owned(), Quantity::ONE)]);
    if !class.is_empty() {
        found.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), Quantity::ONE);
    }
    if let Some(asked) = asked {
        found.insert("requests.storage".to_owned(), asked);
        if !class.is_empty() {
            found.insert(format!("{class}{OF_CLASS}requests.storage"), asked);
        }
    }
    found
}

fn service(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let count = |number: usize| Quantity::parse(&number.to_string()).unwrap_or(Quantity::ZERO);
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let kind = spec["type"].as_str().unwrap_or_default();
    let balanced = kind == "LoadBalancer";
    let on_nodes = match kind {
        "NodePort" => ports,
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] != false => ports,
        _ => 0,
    };
    Amounts::from([
        ("services".to_owned(), Quantity::ONE),
        ("services.nodeports".to_owned(), count(on_nodes)),
        ("services.loadbalancers".to_owned(), count(usize::from(balanced))),
    ])
}

/// What an object uses.
pub fn usage(kind: &Counted<'_>, object: &Value, now: Timestamp) -> Amounts {
    let mut found = match (kind.group, kind.plural) {
        ("", "pods") => pod(object, now),
        ("", "persistentvolumeclaims") => claim(object),
        ("", "services") => service(object),
        ("", plural) if SHORT.contains(&plural) => {
            Amounts::from([(plural.to_owned(), Quantity::ONE)])
        }
        _ => Amounts::new(),
    };
    found.insert(kind.count_name(), Quantity::ONE);
    found
}

/// What a pod's containers do not say although the quota bounds it: `cpu for: a,b`.
pub(super) fn lacking(
    kind: &Counted<'_>,
    bounded: &BTreeSet<&String>,
    object: &Value,
) -> Option<String> {
    if !kind.is_core("pods") {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in object["spec"][list].as_array().into_iter().flatten() {
            let said =
                compute(&amounts(container, Side::Requests), &amounts(container, Side::Limits));
            for name in bounded.iter().filter(|name| DEMANDED.contains(&name.as_str())) {
                if !said.contains_key(*name) {
                    let container = container["name"].as_str().unwrap_or_default();
                    missing.entry(name.as_str()).or_default().insert(container);
                }
            }
        }
    }
    let texts = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
