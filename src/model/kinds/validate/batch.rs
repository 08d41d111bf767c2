//! Jobs and cron jobs.
//!
//! Source: `pkg/apis/batch/validation`. What is checked here is what the controllers
//! rely on; a schedule is parsed by the parser that will run it.

use serde_json::Value;

use super::super::Problems;
use super::workload::selector as check_selector;
use super::{list_at, meta, pod, str_at};
use crate::model::cron::Schedule;
use crate::model::{index_set::IndexSet, time_zone};

/// Longest completion list, and most pods at once, of an Indexed job (Kubernetes').
const INDEXED_PODS_MAX: i64 = 100_000;
const POLICY_RULES_MAX: usize = 20;
/// A cron job's name leaves room for the minutes that its jobs' names end with.
const CRON_NAME_MAX: usize = 52;

pub(in super::super) fn job(job: &Value, problems: &mut Problems) {
    let spec = job.get("spec").unwrap_or(&Value::Null);
    job_spec(spec, "spec", problems);
    check_selector(spec, problems);
    let uid = str_at(job, "/metadata/uid");
    let labels = spec.pointer("/selector/matchLabels");
    let chosen = labels.and_then(|labels| labels.get("batch.kubernetes.io/controller-uid"));
    if spec["manualSelector"] != true && !uid.is_empty() && chosen.is_none_or(|held| held != uid) {
        problems.invalid("spec.selector", &spec["selector"], "`selector` not auto-generated");
    }
    if str_at(spec, "/completionMode") == "Indexed" {
        indexed_name(str_at(job, "/metadata/name"), spec, problems);
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str)
        && !meta::is_qualified_name(manager)
    {
        problems.invalid("spec.managedBy", &manager.into(), "must be a domain-prefixed path");
    }
}

/// The last pod's host name, `NAME-INDEX`, must be a label.
fn indexed_name(name: &str, spec: &Value, problems: &mut Problems) {
    let completions = spec.get("completions").and_then(Value::as_i64).unwrap_or(0);
    let last = format!("{name}-{}", (completions - 1).max(0));
    if !name.is_empty() && !meta::is_dns_label(&last) {
        let text = format!("will not able to create pod with invalid DNS label: {last}");
        problems.invalid("metadata.name", &name.into(), &text);
    }
}

fn number(spec: &Value, field: &str) -> Option<i64> {
    spec.get(field).and_then(Value::as_i64)
}

fn job_spec(spec: &Value, at: &str, problems: &mut Problems) {
    for name in [
        "/parallelism",
        "/completions",
        "/activeDeadlineSeconds",
        "/backoffLimit",
        "/backoffLimitPerIndex",
        "/maxFailedIndexes",
        "/ttlSecondsAfterFinished",
    ] {
        pod::not_negative(spec, name, at, problems);
    }
    if spec.get("scheduling").is_some() {
        problems.forbidden(&format!("{at}.scheduling"), "gang scheduling is not served");
    }
    let modes = ["Indexed", "NonIndexed"];
    pod::one_of(spec, "/completionMode", at, &modes, problems);
    let indexed = str_at(spec, "/completionMode") == "Indexed";
    if indexed {
        indexed_numbers(spec, at, problems);
    } else {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if spec.get(name).is_some() {
                let text = "requires indexed completion mode";
                problems.invalid(&format!("{at}.{name}"), &spec[name], text);
            }
        }
    }
    let template = spec.pointer("/template").unwrap_or(&Value::Null);
    let labels = template.pointer("/metadata/labels");
    meta::labels(labels, &format!("{at}.template.labels"), problems);
    let body = template.get("spec").unwrap_or(&Value::Null);
    pod::spec(body, &format!("{at}.template.spec"), problems);
    let policy = str_at(body, "/restartPolicy");
    if !["OnFailure", "Never"].contains(&policy) {
        let field = format!("{at}.template.spec.restartPolicy");
        let text = "valid values: \"OnFailure\", \"Never\"";
        problems.required(&field, text);
    }
    if let Some(failure) = spec.get("podFailurePolicy") {
        failure_policy(failure, spec, &format!("{at}.podFailurePolicy"), problems);
    }
    if let Some(success) = spec.get("successPolicy") {
        success_policy(success, spec, &format!("{at}.successPolicy"), problems);
    }
    let mut policies = vec!["Failed", "TerminatingOrFailed"];
    if spec.get("podFailurePolicy").is_some() {
        policies.truncate(1);
    }
    pod::one_of(spec, "/podReplacementPolicy", at, &policies, problems);
}

