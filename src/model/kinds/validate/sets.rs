//! Stateful sets, daemon sets and the revisions of their templates.
//!
//! Volume claims are refused: no volume is served that could hold them, and a database
//! that starts on a folder of its node would lose its data with the first move.

use serde_json::Value;

use super::super::Problems;
use super::workload::{amount, common, is_zero};
use super::{list_at, meta, pod, str_at};

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
    common(set, problems);
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
    refuse_claims(spec, problems);
    let service = str_at(spec, "/serviceName");
    if !service.is_empty() && !meta::is_dns_label(service) {
        problems.invalid("spec.serviceName", &service.into(), "must be the name of a Service");
    }
}

fn refuse_claims(spec: &Value, problems: &mut Problems) {
    if !list_at(spec, "/volumeClaimTemplates").is_empty() {
        let text = "persistent volumes are not served; use emptyDir or hostPath volumes in the template, or none";
        problems.forbidden("spec.volumeClaimTemplates", text);
    }
    for name in ["whenDeleted", "whenScaled"] {
        let at = "spec.persistentVolumeClaimRetentionPolicy";
        let policy = str_at(spec, &format!("/persistentVolumeClaimRetentionPolicy/{name}"));
        if !policy.is_empty() && policy != "Retain" {
            problems.not_supported(&format!("{at}.{name}"), policy, &["Retain"]);
        }
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
