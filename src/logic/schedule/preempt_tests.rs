//! Who goes, and for whom nobody does.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node(name: &str, cpu: i64) -> Arc<Node> {
    let value = json!({"metadata": {"name": name}, "spec": {}, "status": {
        "allocatable": {"cpu": format!("{cpu}m"), "memory": "1Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

/// `started` is a second of the first minute of the year.
fn pod(name: &str, priority: i32, cpu: i64, started: u8) -> Arc<Pod> {
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}}}]},
        "status": {"phase": "Running",
            "startTime": format!("2026-01-01T00:00:{:02}Z", started % 60)},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn budget(app: &str, allowed: i64) -> Budget {
    let selector = LabelSelector::parse(&format!("app={app}")).unwrap();
    Budget { namespace: "default".into(), selector, allowed, noted: Vec::new() }
}

struct World {
    picture: Picture,
    pods: Vec<(Arc<Pod>, &'static str)>,
}

fn world(nodes: &[Arc<Node>], pods: Vec<(Arc<Pod>, &'static str)>) -> World {
    let mut picture = Picture::new(nodes.iter().cloned());
    for (pod, node) in &pods {
        picture.occupy(pod, node);
    }
    World { picture, pods }
}

impl World {
    fn preempt(&self, pod: &Pod, budgets: &[Budget]) -> Result<(String, Vec<String>), String> {
        let on = |name: &str| {
            let here = self.pods.iter().filter(|(_, node)| *node == name);
            here.map(|(pod, _)| Arc::clone(pod)).collect()
        };
        let found = self.picture.preempt(pod, on, budgets, |_| Ok(()));
        let found = found.map_err(|why| why.to_string())?;
        let names = found.victims.iter().map(|pod| pod.metadata.name.clone().unwrap());
        Ok((found.node, names.collect()))
    }
}

#[test]
fn only_as_many_go_as_must_and_the_least_important_first() {
    let all = vec![
        (pod("low", 1, 400, 0), "n"),
        (pod("lower", 0, 400, 0), "n"),
        (pod("high", 9, 200, 0), "n"),
    ];
    let here = world(&[node("n", 1_000)], all);
    let found = here.preempt(&pod("new", 5, 300, 0), &[]).unwrap();
    assert_eq!(found, ("n".to_owned(), vec!["lower".to_owned()]));
    let found = here.preempt(&pod("new", 5, 700, 0), &[]).unwrap();
    assert_eq!(found.1, ["low", "lower"]);
    let refused = here.preempt(&pod("new", 5, 900, 0), &[]).unwrap_err();
    assert_eq!(refused, "0/1 nodes are available: 1 No preemption victims found for incoming pod.");
}

#[test]
fn nodes_are_weighed_as_kubernetes_weighs_them() {
    let nodes = [node("a", 1_000), node("b", 1_000)];
    let of = |a: Vec<Arc<Pod>>, b: Vec<Arc<Pod>>, budgets: &[Budget]| {
        let on = |pods: Vec<Arc<Pod>>, node| pods.into_iter().map(move |pod| (pod, node));
        let all = on(a, "a").chain(on(b, "b")).collect();
        world(&nodes, all).preempt(&pod("new", 100, 1_000, 0), budgets).unwrap().0
    };
    // A budget that would break weighs more than anything else.
    let (one, other) = (pod("x", 1, 1_000, 0), pod("y", 50, 1_000, 0));
    assert_eq!(of(vec![one.clone()], vec![other.clone()], &[]), "a");
    assert_eq!(of(vec![one.clone()], vec![other.clone()], &[budget("x", 0)]), "b");
    assert_eq!(of(vec![one], vec![other], &[budget("x", 1)]), "a");
    // Then the highest priority, then the sum, which also counts heads.
    let pair = vec![pod("x", 1, 500, 0), pod("y", 2, 500, 0)];
    assert_eq!(of(pair.clone(), vec![pod("z", 3, 1_000, 0)], &[]), "a");
    assert_eq!(of(pair.clone(), vec![pod("z", 2, 1_000, 0)], &[]), "b");
    // Then who began last, then the name.
    assert_eq!(of(vec![pod("x", 1, 1_000, 5)], vec![pod("y", 1, 1_000, 9)], &[]), "b");
    assert_eq!(of(vec![pod("x", 1, 1_000, 5)], vec![pod("y", 1, 1_000, 5)], &[]), "a");
}

#[test]
fn nobody_goes_where_it_would_not_help_or_is_not_wanted() {
    let cordoned = {
        let mut node = (*node("a", 1_000)).clone();
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        Arc::new(node)
    };
    let here = world(&[cordoned, node("b", 100)], vec![(pod("x", 0, 1_000, 0), "a")]);
    assert_eq!(
        here.preempt(&pod("new", 5, 500, 0), &[]).unwrap_err(),
        "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    let mut shy = (*pod("new", 5, 500, 0)).clone();
    shy.spec.as_mut().unwrap().preemption_policy = Some("Never".into());
    assert_eq!(here.preempt(&shy, &[]).unwrap_err(), "not eligible due to preemptionPolicy=Never.");
}

proptest! {
    #[test]
    fn victims_matter_less_and_their_end_is_enough(
        pods in prop::collection::vec((0_i32..5, 1_i64..600, 0_u8..60, 0_usize..3), 0..14),
        priority_of_new in 0_i32..6,
        cpu in 1_i64..1_200,
        allowed in 0_i64..3,
    ) {
        let names = ["a", "b", "c"];
        let nodes: Vec<Arc<Node>> = names.iter().map(|name| node(name, 1_000)).collect();
        let all: Vec<(Arc<Pod>, &'static str)> = pods
            .iter()
            .enumerate()
            .map(|(at, (priority, cpu, started, on))| {
                (pod(&format!("p{at}"), *priority, *cpu, *started), names[*on])
            })
            .collect();
        let here = world(&nodes, all);
        let new = pod("new", priority_of_new, cpu, 0);
        let budgets = [budget("p0", allowed), budget("p1", 0)];
        if let Ok((node, victims)) = here.preempt(&new, &budgets) {
            let is_victim = |pod: &Pod| victims.contains(pod.metadata.name.as_ref().unwrap());
            for (pod, _) in here.pods.iter().filter(|(pod, _)| is_victim(pod)) {
                prop_assert!(priority(pod) < priority_of_new);
            }
            let left: Vec<_> =
                here.pods.iter().filter(|(pod, _)| !is_victim(pod)).cloned().collect();
            let nodes: Vec<_> =
                nodes.into_iter().filter(|one| one.metadata.name == Some(node.clone())).collect();
            prop_assert_eq!(world(&nodes, left).picture.place(&new), Ok(node));
            prop_assert_eq!(here.preempt(&new, &budgets).unwrap().1, victims);
        }
    }
}
