//! Nodes that leave: what is refused, what a crash between two steps means, who comes after.

use serde_json::{Value, json};

use super::join_tests::Bench;
use super::node_service::Wish;
use crate::base::ids::MemberId;
use crate::client::{ObjectApi, ResourceRef};
use crate::model::cluster_record::NodeRecord;
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::model::node_config::Role;
use crate::model::node_list::Stage;
use crate::store::Kv;

const FORCE: Wish = Wish::Operator { force: true };
const GENTLE: Wish = Wish::Operator { force: false };
const NODES: ResourceRef = ResourceRef::of::<k8s_openapi::api::core::v1::Node>(false);
const PODS: ResourceRef = ResourceRef::of::<k8s_openapi::api::core::v1::Pod>(true);

/// A cluster of a1 and a2, a2 with a pod and an image.
async fn with_second() -> (Bench, String) {
    let bench = Bench::new().await;
    let token = bench.token(Role::Control).await;
    let request = bench.request(&token, "a2", "10.77.0.12", "k2");
    bench.service.handle(&request).await.expect("admitted");
    bench.service.joined("a2").await.expect("counted in");
    settle(&bench).await;
    let key = record(&bench, "a2").await.expect("is recorded").key_fingerprint;
    (bench, key)
}

/// What a node makes in the cluster by being there.
async fn settle(bench: &Bench) {
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a2"},
                      "status": ready});
    bench.api.create(&NODES, None, &node).await.expect("a Node");
    for (name, on) in [("lost", "a2"), ("kept", "a1")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": on},
                         "metadata": {"name": name, "namespace": "default"}});
        // The second time only the lost one is new.
        let _ = bench.api.create(&PODS, Some("default"), &pod).await;
    }
    let held = "/holdfast/registry/presence/a2/sha256:\
                aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let success = vec![Op::put(held, "1")];
    bench.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("writes");
}

async fn record(bench: &Bench, name: &str) -> Option<NodeRecord> {
    let key = format!("/holdfast/nodes/{name}");
    let found = bench.kv.range(RangeRequest::key(key)).await.expect("reads");
    found.kvs.first().map(|kv| serde_json::from_slice(&kv.value).expect("a record"))
}

async fn keys(bench: &Bench, prefix: &str) -> usize {
    bench.kv.range(RangeRequest::prefix(prefix.to_owned())).await.expect("reads").kvs.len()
}

async fn refused(bench: &Bench, name: &str, wish: Wish) -> (String, String) {
    let status = bench.nodes.remove(name, wish).await.expect_err("refused").status();
    (status.reason, status.message)
}

fn silence(bench: &Bench, members: &[u64]) {
    *bench.membership.silent.lock().expect("lock") =
        members.iter().map(|member| MemberId(*member)).collect();
}

async fn node_goes_silent(bench: &Bench) {
    silence(bench, &[2]);
    let gone = bench.api.delete(&NODES, None, "a2", &Default::default()).await;
    gone.expect("deletes");
}

async fn assert_nothing_left(bench: &Bench) {
    assert_eq!(record(bench, "a2").await, None);
    assert_eq!(bench.api.all("nodes"), Vec::<Value>::new());
    let pods = bench.api.all("pods");
    assert!(pods.len() == 1 && pods[0]["metadata"]["name"] == "kept", "{pods:?}");
    assert_eq!(keys(bench, "/holdfast/registry/presence/a2/").await, 0);
    assert_eq!(*bench.membership.removed.lock().expect("lock"), [MemberId(2)]);
}

/// A third voter, so that one may go.
async fn add_third(bench: &Bench) {
    let token = bench.token(Role::Control).await;
    let request = bench.request(&token, "a4", "10.77.0.14", "k4");
    bench.service.handle(&request).await.expect("admitted");
    bench.service.joined("a4").await.expect("counted in");
}

