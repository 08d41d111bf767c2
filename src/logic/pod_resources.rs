//! What a pod asks for altogether, by the names of resources.
//!
//! A pod needs at once: its containers and sidecars, or one init container beside the
//! sidecars that were started before it; whichever is more.
//! Source: `component-helpers/resource/helpers.go`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::quantity::Quantity;

/// Amounts by the resource's name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Which of the two a container says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

fn read(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let parsed = entries.map(|(name, amount)| {
        let amount = amount.as_str().and_then(Quantity::parse)?;
        Some((name.clone(), amount))
    });
    parsed.flatten().collect()
}

/// What one container, or a claim, says in `resources`.
pub fn amounts(container: &Value, side: Side) -> Amounts {
    let side = match side {
        Side::Requests => "requests",
        Side::Limits => "limits",
    };
    read(container.get("resources").and_then(|resources| resources.get(side)))
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let own = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *own = own.plus(*amount);
    }
}

fn at_least(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = sum.entry(name.clone()).or_insert(*amount);
        *own = (*own).max(*amount);
    }
}

fn list<'v>(spec: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    spec.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// The sum over a pod's containers.
pub fn of_containers(spec: &Value, side: Side) -> Amounts {
    let (mut sum, mut sidecars, mut most) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in list(spec, "containers") {
        add(&mut sum, &amounts(container, side));
    }
    for init in list(spec, "initContainers") {
        let own = amounts(init, side);
        if init["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            at_least(&mut most, &sidecars);
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &own);
            at_least(&mut most, &beside);
        }
    }
    at_least(&mut sum, &most);
    sum
}

/// The same with what running the pod itself costs.
pub fn of_pod(spec: &Value, side: Side) -> Amounts {
    let mut sum = of_containers(spec, side);
    let mut overhead = read(spec.get("overhead"));
    if side == Side::Limits {
        // Nothing becomes limited by its overhead alone.
        overhead.retain(|name, _| sum.contains_key(name));
    }
    add(&mut sum, &overhead);
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_count_by_their_most_and_sidecars_with_the_rest() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let spec = json!({
            "initContainers": [
                {"name": "first", "resources": cpu("2")},
                {"name": "side", "restartPolicy": "Always", "resources": cpu("500m")},
                {"name": "last", "resources": cpu("1800m")},
            ],
            "containers": [{"name": "a", "resources": cpu("1")}, {"name": "b"}],
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        });
        let of = |amounts: &Amounts, name: &str| amounts.get(name).map(ToString::to_string);
        let sum = of_containers(&spec, Side::Requests);
        assert_eq!(of(&sum, "cpu").as_deref(), Some("2300m"));
        let sum = of_pod(&spec, Side::Requests);
        assert_eq!(of(&sum, "cpu").as_deref(), Some("2400m"));
        assert_eq!(of(&sum, "memory").as_deref(), Some("1Mi"));
        assert!(of_pod(&spec, Side::Limits).is_empty());
    }
}
