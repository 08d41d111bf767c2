//! The audit log over a store in memory: what is recorded, and that nothing is lost.

use std::sync::Arc;

use serde_json::{Value, json};

use super::tests::{World, admin, kind};
use super::{AuditRead, Author, Identity, Origin};
use crate::logic::audit_chain::{Fault, Verifier};
use crate::model::audit::{AuditPage, Chained};
use crate::model::kinds::Subresource;
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::objects::{Address, DeleteRequest, WriteOptions};
use crate::store::Kv;

async fn page(world: &World) -> AuditPage {
    world.objects.audit_page(&AuditRead::default()).await.unwrap()
}

fn verify(page: &AuditPage) -> Result<u64, Fault> {
    let mut verifier = Verifier::new(page.anchor.clone(), None);
    page.items.iter().try_for_each(|item| verifier.check(item))?;
    verifier.finish(&page.head)?;
    Ok(verifier.checked())
}

async fn raw(world: &World, op: Op) {
    world.kv.txn(TxnRequest { success: vec![op], ..TxnRequest::default() }).await.unwrap();
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {}})
}

/// A chain of what the start of a cluster and a few writes left.
async fn chained() -> (World, AuditPage) {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create(&admin(), "", "configmaps", map(name)).await.unwrap();
    }
    world.objects.chain_audit().await.unwrap();
    let page = page(&world).await;
    (world, page)
}

#[tokio::test]
async fn a_write_and_its_record_are_one_transaction() {
    let world = World::new().await;
    world.objects.chain_audit().await.unwrap();
    let before = page(&world).await.items.len();
    let made =
        world.create(&Identity::new("jane", &["dev"]), "", "configmaps", map("a")).await.unwrap();
    let address = Address::new(kind("", "configmaps"), Some("default"), "a");
    let author = |verb: &str| {
        let origin = Origin {
            uri: "/x?y".into(),
            source: "10.0.0.9:4".into(),
            user_agent: "kubectl/v1".into(),
        };
        let by = Some(admin());
        let author = Author::new(Identity::new("joe", &[]), by, origin, verb, address.kind, None);
        Arc::new(author.about(Some("default"), Some("a")))
    };
    let lost = author("create");
    let options = WriteOptions { author: Some(lost.clone()), ..WriteOptions::default() };
    let refused = world.objects.create(address.kind, Some("default"), map("a"), options).await;
    assert_eq!(refused.unwrap_err().code, 409);
    assert!(!lost.is_recorded());
    world.objects.record_apart(&lost, 409, "AlreadyExists").await.unwrap();
    let gone = author("delete");
    let request = DeleteRequest { author: Some(gone.clone()), ..DeleteRequest::default() };
    world.objects.delete(&address, &request).await.unwrap();
    assert!(gone.is_recorded());
    let deleted = world.kv.revision();
    assert_eq!(page(&world).await.pending.len(), 3, "and readable before they are chained");
    assert_eq!(world.objects.chain_audit().await.unwrap(), 3);
    let page = page(&world).await;
    assert_eq!(verify(&page), Ok(page.items.len() as u64));
    let new: Vec<&Chained> = page.items[before..].iter().collect();
    let told = |index: usize| {
        let record = &new[index].record;
        (record["actor"]["user"].clone(), record["verb"].clone(), record["code"].clone())
    };
    assert_eq!(told(0), ("jane".into(), "create".into(), 201.into()));
    assert_eq!(told(1), ("joe".into(), "create".into(), 409.into()));
    assert_eq!(told(2), ("joe".into(), "delete".into(), 200.into()));
    assert_eq!(made["metadata"]["resourceVersion"], new[0].revision.to_string());
    assert_eq!(new[2].revision, deleted);
    let record = &new[2].record;
    assert_eq!(record["impersonator"]["user"], "admin");
    assert_eq!((&record["namespace"], &record["name"]), (&json!("default"), &json!("a")));
    assert_eq!((&record["uri"], &record["source"]), (&json!("/x?y"), &json!("10.0.0.9:4")));
    assert_eq!(new[1].record["reason"], "AlreadyExists");
    // Nothing is pending, and chaining again changes nothing.
    let before = world.kv.revision();
    assert_eq!(world.objects.chain_audit().await.unwrap(), 0);
    assert_eq!(world.kv.revision(), before);
}

#[tokio::test]
async fn reports_of_nodes_are_no_acts() {
    let world = World::new().await;
    let node = |user: &str, by: Option<Identity>, part| {
        let identity = Identity::new(user, &["system:nodes"]);
        Author::new(identity, by, Origin::default(), "patch", kind("", "nodes"), part)
    };
    let status = Some(Subresource::Status);
    assert!(node("system:node:n1", None, status).is_recorded());
    assert!(!node("system:node:n1", None, None).is_recorded());
    assert!(!node("system:node:n1", Some(admin()), status).is_recorded());
    assert!(!node("jane", None, status).is_recorded());
    let before = page(&world).await.pending.len();
    let author = node("system:node:n1", None, status);
    world.objects.record_apart(&author, 403, "Forbidden").await.unwrap();
    assert_eq!(page(&world).await.pending.len(), before);
}

