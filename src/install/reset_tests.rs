//! `reset` of a node that is part of a cluster: it leaves first, or changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::apply::{InstallError, NODE_SERVICE, read_config};
use super::join::join;
use super::removal_note::RemovalNote;
use super::reset::reset;
use super::sequence_tests::{Bundle, Cluster, Host, cluster_of_one, join_command};
use super::tokens::{Clock, TokenBook};
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::model::node_config::Role;
use crate::pki::Authority;
use crate::sys::clock;

/// Two nodes, the second one fresh.
async fn two_nodes() -> (Arc<Cluster>, Host, Host, String) {
    let (cluster, first, token) = cluster_of_one().await;
    let host = Host::new(&cluster);
    join(&join_command(&host, &token), &host.tools(Bundle::default(), 0)).await.expect("joins");
    (cluster, first, host, token)
}

#[tokio::test]
async fn a_reset_node_has_left_and_its_name_joins_again_under_a_new_id() {
    let (cluster, first, host, _) = two_nodes().await;
    let report = reset(&host.paths(), &host.reset_tools(false)).await.expect("resets");
    assert_eq!((report.failed, report.advice), (Vec::new(), Vec::new()));
    assert_eq!(report.done.first().map(String::as_str), Some("leave the cluster"));
    assert_eq!(*cluster.membership.removed.lock().expect("lock"), [MemberId(2)]);
    let now: Clock = Arc::new(clock::now);
    let authority = Authority::load(&first.paths().pki()).expect("authority");
    let book = TokenBook::new(Arc::clone(&cluster.kv) as _, authority.fingerprint(), now);
    let token = book.create(Role::Control, None, None).await.expect("token").token;
    join(&join_command(&host, &token), &host.tools(Bundle::default(), 0)).await.expect("joins");
    let config = read_config(&host.paths().node_config()).expect("node.yaml");
    assert_eq!(config.member_id, Some(MemberId(3)));
    assert_eq!(config.pod_range.to_string(), "10.244.1.0/24");
}

/// The server of a node that leaves ends by itself and is started again, to say that it was
/// removed; a reset must not take the moment in between for a stopped service.
#[tokio::test]
async fn a_service_that_waits_to_be_started_again_is_stopped_too() {
    let (_cluster, _first, host, _) = two_nodes().await;
    host.service_dies(NODE_SERVICE);
    let report = reset(&host.paths(), &host.reset_tools(false)).await.expect("resets");
    assert_eq!(report.failed, Vec::<String>::new());
    assert!(!host.service_comes_back());
}

#[tokio::test]
async fn a_reset_that_cannot_leave_changes_nothing_without_force() {
    let (cluster, first, host, token) = two_nodes().await;
    cluster.reachable.store(false, Ordering::SeqCst);
    let error = reset(&host.paths(), &host.reset_tools(false)).await.expect_err("refused");
    let text = chain(&error);
    assert!(text.contains("unplugged") && text.contains("holdfast node remove a2"), "{text}");
    host.assert_node("a2");
    let report = reset(&host.paths(), &host.reset_tools(true)).await.expect("resets");
    assert_eq!(report.failed, Vec::<String>::new());
    assert!(report.advice[0].contains("holdfast node remove a2"), "{:?}", report.advice);
    // The others were not told: the name is taken until they are.
    let error = join(&join_command(&host, &token), &host.tools(Bundle::default(), 0)).await;
    assert!(error.expect_err("taken").to_string().contains("has been used"));
    cluster.reachable.store(true, Ordering::SeqCst);
    *cluster.membership.removed.lock().expect("lock") = vec![MemberId(2)];
    let error = reset(&first.paths(), &first.reset_tools(false)).await.expect_err("the last");
    assert!(matches!(error, InstallError::LastNode { .. }), "{error}");
    first.assert_node("a1");
    let report = reset(&first.paths(), &first.reset_tools(true)).await.expect("resets");
    assert_eq!((report.failed, report.advice), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_removed_node_is_not_taken_for_one_in_order() {
    let (cluster, _first, host, token) = two_nodes().await;
    let note = RemovalNote {
        node_name: "a2".into(),
        learned_at: clock::now(),
        learned_from: "the test".into(),
    };
    note.write(&host.paths()).expect("writes");
    let error = join(&join_command(&host, &token), &host.tools(Bundle::default(), 0)).await;
    assert!(matches!(error, Err(InstallError::WasRemoved)));
    // It has left already, so nobody needs to be reached.
    cluster.reachable.store(false, Ordering::SeqCst);
    let report = reset(&host.paths(), &host.reset_tools(false)).await.expect("resets");
    assert_eq!(report.failed, Vec::<String>::new());
}
