//! Stateful sets, daemon sets and the revisions of their templates.

use serde_json::{Value, json};

use super::super::Problems;
use super::workload::{amount, common, is_zero};
use super::{list_at, meta, pod, storage, str_at};

const UPDATE_TEXT: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(in super::super) fn stateful_set(set: &Value, problems: &mut Problems) {
    common(&with_claims(set), problems);
    let spec = set.get("spec").unwrap_or(&Value::Null);
    for name in ["/minReadySeconds", "/revisionHistoryLimit", "/ordinals/start"] {
        pod::not_negative(spec, name, "spec", problems);
    }
    let policies = ["OrderedReady", "Parallel"];
    pod::one_of(spec, "/podManagementPolicy", "spec", &policies, problems);
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    strategy_type(strategy, problems);
    if let Some(rolling) = strategy.get("rollingUpdate") {
        let at = "spec.updateStrategy.rollingUpdate";
        pod::not_negative(rolling, "/partition", at, problems);
        if let Some(unavailable) = rolling.get("maxUnavailable") {
            let field = format!("{at}.maxUnavailable");
            amount(unavailable, &field, problems);
            if is_zero(Some(unavailable)) {
                problems.invalid(&field, unavailable, "cannot be 0");
            }
        }
    }
    claims(spec, problems);
    let service = str_at(spec, "/serviceName");
    if !service.is_empty() && !meta::is_dns_label(service) {
        problems.invalid("spec.serviceName", &service.into(), "must be the name of a Service");
    }
}

/// The set as its pods will be: with a volume for each template of a claim, which they may
/// mount.
fn with_claims(set: &Value) -> Value {
    let mut set = set.clone();
    let templates = list_at(&set, "/spec/volumeClaimTemplates");
    let names: Vec<String> =
        templates.iter().map(|one| str_at(one, "/metadata/name").to_owned()).collect();
    if names.is_empty() {
        return set;
    }
    if let Some(spec) = set.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
        let volumes = spec.entry("volumes").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !names.iter().any(|name| volume["name"] == name.as_str()));
            volumes.extend(names.iter().map(|name| json!({"name": name})));
        }
    }
    set
}

/// Claims of the pods, and what becomes of them.
fn claims(spec: &Value, problems: &mut Problems) {
    for (index, template) in list_at(spec, "/volumeClaimTemplates").iter().enumerate() {
        let at = format!("spec.volumeClaimTemplates[{index}]");
        let name = str_at(template, "/metadata/name");
        if !meta::is_dns_label(name) {
            problems.invalid(&format!("{at}.metadata.name"), &name.into(), "must be a label");
        }
        let claim = template.get("spec").unwrap_or(&Value::Null);
        storage::claim_spec(claim, &format!("{at}.spec"), problems);
    }
    let at = "spec.persistentVolumeClaimRetentionPolicy";
    let policy = spec.get("persistentVolumeClaimRetentionPolicy").unwrap_or(&Value::Null);
    for name in ["/whenDeleted", "/whenScaled"] {
        pod::one_of(policy, name, at, &["Delete", "Retain"], problems);
    }
}

fn strategy_type(strategy: &Value, problems: &mut Problems) {
    let kinds = ["OnDelete", "RollingUpdate"];
    let kind = str_at(strategy, "/type");
    if !kinds.contains(&kind) {
        problems.not_supported("spec.updateStrategy.type", kind, &kinds);
    }
    if kind == "OnDelete" && strategy.get("rollingUpdate").is_some() {
        let text = "only allowed for updateStrategy 'RollingUpdate'";
        problems.invalid("spec.updateStrategy.rollingUpdate", &strategy["rollingUpdate"], text);
    }
}

pub(in super::super) fn stateful_set_update(old: &Value, new: &Value, problems: &mut Problems) {
    let rest = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| !MUTABLE.contains(&name.as_str()));
        }
        spec
    };
    if rest(old) != rest(new) {
        problems.forbidden("spec", UPDATE_TEXT);
    }
}

pub(in super::super) fn daemon_set(set: &Value, problems: &mut Problems) {
    common(set, problems);
    let spec = set.get("spec").unwrap_or(&Value::Null);
    for name in ["/minReadySeconds", "/revisionHistoryLimit"] {
        pod::not_negative(spec, name, "spec", problems);
    }
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    strategy_type(strategy, problems);
    if str_at(strategy, "/type") != "RollingUpdate" {
        return;
    }
    let at = "spec.updateStrategy.rollingUpdate";
    let rolling = &strategy["rollingUpdate"];
    for name in ["maxUnavailable", "maxSurge"] {
        amount(&rolling[name], &format!("{at}.{name}"), problems);
    }
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    if is_zero(unavailable) && is_zero(surge) {
        let text = "cannot be 0 when maxSurge is 0";
        problems.invalid(&format!("{at}.maxUnavailable"), &rolling["maxUnavailable"], text);
    } else if !is_zero(unavailable) && !is_zero(surge) {
        let text = "may not be set when maxUnavailable is non-zero";
        problems.invalid(&format!("{at}.maxSurge"), &rolling["maxSurge"], text);
    }
}

pub(in super::super) fn controller_revision(revision: &Value, problems: &mut Problems) {
    if revision.get("data").is_none_or(Value::is_null) {
        problems.required("data", "data is mandatory");
    }
    pod::not_negative(revision, "/revision", "", problems);
}