fn indexed_numbers(spec: &Value, at: &str, problems: &mut Problems) {
    match number(spec, "completions") {
        None => {
            let text = "when completion mode is Indexed";
            problems.required(&format!("{at}.completions"), text);
        }
        Some(count) if count > INDEXED_PODS_MAX => {
            let text = format!("must be less than or equal to {INDEXED_PODS_MAX}");
            problems.invalid(&format!("{at}.completions"), &count.into(), &text);
        }
        Some(_) => {}
    }
    let (completions, most) = (number(spec, "completions"), number(spec, "maxFailedIndexes"));
    if number(spec, "parallelism").is_some_and(|parallel| parallel > INDEXED_PODS_MAX) {
        let text = format!("must be less than or equal to {INDEXED_PODS_MAX}");
        problems.invalid(&format!("{at}.parallelism"), &spec["parallelism"], &text);
    }
    if most.is_some() && number(spec, "backoffLimitPerIndex").is_none() {
        let text = "when maxFailedIndexes is specified";
        problems.required(&format!("{at}.backoffLimitPerIndex"), text);
    }
    if let (Some(completions), Some(most)) = (completions, most)
        && most > completions
    {
        let text = "must be less than or equal to completions";
        problems.invalid(&format!("{at}.maxFailedIndexes"), &most.into(), text);
    }
}

fn failure_policy(policy: &Value, spec: &Value, at: &str, problems: &mut Problems) {
    if str_at(spec, "/template/spec/restartPolicy") != "Never" {
        let value = &spec["template"]["spec"]["restartPolicy"];
        let text = "only \"Never\" is supported when podFailurePolicy is specified";
        problems.invalid("spec.template.spec.restartPolicy", value, text);
    }
    let rules = list_at(policy, "/rules");
    if rules.len() > POLICY_RULES_MAX {
        problems.too_long(&format!("{at}.rules"), POLICY_RULES_MAX, "items");
    }
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}.rules[{index}]");
        let action = str_at(rule, "/action");
        let per_index = spec.get("backoffLimitPerIndex").is_some();
        if !actions.contains(&action) {
            problems.not_supported(&format!("{at}.action"), action, &actions);
        } else if action == "FailIndex" && !per_index {
            let text = "requires the backoffLimitPerIndex to be set";
            problems.invalid(&format!("{at}.action"), &action.into(), text);
        }
        let (codes, conditions) = (rule.get("onExitCodes"), list_at(rule, "/onPodConditions"));
        if codes.is_some() && !conditions.is_empty() {
            problems.invalid(
                &at,
                rule,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            );
        } else if codes.is_none() && conditions.is_empty() {
            problems.invalid(
                &at,
                rule,
                "specifying one of OnExitCodes and OnPodConditions is required",
            );
        }
        if let Some(codes) = codes {
            exit_codes(codes, spec, &format!("{at}.onExitCodes"), problems);
        }
    }
}

fn exit_codes(codes: &Value, spec: &Value, at: &str, problems: &mut Problems) {
    let operators = ["In", "NotIn"];
    let operator = str_at(codes, "/operator");
    if !operators.contains(&operator) {
        problems.not_supported(&format!("{at}.operator"), operator, &operators);
    }
    let values = list_at(codes, "/values");
    if values.is_empty() {
        problems.invalid(
            &format!("{at}.values"),
            &codes["values"],
            "at least one value is required",
        );
    }
    if operator == "In" && values.iter().any(|value| *value == 0) {
        let text = "must not be 0 for the In operator";
        problems.invalid(&format!("{at}.values"), &0.into(), text);
    }
    let name = str_at(codes, "/containerName");
    let known = ["/template/spec/containers", "/template/spec/initContainers"]
        .iter()
        .flat_map(|list| list_at(spec, list))
        .any(|container| str_at(container, "/name") == name);
    if !name.is_empty() && !known {
        let text = "must be one of the container or initContainer names in the pod template";
        problems.invalid(&format!("{at}.containerName"), &name.into(), text);
    }
}

