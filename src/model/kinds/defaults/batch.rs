//! Defaults of jobs and cron jobs, and the selector that the server gives a job.
//!
//! The selector follows from the uid and the name alone, so filling it in again on an
//! update that leaves it out changes nothing.

use serde_json::{Map, Value, json};

use super::{object, pod, set};

pub(in super::super) fn job(job: &mut Value) {
    let uid = job.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    let name = job.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let Some(spec) = object(job, "spec") else { return };
    let unset = |spec: &Map<String, Value>, field: &str| {
        spec.get(field).is_none_or(|value| value.is_null())
    };
    if unset(spec, "completions") && unset(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let per_index = !unset(spec, "backoffLimitPerIndex");
    set(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let policy = !unset(spec, "podFailurePolicy");
    set(spec, "podReplacementPolicy", if policy { "Failed" } else { "TerminatingOrFailed" });
    fill_patterns(spec);
    // Before its labels make one, or its defaults would come with the next write only.
    spec.entry("template").or_insert_with(|| json!({}));
    pod::template(spec);
    if let (Some(uid), Some(name)) = (uid, name) {
        select_by_uid(spec, &uid, &name);
    }
    label_from_template(job);
}

/// A condition of a failure policy holds if it is True, unless it says otherwise.
fn fill_patterns(spec: &mut Map<String, Value>) {
    let rules = spec.get_mut("podFailurePolicy").and_then(|policy| policy.get_mut("rules"));
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
        let patterns = rule.get_mut("onPodConditions").and_then(Value::as_array_mut);
        for pattern in patterns.into_iter().flatten().filter_map(Value::as_object_mut) {
            set(pattern, "status", "True");
        }
    }
}

/// Without `manualSelector` a job selects its pods by its own uid.
fn select_by_uid(spec: &mut Map<String, Value>, uid: &str, name: &str) {
    if uid.is_empty() || name.is_empty() || spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let template = spec.entry("template").or_insert_with(|| json!({}));
    if let Some(metadata) = object(template, "metadata") {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            for prefix in ["", "batch.kubernetes.io/"] {
                set(labels, &format!("{prefix}controller-uid"), uid);
                set(labels, &format!("{prefix}job-name"), name);
            }
        }
    }
    let selector = spec.entry("selector").or_insert_with(|| json!({}));
    if let Some(labels) = object(selector, "matchLabels") {
        set(labels, "batch.kubernetes.io/controller-uid", uid);
    }
}

/// A job without labels has those of its pods.
fn label_from_template(job: &mut Value) {
    let labels = job.pointer("/spec/template/metadata/labels").cloned();
    if let (Some(labels), Some(metadata)) = (labels, object(job, "metadata"))
        && metadata
            .get("labels")
            .is_none_or(|held| held.as_object().is_none_or(|held| held.is_empty()))
    {
        metadata.insert("labels".into(), labels);
    }
}

pub(in super::super) fn cron_job(cron: &mut Value) {
    let Some(spec) = object(cron, "spec") else { return };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = spec.get_mut("jobTemplate")
        && let Some(job) = object(template, "spec")
    {
        job.entry("template").or_insert_with(|| json!({}));
        pod::template(job);
    }
}
