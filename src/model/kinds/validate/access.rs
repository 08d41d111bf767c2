//! Roles and bindings.
//!
//! Source: `pkg/apis/rbac/validation/validation.go`.

use serde_json::Value;

use super::super::Problems;
use super::{list_at, str_at};
use crate::model::rbac::GROUP;

pub(in super::super) fn role(role: &Value, problems: &mut Problems) {
    rules(role, true, problems);
}

pub(in super::super) fn cluster_role(role: &Value, problems: &mut Problems) {
    rules(role, false, problems);
    let aggregated = role.get("aggregationRule").filter(|rule| !rule.is_null());
    if aggregated.is_some_and(|rule| list_at(rule, "/clusterRoleSelectors").is_empty()) {
        let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        problems.required("aggregationRule.clusterRoleSelectors", text);
    }
}

fn rules(role: &Value, namespaced: bool, problems: &mut Problems) {
    for (index, rule) in list_at(role, "/rules").iter().enumerate() {
        let at = format!("rules[{index}]");
        let empty = |field: &str| list_at(rule, &format!("/{field}")).is_empty();
        if empty("verbs") {
            problems.required(&format!("{at}.verbs"), "verbs must contain at least one value");
        }
        if !empty("nonResourceURLs") {
            let field = format!("{at}.nonResourceURLs");
            let value = rule["nonResourceURLs"].clone();
            if namespaced {
                let text = "namespaced rules cannot apply to non-resource URLs";
                problems.invalid(&field, &value, text);
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                let text = "rules cannot apply to both regular resources and non-resource URLs";
                problems.invalid(&field, &value, text);
            }
            continue;
        }
        if empty("apiGroups") {
            let text = "resource rules must supply at least one api group";
            problems.required(&format!("{at}.apiGroups"), text);
        }
        if empty("resources") {
            let text = "resource rules must supply at least one resource";
            problems.required(&format!("{at}.resources"), text);
        }
    }
}

pub(in super::super) fn role_binding(binding: &Value, problems: &mut Problems) {
    check_binding(binding, &["Role", "ClusterRole"], problems);
}

pub(in super::super) fn cluster_binding(binding: &Value, problems: &mut Problems) {
    check_binding(binding, &["ClusterRole"], problems);
}

fn check_binding(binding: &Value, kinds: &[&str], problems: &mut Problems) {
    let group = str_at(binding, "/roleRef/apiGroup");
    if group != GROUP {
        problems.not_supported("roleRef.apiGroup", group, &[GROUP]);
    }
    let kind = str_at(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        problems.not_supported("roleRef.kind", kind, kinds);
    }
    let name = str_at(binding, "/roleRef/name");
    if name.is_empty() {
        problems.required("roleRef.name", "");
    } else if !is_path_segment(name) {
        problems.invalid("roleRef.name", &name.into(), "may not contain '/' or '%'");
    }
    for (index, subject) in list_at(binding, "/subjects").iter().enumerate() {
        check_subject(subject, &format!("subjects[{index}]"), kinds.len() > 1, problems);
    }
}

fn check_subject(subject: &Value, at: &str, in_namespace: bool, problems: &mut Problems) {
    if str_at(subject, "/name").is_empty() {
        problems.required(&format!("{at}.name"), "");
    }
    let group = str_at(subject, "/apiGroup");
    let field = format!("{at}.apiGroup");
    match str_at(subject, "/kind") {
        "ServiceAccount" => {
            if !group.is_empty() {
                problems.not_supported(&field, group, &[""]);
            }
            if !in_namespace && str_at(subject, "/namespace").is_empty() {
                problems.required(&format!("{at}.namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                problems.not_supported(&field, group, &[GROUP]);
            }
        }
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            problems.not_supported(&format!("{at}.kind"), other, &known);
        }
    }
}

pub(in super::super) fn binding_update(old: &Value, new: &Value, problems: &mut Problems) {
    if old["roleRef"] != new["roleRef"] {
        problems.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
    }
}

/// What may stand between two slashes of a path.
pub(super) fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}
