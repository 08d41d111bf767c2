//! Where daemons belong, and random clusters to the end of their rollouts.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn node(extra: Value) -> Node {
    let mut value = json!({"metadata": {"name": "a1", "labels": {"disk": "ssd"}}, "spec": {}});
    json_patch::merge(&mut value, &extra);
    serde_json::from_value(value).unwrap()
}

fn spec(extra: Value) -> PodSpec {
    let mut value = json!({"spec": {"containers": []}});
    json_patch::merge(&mut value["spec"], &extra);
    with_tolerations(&serde_json::from_value(value).unwrap())
}

fn tainted(key: &str, effect: &str) -> Node {
    node(json!({"spec": {"taints": [{"key": key, "effect": effect}]}}))
}

#[test]
fn daemons_bear_their_nodes_troubles_and_nothing_else() {
    let plain = spec(json!({}));
    let yes = Belongs { start: true, stay: true };
    assert_eq!(belongs(&plain, &node(json!({}))), yes);
    assert_eq!(belongs(&plain, &tainted("node.kubernetes.io/unschedulable", "NoSchedule")), yes);
    assert_eq!(belongs(&plain, &tainted("node.kubernetes.io/unreachable", "NoExecute")), yes);
    let no_start = Belongs { start: false, stay: true };
    assert_eq!(belongs(&plain, &tainted("dedicated", "NoSchedule")), no_start);
    let no = Belongs { start: false, stay: false };
    assert_eq!(belongs(&plain, &tainted("dedicated", "NoExecute")), no);
    assert_eq!(belongs(&spec(json!({"nodeSelector": {"disk": "hdd"}})), &node(json!({}))), no);
    let bearing = spec(json!({"tolerations": [{"operator": "Exists"}]}));
    assert_eq!(belongs(&bearing, &tainted("dedicated", "NoExecute")), yes);
}

#[test]
fn a_pod_is_tied_to_its_node_and_keeps_its_other_wishes() {
    let wish = json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}}});
    for spec in [spec(json!({})), spec(wish)] {
        let tied = bound_to(spec, "a1");
        assert!(selects(&tied, &node(json!({}))));
        assert!(!selects(&tied, &node(json!({"metadata": {"name": "b1"}}))));
        let pod = Pod { spec: Some(tied), ..Pod::default() };
        assert_eq!(target_of(&pod), Some("a1"));
    }
}

const HERE: Belongs = Belongs { start: true, stay: true };

fn daemon(id: usize, updated: bool, available: bool) -> Daemon {
    Daemon { id, updated, ended: false, terminating: false, ready: available, available }
}

fn place(daemons: &[Daemon]) -> Place {
    Place { belongs: HERE, daemons: daemons.to_vec() }
}

#[test]
fn every_node_gets_one_and_keeps_the_oldest() {
    let two = place(&[daemon(0, true, true), daemon(1, true, true)]);
    let away = Place {
        belongs: Belongs { start: false, stay: false },
        daemons: vec![daemon(2, true, true)],
    };
    let kept = Place {
        belongs: Belongs { start: false, stay: true },
        daemons: vec![daemon(3, true, true)],
    };
    let ended = place(&[Daemon { ended: true, ..daemon(4, true, false) }]);
    let steps = plan(&[place(&[]), two, away, kept, ended], Update::OnDelete);
    assert_eq!(steps, Steps { create: vec![0], delete: vec![1, 2], ended: vec![4] });
}

#[test]
fn rolling_counts_what_is_down_already() {
    let update = Update::Rolling { max_unavailable: 1, max_surge: 0 };
    let old = |id| place(&[daemon(id, false, true)]);
    assert_eq!(plan(&[old(0), old(1)], update).delete, [0]);
    let sick_new = place(&[daemon(0, true, false)]);
    assert_eq!(plan(&[sick_new, old(1)], update).delete, Vec::<usize>::new());
    let sick_old = place(&[daemon(0, false, false)]);
    assert_eq!(plan(&[sick_old, old(1)], update).delete, [0]);
}

#[test]
fn surging_puts_the_new_pod_beside_the_old() {
    let update = Update::Rolling { max_unavailable: 0, max_surge: 1 };
    let old = |id| place(&[daemon(id, false, true)]);
    let steps = plan(&[old(0), old(1)], update);
    assert_eq!((steps.create, steps.delete), (vec![0], vec![]));
    let both = |up| place(&[daemon(0, false, true), daemon(2, true, up)]);
    assert_eq!(plan(&[both(false), old(1)], update), Steps::default());
    let steps = plan(&[both(true), old(1)], update);
    assert_eq!((steps.create, steps.delete), (vec![1], vec![0]));
}

proptest! {
    #[test]
    fn a_rollout_stays_in_its_bounds_and_ends(
        pods in prop::collection::vec(prop::collection::vec(any::<[bool; 3]>(), 0..3), 1..7),
        most in 1_usize..3,
        surges in any::<bool>(),
    ) {
        let update = if surges {
            Update::Rolling { max_unavailable: 0, max_surge: most }
        } else {
            Update::Rolling { max_unavailable: most, max_surge: 0 }
        };
        let mut next = 0;
        let mut places: Vec<Place> = pods.iter().map(|pods| {
            let daemons = pods.iter().map(|[updated, up, leaving]| {
                next += 1;
                Daemon { terminating: *leaving, ..daemon(next, *updated, *up) }
            });
            Place { belongs: HERE, daemons: daemons.collect() }
        }).collect();
        for round in 0.. {
            prop_assert!(round < 60, "no end: {places:?}");
            let steps = plan(&places, update);
            let serves = |one: &Daemon| one.available && !one.terminating;
            let served = |places: &[Place]| {
                places.iter().filter(|place| place.daemons.iter().any(serves)).count()
            };
            let before = served(&places);
            let idle = steps == Steps::default();
            for place in &mut places {
                for one in &mut place.daemons {
                    one.terminating |= steps.delete.contains(&one.id);
                }
            }
            let after = served(&places);
            if surges {
                prop_assert_eq!(after, before, "a surge takes nobody's service away");
            } else if after < before {
                prop_assert!(places.len() - after <= most, "{places:?}");
            }
            for at in &steps.create {
                next += 1;
                prop_assert!(places[*at].daemons.iter().all(|one| one.terminating || !one.updated));
                places[*at].daemons.push(daemon(next, true, false));
            }
            let calm = places.iter().all(|place| {
                place.daemons.iter().all(|one| one.available && !one.terminating)
            });
            if idle && calm { break }
            for place in &mut places {
                place.daemons.retain(|one| !one.terminating || steps.delete.contains(&one.id));
                // A new pod is seen while it is not up yet.
                for one in place.daemons.iter_mut().filter(|_| round % 2 == 1) {
                    (one.ready, one.available) = (true, true);
                }
            }
        }
        for place in &places {
            prop_assert!(place.daemons.len() == 1 && place.daemons[0].updated, "{places:?}");
        }
    }
}
