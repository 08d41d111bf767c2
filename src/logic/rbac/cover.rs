//! The escalation check: nobody gives away more than he has.
//!
//! A rule is cut into its smallest parts, one verb on one resource, and each part must be
//! covered by one rule of the giver. Source: `pkg/registry/rbac/validation/policy_compact`.

use super::{has, names_url};
use crate::model::rbac::Rule;

/// The parts of `wanted` that `own` does not allow; empty if all are covered.
pub fn not_covered(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(parts);
    parts.filter(|part| !own.iter().any(|rule| covers(rule, part))).collect()
}

/// Cuts a rule into rules of one verb and one resource or path.
fn parts(rule: &Rule) -> Vec<Rule> {
    let mut found = Vec::new();
    let one = |text: &String| vec![text.clone()];
    let names: Vec<Vec<String>> = if rule.resource_names.is_empty() {
        vec![Vec::new()]
    } else {
        rule.resource_names.iter().map(one).collect()
    };
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                found.extend(names.iter().map(|names| Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names: names.clone(),
                    non_resource_urls: Vec::new(),
                }));
            }
        }
        found.extend(rule.non_resource_urls.iter().map(|url| Rule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..Rule::default()
        }));
    }
    found
}

/// Whether one rule allows all that a part allows.
fn covers(own: &Rule, part: &Rule) -> bool {
    let all = |own: &[String], wanted: &[String]| wanted.iter().all(|item| has(own, item));
    if !all(&own.verbs, &part.verbs) {
        return false;
    }
    if part.resources.is_empty() {
        let urls = &own.non_resource_urls;
        return part.non_resource_urls.iter().all(|url| urls.iter().any(|own| names_url(own, url)));
    }
    let names = own.resource_names.is_empty()
        || (!part.resource_names.is_empty()
            && part.resource_names.iter().all(|name| own.resource_names.contains(name)));
    all(&own.api_groups, &part.api_groups)
        && part.resources.iter().all(|resource| covers_resource(&own.resources, resource))
        && names
}

fn covers_resource(own: &[String], resource: &str) -> bool {
    let everywhere = resource.split_once('/').map(|(_, part)| format!("*/{part}"));
    has(own, resource) || everywhere.is_some_and(|everywhere| own.contains(&everywhere))
}
