//! Quotas: which resources may be bounded, by what, and for which pods.

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta};
use crate::model::quantity::Quantity;

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// What is counted, and has no fractions.
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
];
/// Pairs that no pod fits.
const OPPOSITES: &[(&str, &str)] =
    &[("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn is_standard(name: &str) -> bool {
    let asked = name.strip_prefix("requests.").unwrap_or(name);
    STANDARD.contains(&name) || asked.starts_with("hugepages-")
}

/// Amounts by resource, none below zero.
fn amounts(map: Option<&Value>, at: &str, problems: &mut Problems) {
    for (name, amount) in map.and_then(Value::as_object).into_iter().flatten() {
        let field = format!("{at}[{name}]");
        if !meta::is_qualified_name(name) {
            let text = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
            problems.invalid(&field, &name.as_str().into(), text);
        } else if !name.contains('/') && !is_standard(name) {
            let text = "must be a standard resource for quota";
            problems.invalid(&field, &name.as_str().into(), text);
        }
        match amount.as_str().and_then(Quantity::parse) {
            None => problems.invalid(&field, amount, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
            Some(parsed) if parsed < Quantity::ZERO => {
                problems.invalid(&field, amount, "must be greater than or equal to 0");
            }
            Some(parsed) if WHOLE.contains(&name.as_str()) && !parsed.is_whole() => {
                problems.invalid(&field, amount, "must be an integer");
            }
            Some(_) => {}
        }
    }
}

fn scopes(spec: &Value, problems: &mut Problems) {
    let named: Vec<&str> = list_at(spec, "/scopes").iter().filter_map(Value::as_str).collect();
    let all = Value::from(named.clone());
    for name in &named {
        if !SCOPES.contains(name) {
            problems.invalid("spec.scopes", &all, "unsupported scope");
        }
    }
    for (one, other) in OPPOSITES {
        if named.contains(one) && named.contains(other) {
            problems.invalid("spec.scopes", &all, "conflicting scopes");
        }
    }
    let selected = list_at(spec, "/scopeSelector/matchExpressions");
    for (index, one) in selected.iter().enumerate() {
        let at = format!("spec.scopeSelector.matchExpressions[{index}]");
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        let (name, operator) = (text("scopeName"), text("operator"));
        let values = list_at(one, "/values");
        if !SCOPES.contains(&name) {
            problems.invalid(&format!("{at}.scopeName"), &name.into(), "unsupported scope");
        } else if name != "PriorityClass" && operator != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            problems.invalid(&format!("{at}.operator"), &operator.into(), why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                problems.required(&format!("{at}.values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                let given = Value::from(values.to_vec());
                problems.invalid(&format!("{at}.values"), &given, why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                problems.invalid(&format!("{at}.operator"), &operator.into(), why);
            }
        }
    }
    let hard = spec.get("hard").and_then(Value::as_object).into_iter().flatten();
    let best_effort = named.contains(&"BestEffort");
    for (name, _) in hard {
        let about_pods = name == "pods"
            || ["cpu", "memory", "ephemeral-storage"].iter().any(|resource| {
                name.trim_start_matches("requests.").trim_start_matches("limits.") == *resource
            })
            || name.contains("hugepages-")
            || name == "count/pods"
            || (name.starts_with("requests.") && name.contains('/'));
        let scoped = !named.is_empty() || !selected.is_empty();
        let unfit = (scoped && !about_pods)
            || (best_effort && !["pods", "count/pods"].contains(&name.as_str()));
        if unfit {
            let why = "unsupported scope applied to resource";
            problems.invalid("spec.scopes", &all, why);
        }
    }
}

pub(in super::super) fn quota(quota: &Value, problems: &mut Problems) {
    let spec = quota.get("spec").unwrap_or(&Value::Null);
    amounts(spec.get("hard"), "spec.hard", problems);
    scopes(spec, problems);
    for part in ["hard", "used"] {
        amounts(quota.pointer(&format!("/status/{part}")), &format!("status.{part}"), problems);
    }
}

pub(in super::super) fn quota_update(old: &Value, new: &Value, problems: &mut Problems) {
    let mut sets = [old, new].map(|quota| {
        let mut scopes: Vec<String> = list_at(quota, "/spec/scopes")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        scopes.sort();
        scopes
    });
    if sets[0] != sets[1] {
        let now = Value::from(std::mem::take(&mut sets[1]));
        problems.invalid("spec.scopes", &now, "field is immutable");
    }
}