#[tokio::test]
async fn a_removed_node_leaves_nothing_and_its_name_joins_under_a_new_id() {
    let (bench, key) = with_second().await;
    add_third(&bench).await;
    let taken = bench.request(&bench.token(Role::Control).await, "a2", "10.77.0.12", "new");
    let refusal = bench.service.handle(&taken).await.expect_err("taken").status();
    assert!(refusal.message.contains("holdfast node remove a2"), "{}", refusal.message);
    let done = bench.nodes.remove("a2", FORCE).await.expect("removes");
    assert_eq!((done.members.as_slice(), done.pods), ([MemberId(2)].as_slice(), 1));
    assert_eq!(done.left.map(|left| (left.voters, left.tolerates)), Some((2, 0)));
    assert_nothing_left(&bench).await;
    // The old key opens nothing, and a second command finds nothing to do.
    assert!(bench.nodes.removed(&key).await.expect("asks").is_some());
    assert!(bench.nodes.remove("a2", GENTLE).await.expect("was done").already_done);
    let token = bench.token(Role::Control).await;
    let same_key = bench.request(&token, "a2", "10.77.0.12", "k2");
    assert_eq!(bench.refusal(&same_key).await, "NodeRemoved");
    let answer = bench.service.handle(&taken).await.expect("joins with the token it had");
    assert_eq!(answer.member_id, Some(MemberId(4)));
    assert_eq!(answer.pod_range.to_string(), "10.244.1.0/24");
    bench.service.joined("a2").await.expect("counted in");
    // The predecessor's farewell, said late, does its successor no harm.
    assert!(bench.nodes.leave("a2", &key).await.expect("is heard").already_done);
    assert_eq!(record(&bench, "a2").await.expect("stays").member_id, Some(MemberId(4)));
}

#[tokio::test]
async fn a_living_node_stays_unless_forced_and_a_majority_is_never_waived() {
    let (bench, _) = with_second().await;
    add_third(&bench).await;
    let (reason, message) = refused(&bench, "a2", GENTLE).await;
    assert_eq!(reason, "NodeAlive");
    assert!(message.contains("Ready") && message.contains("holdfast reset"), "{message}");
    let (reason, message) = refused(&bench, "a7", FORCE).await;
    assert_eq!(reason, "NodeAbsent");
    assert!(message.contains("a1, a2, a4"), "{message}");
    // a4 is dead: without a2 only one of two voters would answer.
    silence(&bench, &[3]);
    let (reason, message) = refused(&bench, "a2", FORCE).await;
    assert_eq!(reason, "LosesMajority");
    assert!(message.contains("a4 is silent") && message.contains("a1 answers"), "{message}");
    silence(&bench, &[2, 3]);
    assert_eq!(refused(&bench, "a2", FORCE).await.0, "NoMajority");
    assert_eq!(record(&bench, "a2").await.map(|record| record.leaving), Some(false));
    assert!(bench.membership.removed.lock().expect("lock").is_empty(), "nothing was done");
    silence(&bench, &[]);
    assert_eq!(refused(&bench, "a1", FORCE).await.0, "OwnNode");
    for name in ["a2", "a4"] {
        bench.nodes.remove(name, FORCE).await.expect("removes");
    }
    assert_eq!(refused(&bench, "a1", FORCE).await.0, "LastControlNode");
}

#[tokio::test]
async fn a_dead_node_goes_without_force() {
    let (bench, _) = with_second().await;
    add_third(&bench).await;
    node_goes_silent(&bench).await;
    bench.nodes.remove("a2", GENTLE).await.expect("removes");
    assert_nothing_left(&bench).await;
}

#[tokio::test]
async fn a_removal_that_stopped_half_way_is_finished_by_the_same_command() {
    // The group does not agree at first.
    let (bench, key) = with_second().await;
    add_third(&bench).await;
    *bench.membership.failures.lock().expect("lock") = 1;
    let (reason, message) = refused(&bench, "a2", FORCE).await;
    assert!(reason == "Unfinished" && message.contains("the same command"), "{message}");
    // On its way out: it may not come back, and nobody may take its name.
    assert!(bench.nodes.removed(&key).await.expect("asks").is_some());
    let joined = bench.service.joined("a2").await.expect_err("leaving").status();
    assert_eq!(joined.reason, "NodeLeaving");
    let successor = bench.request(&bench.token(Role::Control).await, "a2", "10.77.0.12", "new");
    assert_eq!(bench.refusal(&successor).await, "NodeLeaving");
    let list = bench.nodes.list().await.expect("lists").nodes;
    assert_eq!(
        list.iter().find(|node| node.name == "a2").map(|node| node.stage),
        Some(Stage::Leaving)
    );
    // The API is away at the next try, after the member has left.
    bench.api.set_reachable(false);
    assert!(bench.nodes.remove("a2", GENTLE).await.is_err());
    bench.api.set_reachable(true);
    // What began is finished without --force, though the node still looks alive.
    bench.nodes.remove("a2", GENTLE).await.expect("finishes");
    assert_nothing_left(&bench).await;
}

