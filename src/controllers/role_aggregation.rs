//! Gathers the rules of cluster roles that say `aggregationRule`, such as `admin`.
//!
//! Invariants: a role that gathers has the rules of all that its selectors match, once
//! each, in the order of their names, and no others; a role without the rule is left alone.

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::logic::selector::LabelSelector;
use crate::model::rbac::Rule;

pub(super) const CLUSTER_ROLES: ResourceRef = ResourceRef::of::<ClusterRole>(false);

/// A cluster role as far as gathering is concerned.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gathering {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    aggregation_rule: Option<Aggregation>,
    #[serde(default)]
    metadata: Labelled,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Labelled {
    labels: Map<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Aggregation {
    cluster_role_selectors: Vec<Value>,
}

/// The rules that a role should have.
fn gather(
    name: &str,
    wanted: &Aggregation,
    all: &[(String, Vec<Rule>, Map<String, Value>)],
) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let selectors = wanted.cluster_role_selectors.iter();
    let selectors: Vec<LabelSelector> =
        selectors.filter_map(|selector| LabelSelector::from_object(selector).ok()).collect();
    for (own, found, labels) in all {
        let meant = selectors.iter().any(|selector| selector.matches_labels(Some(labels)));
        if own == name || !meant {
            continue;
        }
        for rule in found {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[derive(Debug)]
pub(super) struct RoleAggregation {
    api: SharedApi,
    pub(super) roles: Informer<Gathering>,
}

impl RoleAggregation {
    pub(super) fn new(api: &SharedApi) -> Self {
        let roles = Informer::new(api.clone(), CLUSTER_ROLES, ListOptions::default());
        Self { api: api.clone(), roles }
    }
}

#[async_trait]
impl Controller for RoleAggregation {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "role-aggregation"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let roles = self.roles.clone();
        // Any role may be gathered by any that gathers, and those are few.
        vec![Input::new(&self.roles, move |key, _| {
            let gathering = roles.entries().into_iter();
            let gathering = gathering.filter(|(_, role)| role.aggregation_rule.is_some());
            gathering.map(|(key, _)| key).chain([key.clone()]).collect()
        })]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(role) = self.roles.get_key(key) else { return Ok(Requeue::Done) };
        let Some(wanted) = &role.aggregation_rule else { return Ok(Requeue::Done) };
        let mut all: Vec<_> = self
            .roles
            .entries()
            .into_iter()
            .map(|(key, role)| (key.name, role.rules.clone(), role.metadata.labels.clone()))
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let rules = gather(&key.name, wanted, &all);
        if rules == role.rules {
            return Ok(Requeue::Done);
        }
        let patch = json!({"rules": rules});
        let done =
            self.api.patch(&CLUSTER_ROLES, None, &key.name, None, PatchKind::Merge, &patch).await;
        match done {
            Err(error) if error.is_not_found() => Ok(Requeue::Done),
            done => done.act("gather the rules of cluster role", key).map(|_| Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Aggregation, gather};
    use crate::model::rbac::Rule;

    fn labels(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_role_has_what_its_selectors_match_and_nothing_else() {
        let get = Rule::resources(&["get"], &[""], &["pods"]);
        let list = Rule::resources(&["list"], &[""], &["pods"]);
        let all = vec![
            ("a".to_owned(), vec![get.clone(), list.clone()], labels(json!({"to": "view"}))),
            ("b".to_owned(), vec![get.clone()], labels(json!({"to": "view"}))),
            ("c".to_owned(), Rule::all().to_vec(), labels(json!({"to": "admin"}))),
            ("view".to_owned(), Rule::all().to_vec(), labels(json!({"to": "view"}))),
        ];
        let wanted = |selectors: Value| Aggregation {
            cluster_role_selectors: serde_json::from_value(selectors).unwrap(),
        };
        let view = wanted(json!([{"matchLabels": {"to": "view"}}]));
        assert_eq!(gather("view", &view, &all), [get, list]);
        assert!(gather("view", &wanted(json!([{"matchLabels": {"to": "x"}}])), &all).is_empty());
        assert!(gather("view", &wanted(json!([])), &all).is_empty());
        let either = wanted(json!([{"matchLabels": {"to": "x"}}, {"matchExpressions":
            [{"key": "to", "operator": "In", "values": ["admin"]}]}]));
        assert_eq!(gather("view", &either, &all), Rule::all());
    }
}