fn success_policy(policy: &Value, spec: &Value, at: &str, problems: &mut Problems) {
    let rules = list_at(policy, "/rules");
    if rules.is_empty() {
        problems.required(
            &format!("{at}.rules"),
            "at least one rules must be specified when the successPolicy is specified",
        );
    } else if rules.len() > POLICY_RULES_MAX {
        problems.too_long(&format!("{at}.rules"), POLICY_RULES_MAX, "items");
    }
    let completions = number(spec, "completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}.rules[{index}]");
        let count = number(rule, "succeededCount");
        let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
        if count.is_none() && indexes.is_none() {
            problems.required(
                &at,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut most = completions;
        if let Some(text) = indexes {
            match IndexSet::parse(text, u32::try_from(completions).unwrap_or(0)) {
                Ok(set) => most = i64::from(set.len()),
                Err(error) => {
                    let field = format!("{at}.succeededIndexes");
                    problems.invalid(&field, &text.into(), &error.to_string());
                }
            }
        }
        if count.is_some_and(|count| count < 1 || count > most) {
            let text = format!("must be between 1 and {most}");
            problems.invalid(&format!("{at}.succeededCount"), &rule["succeededCount"], &text);
        }
    }
}

const JOB_IMMUTABLE: &[&str] = &[
    "selector",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
];

pub(in super::super) fn job_update(old: &Value, new: &Value, problems: &mut Problems) {
    let (before, after) = (&old["spec"], &new["spec"]);
    for field in JOB_IMMUTABLE {
        if before.get(field) != after.get(field) {
            problems.invalid(&format!("spec.{field}"), &after[*field], "field is immutable");
        }
    }
    if before.get("completions") != after.get("completions") {
        // An Indexed job may grow and shrink, its parallelism with it.
        let elastic = str_at(after, "/completionMode") == "Indexed"
            && after.get("completions") == after.get("parallelism");
        if !elastic {
            problems.invalid("spec.completions", &after["completions"], "field is immutable");
        }
    }
    // Before a suspended job has started, where its pods go may still be changed.
    let waiting = before["suspend"] == true && old.pointer("/status/startTime").is_none();
    if scheduling_removed(before, waiting) != scheduling_removed(after, waiting) {
        problems.invalid("spec.template", &after["template"], "field is immutable");
    }
}

fn scheduling_removed(spec: &Value, waiting: bool) -> Value {
    let mut template = spec["template"].clone();
    if waiting {
        if let Some(body) = template.get_mut("spec").and_then(Value::as_object_mut) {
            for field in ["affinity", "nodeSelector", "tolerations", "schedulingGates"] {
                body.shift_remove(field);
            }
        }
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("labels");
            metadata.shift_remove("annotations");
        }
    }
    template
}

pub(in super::super) fn cron_job(cron: &Value, problems: &mut Problems) {
    let name = str_at(cron, "/metadata/name");
    if name.len() > CRON_NAME_MAX {
        let text = format!("must be no more than {CRON_NAME_MAX} characters");
        problems.invalid("metadata.name", &name.into(), &text);
    }
    let spec = cron.get("spec").unwrap_or(&Value::Null);
    let schedule = str_at(spec, "/schedule");
    if schedule.is_empty() {
        problems.required("spec.schedule", "");
    } else if schedule.contains("TZ") {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        problems.invalid("spec.schedule", &schedule.into(), text);
    } else if let Err(error) = Schedule::parse(schedule) {
        problems.invalid("spec.schedule", &schedule.into(), &error.to_string());
    }
    if let Some(zone) = spec.get("timeZone").and_then(Value::as_str)
        && time_zone::find(zone).is_none()
    {
        problems.invalid("spec.timeZone", &zone.into(), &format!("unknown time zone {zone}"));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    pod::one_of(spec, "/concurrencyPolicy", "spec", &policies, problems);
    for field in
        ["/startingDeadlineSeconds", "/successfulJobsHistoryLimit", "/failedJobsHistoryLimit"]
    {
        pod::not_negative(spec, field, "spec", problems);
    }
    let template = spec.pointer("/jobTemplate/spec").unwrap_or(&Value::Null);
    job_spec(template, "spec.jobTemplate.spec", problems);
    if template.get("manualSelector") == Some(&Value::Bool(true)) {
        let allowed = ["false"];
        problems.not_supported("spec.jobTemplate.spec.manualSelector", "true", &allowed);
    }
}
