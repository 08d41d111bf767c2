//! Which pods a quota is about, where it is not about all.

use serde_json::Value;

use super::Counted;

/// One condition of a quota.
struct Scope<'v> {
    name: &'v str,
    operator: &'v str,
    values: Vec<&'v str>,
}

fn scopes(quota: &Value) -> Vec<Scope<'_>> {
    let listed = quota.pointer("/spec/scopes").and_then(Value::as_array).into_iter().flatten();
    let plain = listed.filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name, operator: "Exists", values: Vec::new() });
    let at = "/spec/scopeSelector/matchExpressions";
    let selected = quota.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let selected = selected.map(|one| Scope {
        name: one["scopeName"].as_str().unwrap_or_default(),
        operator: one["operator"].as_str().unwrap_or_default(),
        values: one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    });
    plain.chain(selected).collect()
}

impl Scope<'_> {
    fn holds(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let ends = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.name {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => is_best_effort(spec),
            "NotBestEffort" => !is_best_effort(spec),
            "PriorityClass" => {
                let class = spec["priorityClassName"].as_str().unwrap_or_default();
                match self.operator {
                    "Exists" => !class.is_empty(),
                    "DoesNotExist" => class.is_empty(),
                    "In" => self.values.contains(&class),
                    "NotIn" => !self.values.contains(&class),
                    _ => false,
                }
            }
            "CrossNamespacePodAffinity" => crosses_namespaces(spec),
            _ => false,
        }
    }
}

/// Nobody in the pod says anything about processor or memory.
fn is_best_effort(spec: &Value) -> bool {
    let containers = ["containers", "initContainers"].into_iter();
    let mut all = containers.flat_map(|list| spec[list].as_array().into_iter().flatten());
    !all.any(|container| {
        let sides = ["requests", "limits"].into_iter();
        sides.flat_map(|side| container["resources"][side].as_object().into_iter().flatten()).any(
            |(name, amount)| {
                let is_zero = amount.as_str().and_then(crate::model::quantity::milli) == Some(0);
                ["cpu", "memory"].contains(&name.as_str()) && !is_zero
            },
        )
    })
}

fn crosses_namespaces(spec: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let must = affinity["requiredDuringSchedulingIgnoredDuringExecution"].as_array();
        let may = affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        must.into_iter().flatten().any(crosses)
            || may.into_iter().flatten().any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

/// Whether a quota is about this object as far as its scopes say. Scopes speak of pods
/// only: a quota that has some is about nothing else.
pub fn matches_scopes(quota: &Value, kind: &Counted<'_>, object: &Value) -> bool {
    let scopes = scopes(quota);
    if scopes.is_empty() {
        return true;
    }
    let is_pod = kind.group.is_empty() && kind.plural == "pods";
    is_pod && scopes.iter().all(|scope| scope.holds(object))
}
