//! When a pod must leave a node because of the node's `NoExecute` taints.
//!
//! Source: Kubernetes' taint manager. Invariant: a pod that bears every taint for ever
//! stays; one that bears each of them for a time goes when the shortest is over; one that
//! does not bear one of them goes at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeCondition, Taint, Toleration};

use crate::logic::schedule_filter::tolerates;

/// How long a pod may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    Forever,
    /// From the moment when the taint was seen.
    For(Duration),
}

/// Judges the taints that have the effect `NoExecute`.
pub fn stay<'a>(taints: impl Iterator<Item = &'a Taint>, tolerations: &[Toleration]) -> Stay {
    let mut shortest: Option<Duration> = None;
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        let bearing = tolerations.iter().filter(|one| tolerates(std::slice::from_ref(one), taint));
        let times: Vec<Option<i64>> = bearing.map(|one| one.toleration_seconds).collect();
        if times.is_empty() {
            return Stay::For(Duration::ZERO);
        }
        for seconds in times.into_iter().flatten() {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            shortest = Some(shortest.map_or(time, |held| held.min(time)));
        }
    }
    shortest.map_or(Stay::Forever, Stay::For)
}

/// Conditions of a node that keep new pods away while they hold.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

/// What a cordoned node is tainted with.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// The node's taints as its conditions and a cordon want them; others stay as they are.
pub fn by_conditions(conditions: &[NodeCondition], cordoned: bool, taints: &[Taint]) -> Vec<Taint> {
    let holds = |kind: &str| {
        conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let reasons = PRESSURES.iter().map(|(condition, key)| (holds(condition), *key));
    let reasons: Vec<(bool, &str)> = reasons.chain([(cordoned, CORDONED)]).collect();
    let wanted = |key: &str| reasons.iter().find(|(_, own)| *own == key).map(|(holds, _)| *holds);
    let kept = taints.iter().filter(|taint| wanted(&taint.key).unwrap_or(true));
    let mut all: Vec<Taint> = kept.cloned().collect();
    for (holds, key) in reasons {
        if holds && !all.iter().any(|taint| taint.key == key) {
            let (key, effect) = (key.to_owned(), "NoSchedule".to_owned());
            all.push(Taint { key, effect, ..Taint::default() });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taint(key: &str, effect: &str) -> Taint {
        Taint { key: key.into(), effect: effect.into(), ..Taint::default() }
    }

    fn bears(key: &str, seconds: Option<i64>) -> Toleration {
        let mut one: Toleration =
            serde_json::from_value(json!({"key": key, "operator": "Exists"})).unwrap();
        one.toleration_seconds = seconds;
        one
    }

    #[test]
    fn the_shortest_time_of_all_taints_counts() {
        let (a, b) = (taint("a", "NoExecute"), taint("b", "NoExecute"));
        let of = |taints: &[Taint], tolerations: &[Toleration]| stay(taints.iter(), tolerations);
        let seconds = |count| Stay::For(Duration::from_secs(count));
        assert_eq!(of(&[], &[]), Stay::Forever);
        assert_eq!(of(&[taint("a", "NoSchedule")], &[]), Stay::Forever);
        assert_eq!(of(std::slice::from_ref(&a), &[]), seconds(0));
        assert_eq!(of(std::slice::from_ref(&a), &[bears("a", None)]), Stay::Forever);
        assert_eq!(of(std::slice::from_ref(&a), &[bears("a", Some(30))]), seconds(30));
        let both = [bears("a", Some(30)), bears("b", Some(5))];
        assert_eq!(of(&[a.clone(), b.clone()], &both), seconds(5));
        assert_eq!(of(&[a.clone(), b], &both[..1]), seconds(0));
        assert_eq!(of(&[a], &[bears("a", Some(-1))]), seconds(0));
    }

    #[test]
    fn a_node_that_runs_out_is_tainted_for_as_long_as_it_says_so() {
        let condition = |kind: &str, status: &str| NodeCondition {
            type_: kind.into(),
            status: status.into(),
            ..NodeCondition::default()
        };
        let own = Taint { key: "mine".into(), effect: "NoExecute".into(), ..Taint::default() };
        let low = [condition("MemoryPressure", "True"), condition("DiskPressure", "False")];
        let once = by_conditions(&low, false, std::slice::from_ref(&own));
        let keys: Vec<&str> = once.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["mine", "node.kubernetes.io/memory-pressure"]);
        assert_eq!(by_conditions(&low, false, &once), once);
        let high = [condition("MemoryPressure", "False")];
        assert_eq!(by_conditions(&high, false, &once), std::slice::from_ref(&own));
        let cordoned = by_conditions(&high, true, std::slice::from_ref(&own));
        assert_eq!(
            (cordoned[1].key.as_str(), cordoned[1].effect.as_str()),
            (CORDONED, "NoSchedule")
        );
        assert_eq!(by_conditions(&high, false, &cordoned), [own]);
    }
}
