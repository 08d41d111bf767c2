//! Whether labels match a `LabelSelector`, and its text form for a list.
//!
//! Invariant: as in Kubernetes an empty selector matches everything and an absent one
//! nothing; a malformed requirement matches nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

/// Whether the labels (absent ones are empty) match.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = Labels::new();
    let labels = labels.unwrap_or(&empty);
    let equal = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    equal.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|term| {
            let values = term.values.as_deref().unwrap_or_default();
            requirement(&term.operator, values, labels.get(&term.key))
        })
}

/// One requirement on one value; also the form of node affinity.
pub(crate) fn requirement(operator: &str, values: &[String], held: Option<&String>) -> bool {
    match operator {
        "In" => held.is_some_and(|held| values.contains(held)),
        "NotIn" => held.is_none_or(|held| !values.contains(held)),
        "Exists" => held.is_some(),
        "DoesNotExist" => held.is_none(),
        "Gt" | "Lt" => {
            let held = held.and_then(|held| held.parse::<i64>().ok());
            let bound = values.first().and_then(|value| value.parse::<i64>().ok());
            let (Some(held), Some(bound)) = (held, bound) else { return false };
            if operator == "Gt" { held > bound } else { held < bound }
        }
        _ => false,
    }
}

/// Whether a plain map (a Service's selector) matches.
pub fn map_matches(selector: &Labels, labels: Option<&Labels>) -> bool {
    let held = |key: &String| labels.and_then(|labels| labels.get(key));
    selector.iter().all(|(key, value)| held(key) == Some(value))
}

/// The selector as a list's `labelSelector` parameter.
pub fn to_query(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten();
    let mut terms: Vec<String> = equal.map(|(key, value)| format!("{key}={value}")).collect();
    for term in selector.match_expressions.iter().flatten() {
        let values = term.values.as_deref().unwrap_or_default().join(",");
        terms.push(match term.operator.as_str() {
            "In" => format!("{} in ({values})", term.key),
            "NotIn" => format!("{} notin ({values})", term.key),
            "DoesNotExist" => format!("!{}", term.key),
            _ => term.key.clone(),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector(value: serde_json::Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let selector = selector(json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]}));
        assert!(matches(&selector, Some(&labels(&[("app", "web"), ("tier", "a")]))));
        assert!(!matches(&selector, Some(&labels(&[("app", "web"), ("tier", "c")]))));
        assert!(!matches(&selector, Some(&labels(&[("app", "web"), ("tier", "a"), ("old", "")]))));
        assert!(!matches(&selector, None));
        assert_eq!(to_query(&selector), "app=web,tier in (a,b),!old");
    }

    #[test]
    fn numbers_compare_as_numbers() {
        assert!(requirement("Gt", &["9".into()], Some(&"10".into())));
        assert!(!requirement("Lt", &["9".into()], Some(&"10".into())));
        assert!(!requirement("Gt", &["9".into()], Some(&"many".into())));
    }
}
