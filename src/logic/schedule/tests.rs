//! Placement: spreading, room, messages, and random clusters.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node(name: &str, center: &str, cpu: &str) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {CENTER_LABEL: center}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}}))
        .unwrap(),
    )
}

fn pod(owner: &str, cpu: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
             "controller": true}]},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
    .unwrap()
}

fn two_centers() -> Picture {
    Picture::new([
        node("a1", "a", "4"),
        node("a2", "a", "4"),
        node("b1", "b", "4"),
        node("b2", "b", "4"),
    ])
}

#[test]
fn replicas_spread_over_centers_and_then_over_nodes() {
    let mut picture = two_centers();
    let places: Vec<String> = (0..4).map(|_| picture.place(&pod("web", "100m")).unwrap()).collect();
    assert_eq!(places, ["a1", "b1", "a2", "b2"]);
}

#[test]
fn another_owner_goes_where_most_is_left() {
    let mut picture = two_centers();
    picture.occupy(&pod("db", "3"), "a1");
    picture.occupy(&pod("db", "2"), "a2");
    picture.occupy(&pod("db", "1"), "b1");
    assert_eq!(picture.place(&pod("web", "100m")).unwrap(), "b2");
}

#[test]
fn leaving_and_ended_pods_do_not_push_their_successors_away() {
    let mut picture = Picture::new([node("a1", "a", "4"), node("b1", "b", "4")]);
    let mut leaving = pod("web", "100m");
    leaving.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    picture.occupy(&leaving, "a1");
    let mut ended = pod("web", "4");
    ended.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    picture.occupy(&ended, "a1");
    picture.occupy(&pod("web", "100m"), "b1");
    assert_eq!(picture.place(&pod("web", "100m")).unwrap(), "a1");
}

#[test]
fn the_message_is_kubernetes_own() {
    let mut nodes = vec![node("a1", "a", "1"), node("a2", "a", "1")];
    let mut cordoned = (*node("a3", "a", "4")).clone();
    cordoned.spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
    nodes.push(Arc::new(cordoned));
    let refused = Picture::new(nodes).place(&pod("web", "2")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu."
    );
    let none = Picture::new([]).place(&pod("web", "2")).unwrap_err();
    assert_eq!(none.to_string(), "no nodes available to schedule pods");
}

#[test]
fn a_host_port_is_given_once_per_node() {
    let mut picture = Picture::new([node("a1", "a", "4"), node("a2", "a", "4")]);
    let mut front = pod("front", "0");
    front.spec.as_mut().unwrap().containers[0].ports =
        serde_json::from_value(json!([{"containerPort": 80, "hostPort": 80}])).unwrap();
    assert_eq!(picture.place(&front).unwrap(), "a1");
    assert_eq!(picture.place(&front).unwrap(), "a2");
    let refused = picture.place(&front).unwrap_err();
    assert!(refused.to_string().contains("2 node(s) didn't have free ports"), "{refused}");
}

proptest! {
    #[test]
    fn no_node_is_overfilled_and_replicas_stay_balanced(
        sizes in prop::collection::vec(1_i64..6, 1..7),
        pods in prop::collection::vec((0_u8..3, 0_i64..1_500), 1..40),
    ) {
        let nodes: Vec<_> = sizes.iter().enumerate()
            .map(|(at, cores)| node(&format!("n{at}"), ["a", "b", "c"][at % 3], &cores.to_string()))
            .collect();
        let mut picture = Picture::new(nodes.clone());
        for (owner, milli) in pods {
            let _ = picture.place(&pod(&format!("o{owner}"), &format!("{milli}m")));
        }
        for room in &picture.rooms {
            prop_assert!(room.load.used.cpu_milli <= room.total.cpu_milli);
        }
        // With room for everybody, centers differ by one replica at the most.
        let mut roomy = Picture::new((0..6).map(|at| node(&format!("n{at}"), ["a", "b", "c"][at % 3], "64")));
        for _ in 0..sizes.len() * 3 + 1 {
            roomy.place(&pod("web", "10m")).unwrap();
        }
        let counts: Vec<i64> = roomy.owners.values().flatten().copied().collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        let on_nodes: Vec<i64> = roomy.rooms.iter().map(|room| room.load.pods).collect();
        prop_assert!(on_nodes.iter().max().unwrap() - on_nodes.iter().min().unwrap() <= 1);
    }
}

#[test]
fn every_shortage_is_named_as_kubernetes_does() {
    let mut picture =
        Picture::new([node("a1", "a", "4"), node("b1", "b", "1"), node("c1", "c", "1")]);
    let mut large = pod("web", "2");
    large.spec.as_mut().unwrap().containers[0].resources =
        serde_json::from_value(json!({"requests": {"cpu": "2", "memory": "3Gi"}})).unwrap();
    picture.occupy(&large, "a1");
    let refused = picture.place(&large).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient cpu."
    );
    let mut both = large.clone();
    both.spec.as_mut().unwrap().containers[0].resources =
        serde_json::from_value(json!({"requests": {"cpu": "8", "memory": "30Gi"}})).unwrap();
    assert_eq!(
        picture.place(&both).unwrap_err().to_string(),
        "0/3 nodes are available: 3 Insufficient cpu, 3 Insufficient memory."
    );
}