#[tokio::test]
async fn a_removal_cut_off_after_any_write_is_finished_by_the_same_command() {
    let mut cuts = 0;
    loop {
        let (bench, _) = with_second().await;
        add_third(&bench).await;
        *bench.kv.writes_left.lock().expect("lock") = Some(cuts);
        let cut = bench.nodes.remove("a2", FORCE).await.is_err();
        *bench.kv.writes_left.lock().expect("lock") = None;
        // Before the first write nothing has begun, so the node still looks alive.
        let wish = if cuts == 0 { FORCE } else { GENTLE };
        bench.nodes.remove("a2", wish).await.expect("finishes");
        assert_nothing_left(&bench).await;
        let request = bench.request(&bench.token(Role::Control).await, "a2", "10.77.0.12", "new");
        let successor = bench.service.handle(&request).await.expect("joins");
        assert_eq!(successor.member_id, Some(MemberId(4)), "after {cuts} writes");
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 3, "the mark, the images and the record are writes of their own");
}

#[tokio::test]
async fn a_member_that_is_counted_in_during_its_removal_is_taken_out_again() {
    let (bench, _) = with_second().await;
    let token = bench.token(Role::Control).await;
    let request = bench.request(&token, "a4", "10.77.0.14", "k4");
    bench.service.handle(&request).await.expect("admitted");
    // Its removal marks the record at the very moment in which the group takes it in.
    *bench.membership.on_add.lock().expect("lock") = Some((bench.kv.clone(), "a4".into()));
    let refused = bench.service.joined("a4").await.expect_err("is leaving").status();
    assert_eq!(refused.reason, "NodeLeaving");
    assert_eq!(*bench.membership.removed.lock().expect("lock"), [MemberId(3)]);
}

#[tokio::test]
async fn a_node_leaves_by_its_own_wish_only_with_its_own_key() {
    let (bench, key) = with_second().await;
    add_third(&bench).await;
    let stranger = bench.nodes.leave("a2", "another key").await.expect_err("refused");
    assert_eq!(stranger.status().reason, "Forbidden");
    bench.nodes.leave("a2", &key).await.expect("leaves, though it is alive");
    assert_nothing_left(&bench).await;
    assert!(bench.nodes.leave("a2", &key).await.expect("again").already_done);
}

#[tokio::test]
async fn what_only_the_group_or_the_api_knows_is_listed_and_can_be_removed() {
    let (bench, _) = with_second().await;
    add_third(&bench).await;
    let success = vec![Op::delete("/holdfast/nodes/a2")];
    bench.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("deletes");
    let list = bench.nodes.list().await.expect("lists").nodes;
    let stray = list.iter().find(|node| node.name == "a2").expect("is listed");
    assert_eq!((stray.stage, stray.member_id), (Stage::Stray, Some(MemberId(2))));
    bench.nodes.remove("a2", FORCE).await.expect("removes");
    assert_nothing_left(&bench).await;
}

#[tokio::test]
async fn a_worker_goes_without_touching_the_group() {
    let bench = Bench::new().await;
    let token = bench.token(Role::Worker).await;
    let request = bench.request(&token, "a3", "10.77.0.13", "k3");
    bench.service.handle(&request).await.expect("admitted");
    bench.service.joined("a3").await.expect("counted in");
    let done = bench.nodes.remove("a3", GENTLE).await.expect("removes");
    assert_eq!(done.members, []);
    assert_eq!(record(&bench, "a3").await, None);
    assert!(bench.membership.removed.lock().expect("lock").is_empty());
}