#[tokio::test]
async fn a_changed_removed_or_reordered_record_in_the_store_is_found() {
    let (_, good) = chained().await;
    assert!(good.items.len() > 5);
    assert_eq!(verify(&good), Ok(good.head.seq));
    let key = |seq: u64| format!("/holdfast/audit/log/{seq:020}");
    let value = |item: &Chained| serde_json::to_vec(item).unwrap();
    let (world, good) = chained().await;
    let mut forged = good.items[2].clone();
    forged.record["actor"]["user"] = "somebody else".into();
    raw(&world, Op::put(key(3), value(&forged))).await;
    assert_eq!(verify(&page(&world).await), Err(Fault::Changed { seq: 3 }));
    let (world, _) = chained().await;
    raw(&world, Op::delete(key(3))).await;
    assert_eq!(verify(&page(&world).await), Err(Fault::Missing { from: 3, to: 3 }));
    let (world, good) = chained().await;
    raw(&world, Op::put(key(3), value(&good.items[3]))).await;
    raw(&world, Op::put(key(4), value(&good.items[2]))).await;
    assert_eq!(verify(&page(&world).await), Err(Fault::Missing { from: 3, to: 3 }));
    let (world, good) = chained().await;
    raw(&world, Op::delete(key(good.head.seq))).await;
    let (found, expected) = (good.head.seq - 1, good.head.seq);
    assert_eq!(verify(&page(&world).await), Err(Fault::Cut { found, expected }));
    let (world, _) = chained().await;
    raw(&world, Op::delete(key(1))).await;
    assert_eq!(verify(&page(&world).await), Err(Fault::Missing { from: 1, to: 1 }));
}

#[tokio::test]
async fn two_who_chain_at_once_make_one_chain() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world.create(&admin(), "", "configmaps", map(name)).await.unwrap();
    }
    let pending = page(&world).await.pending.len() as u64;
    let chain = || async { world.objects.chain_audit().await.ok() };
    futures::future::join_all((0..4).map(|_| chain())).await;
    world.objects.chain_audit().await.unwrap();
    assert_eq!(verify(&page(&world).await), Ok(pending));
    let left = world.kv.range(RangeRequest::prefix("/holdfast/audit/pending/")).await.unwrap();
    assert!(left.kvs.is_empty());
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let (world, all) = chained().await;
    let read = |after, revision| AuditRead { after, limit: 2, revision };
    let first = world.objects.audit_page(&read(0, 0)).await.unwrap();
    assert_eq!(first.items, all.items[..2]);
    assert!(first.pending.is_empty());
    world.create(&admin(), "", "configmaps", map("later")).await.unwrap();
    world.objects.chain_audit().await.unwrap();
    let mut items = first.items.clone();
    while (items.len() as u64) < first.head.seq {
        let next = read(items.len() as u64, first.revision);
        let page = world.objects.audit_page(&next).await.unwrap();
        assert_eq!(page.head, first.head);
        items.extend(page.items);
    }
    assert_eq!(items, all.items);
}

#[tokio::test]
async fn retention_moves_the_anchor_and_the_rest_still_verifies() {
    let (world, all) = chained().await;
    let head = all.head.clone();
    world.objects.trim_audit(&head, head.seq - 4, 5).await.unwrap();
    assert_eq!(page(&world).await.items, all.items, "not enough to be worth it");
    world.objects.trim_audit(&head, head.seq - 4, 4).await.unwrap();
    let kept = page(&world).await;
    assert_eq!(kept.anchor, all.items[3].link());
    assert_eq!(kept.items, all.items[4..]);
    assert_eq!(verify(&kept), Ok(head.seq - 4));
    // Whoever drops more than that must move the anchor, and then a noted record is missing.
    let mut verifier = Verifier::new(kept.anchor.clone(), Some(all.items[1].link()));
    kept.items.iter().try_for_each(|item| verifier.check(item)).unwrap();
    assert_eq!(verifier.finish(&kept.head), Err(Fault::Unknown { seq: 2 }));
}

#[tokio::test]
async fn a_long_backlog_and_rubbish_in_it_are_chained() {
    let world = World::new().await;
    world.objects.chain_audit().await.unwrap();
    let before = page(&world).await.head.seq;
    for index in 0..130 {
        let author = Author::of_url(admin(), None, Origin::default(), "create");
        let author = author.about(None, Some(&format!("n{index}")));
        world.objects.record_apart(&author, 200, "").await.unwrap();
    }
    raw(&world, Op::put("/holdfast/audit/pending/x", "no JSON")).await;
    assert_eq!(world.objects.chain_audit().await.unwrap(), 131);
    let page = page(&world).await;
    assert_eq!(verify(&page), Ok(before + 131));
    let names: Vec<String> = page.items[before as usize..]
        .iter()
        .map(|item| item.record["name"].as_str().unwrap_or("rubbish").to_owned())
        .collect();
    let wanted: Vec<String> =
        (0..130).map(|index| format!("n{index}")).chain(["rubbish".to_owned()]).collect();
    assert_eq!(names, wanted, "in the order of commit");
    assert_eq!(page.items.last().unwrap().record, json!({"unreadable": "bm8gSlNPTg=="}));
}
