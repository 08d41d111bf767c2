//! Secrets through the object layer: plain above, envelopes below.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::model::kinds;
use crate::objects::fields::FieldValidation;
use crate::objects::memory_kv::MemoryKv;
use crate::objects::{
    Address, ApplyRequest, Change, DeleteRequest, ListRequest, Objects, ObjectsOptions, Patch,
    PatchType, WatchRequest, WriteOptions,
};
use crate::pki::{KeyRing, new_secret_key};

const NOW: WriteOptions = WriteOptions { dry_run: false, manager: String::new(), author: None };
const PLAIN: &str = "correct horse battery staple";
const KEY: &str = "/registry/core/secrets/default/";

struct World {
    below: Arc<MemoryKv>,
    keys: Arc<SecretKeys>,
    sealed: Arc<SealedKv>,
    objects: Objects,
}

fn ring(count: usize) -> KeyRing {
    let mut ring = KeyRing::default();
    ring.add((0..count).map(|_| new_secret_key(jiff::Timestamp::UNIX_EPOCH))).unwrap();
    ring
}

fn kind(plural: &str) -> &'static kinds::Kind {
    kinds::by_path("", "v1", plural).unwrap()
}

fn secret(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}}, "stringData": {"password": PLAIN}})
}

impl World {
    async fn new() -> Self {
        let keys = Arc::new(SecretKeys::new(KeyRing::default()));
        let ring = ring(2);
        let first = ring.ids()[0];
        keys.set(ring, Some(first));
        let below = Arc::new(MemoryKv::new());
        let sealed = Arc::new(SealedKv::new(below.clone(), keys.clone()));
        let options = ObjectsOptions { service_range: "10.96.0.0/28".parse().unwrap() };
        let objects = Objects::new(sealed.clone(), options);
        objects.ensure_bootstrap().await.unwrap();
        Self { below, keys, sealed, objects }
    }

    async fn create(&self, name: &str) -> Result<Value, crate::model::status::Status> {
        self.objects.create(kind("secrets"), Some("default"), secret(name), NOW).await
    }

    async fn get(&self, name: &str) -> Result<Value, crate::model::status::Status> {
        self.objects.get(&at(name), None).await
    }

    async fn stored(&self) -> Vec<KeyValue> {
        self.below.range(RangeRequest::prefix(KEY)).await.unwrap().kvs
    }

    async fn put_below(&self, name: &str, value: Bytes) {
        let op = Op::put(format!("{KEY}{name}"), value);
        let txn = TxnRequest { compare: Vec::new(), success: vec![op], failure: Vec::new() };
        self.below.txn(txn).await.unwrap();
    }
}

fn at(name: &str) -> Address {
    Address::new(kind("secrets"), Some("default"), name)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn every_way_through_the_api_sees_plain_text_and_the_store_never_does() {
    let world = World::new().await;
    let request = WatchRequest::of(ListRequest::all(kind("secrets"), Some("default")));
    let mut watch = world.objects.watch(&request).await.unwrap();
    let made = world.create("db").await.unwrap();
    let text = base64_of(PLAIN);
    assert_eq!(made["data"]["password"], text.as_str());
    assert!(made.get("stringData").is_none());
    assert_eq!(world.get("db").await.unwrap()["data"]["password"], text.as_str());
    let list = ListRequest::all(kind("secrets"), None);
    assert_eq!(
        world.objects.list(&list).await.unwrap().items[0]["data"]["password"],
        text.as_str()
    );
    let patch = Patch { kind: PatchType::Merge, body: json!({"stringData": {"user": "root"}}) };
    let (patched, _) =
        world.objects.patch(&at("db"), None, &patch, FieldValidation::Strict, NOW).await.unwrap();
    assert_eq!(patched["data"], json!({"password": text, "user": base64_of("root")}));
    let config = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "data": {"user": base64_of("admin")}});
    let manager = WriteOptions { manager: "me".into(), ..NOW };
    let request = ApplyRequest { config, force: true, may_create: Ok(()) };
    let applied = world.objects.apply(&at("db"), None, request, manager).await.unwrap();
    assert_eq!(applied.object["data"]["user"], base64_of("admin").as_str());
    world.objects.delete(&at("db"), &DeleteRequest::default()).await.unwrap();
    for expected in ["ADDED", "MODIFIED", "MODIFIED", "DELETED"] {
        let change = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let (name, object) = match change.unwrap().unwrap() {
            Change::Added(object) => ("ADDED", object),
            Change::Modified(object) => ("MODIFIED", object),
            Change::Deleted(object) => ("DELETED", object),
            other => panic!("{other:?}"),
        };
        assert_eq!((name, &object["data"]["password"]), (expected, &json!(text)));
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn below_are_envelopes_that_differ_each_time() {
    let world = World::new().await;
    world.create("a").await.unwrap();
    world.create("b").await.unwrap();
    let stored = world.stored().await;
    assert_eq!(stored.len(), 2);
    for kv in &stored {
        assert!(is_sealed(&kv.value));
        assert!(!contains(&kv.value, PLAIN) && !contains(&kv.value, &base64_of(PLAIN)));
        assert!(!contains(&kv.value, "password"));
    }
    assert_ne!(stored[0].value[84..], stored[1].value[84..]);
    let object = json!({"metadata": {"name": "m"}, "data": {"k": "v"}});
    world.objects.create(kind("configmaps"), Some("default"), object, NOW).await.unwrap();
    let maps = world.below.range(RangeRequest::prefix("/registry/core/configmaps/")).await.unwrap();
    assert_eq!(maps.kvs[0].value[0], b'{');
}

#[tokio::test]
async fn an_envelope_opens_under_its_own_name_only() {
    let world = World::new().await;
    world.create("a").await.unwrap();
    let stolen = world.stored().await[0].value.clone();
    world.put_below("mine", stolen).await;
    let refused = world.get("mine").await.unwrap_err();
    assert_eq!(refused.code, 500);
    assert!(refused.message.contains("/registry/core/secrets/default/mine"), "{refused:?}");
    assert!(world.get("a").await.is_ok());
}

#[tokio::test]
async fn without_a_key_nothing_is_written_and_everything_else_goes_on() {
    let world = World::new().await;
    world.create("a").await.unwrap();
    let ring = world.keys.ring();
    world.keys.set(KeyRing::default(), None);
    assert_eq!(world.create("b").await.unwrap_err().code, 503);
    let refused = world.get("a").await.unwrap_err();
    assert!(refused.message.contains("lacks key"), "{refused:?}");
    assert_eq!(world.stored().await.len(), 1);
    let object = json!({"metadata": {"name": "m"}});
    world.objects.create(kind("configmaps"), Some("default"), object, NOW).await.unwrap();
    let first = ring.ids()[0];
    world.keys.set(ring, Some(first));
    assert!(world.get("a").await.is_ok());
}

#[tokio::test]
async fn a_sweep_brings_everything_under_the_new_key_and_leaves_what_it_cannot_read() {
    let world = World::new().await;
    let (old, new) = (world.keys.ring().ids()[0], world.keys.ring().ids()[1]);
    for number in 0..250 {
        world.create(&format!("s{number:03}")).await.unwrap();
    }
    world.put_below("plain", serde_json::to_vec(&secret("plain")).unwrap().into()).await;
    let foreign = SecretKeys::new(KeyRing::default());
    let other = ring(1);
    let lost = other.ids()[0];
    foreign.set(other, Some(lost));
    let value = foreign.seal(format!("{KEY}lost").as_bytes(), b"{}").unwrap();
    world.put_below("lost", value.into()).await;
    let before = world.sealed.look().await.unwrap();
    // With the keys that sign tokens.
    assert_eq!((before.by_key[&old], before.by_key[&lost], before.plain), (251, 1, 1));
    world.keys.set(world.keys.ring(), Some(new));
    let swept = world.sealed.sweep(new).await.unwrap();
    assert_eq!((swept.rewritten, swept.unreadable), (252, 1));
    let after = world.sealed.look().await.unwrap();
    let keys: BTreeSet<KeyId> = after.by_key.keys().copied().collect();
    assert_eq!((keys, after.plain), (BTreeSet::from([new, lost]), 0));
    assert_eq!(world.sealed.sweep(new).await.unwrap().rewritten, 0);
    assert_eq!(world.get("s249").await.unwrap()["data"]["password"], base64_of(PLAIN).as_str());
    assert!(world.get("plain").await.is_ok());
}

/// What stands in the store of the keys that sign tokens.
async fn signing_keys_below(world: &World) -> KeyValue {
    let found = world.below.range(RangeRequest::key(SIGNING_KEYS)).await.unwrap();
    found.kvs.into_iter().next().unwrap()
}

#[tokio::test]
async fn keys_that_sign_tokens_are_sealed_and_plain_ones_become_so() {
    let world = World::new().await;
    let account = Address::new(kind("serviceaccounts"), Some("default"), "default");
    let token = world.objects.issue_account_token(&account, &json!({}), None).await.unwrap().token;
    let below = signing_keys_below(&world).await;
    assert!(is_sealed(&below.value));
    assert!(!String::from_utf8_lossy(&below.value).contains("private"));

    // As an earlier release wrote it.
    let plain = world.sealed.range(RangeRequest::key(SIGNING_KEYS)).await.unwrap().kvs.remove(0);
    assert!(plain.value.starts_with(b"{"));
    let put = vec![Op::put(SIGNING_KEYS, plain.value.clone())];
    world.below.txn(TxnRequest { success: put, ..TxnRequest::default() }).await.unwrap();
    assert_eq!(signing_keys_below(&world).await.value, plain.value);
    let known = world.objects.authenticate(&token, &[]).await.unwrap();
    assert!(known.is_some(), "a plain record is read");
    let active = world.keys.active().unwrap();
    assert_eq!(world.sealed.look().await.unwrap().plain, 1);
    assert_eq!(world.sealed.sweep(active).await.unwrap().rewritten, 1);
    assert!(is_sealed(&signing_keys_below(&world).await.value));
    assert!(world.objects.authenticate(&token, &[]).await.unwrap().is_some());

    // A rotation of the keys of secrets carries it along.
    let second = world.keys.ring().ids()[1];
    world.keys.set_active(Some(second));
    world.sealed.sweep(second).await.unwrap();
    assert_eq!(key_of(&signing_keys_below(&world).await.value), Some(second));
    assert!(world.objects.authenticate(&token, &[]).await.unwrap().is_some());
}

#[tokio::test]
async fn without_a_key_no_signing_key_is_made_and_nothing_else_waits() {
    let keys = Arc::new(SecretKeys::new(ring(1)));
    let below = Arc::new(MemoryKv::new());
    let sealed = Arc::new(SealedKv::new(below.clone(), keys.clone()));
    let options = ObjectsOptions { service_range: "10.96.0.0/28".parse().unwrap() };
    let objects = Objects::new(sealed, options);
    objects.ensure_bootstrap().await.unwrap();
    let none = below.range(RangeRequest::key(SIGNING_KEYS)).await.unwrap();
    assert!(none.kvs.is_empty(), "nothing is ever written in plain text");
    assert_eq!(objects.ensure_signing_key().await.unwrap_err().code, 503);
    keys.set_active(Some(keys.ring().ids()[0]));
    objects.ensure_signing_key().await.unwrap();
    let made = below.range(RangeRequest::key(SIGNING_KEYS)).await.unwrap();
    assert!(is_sealed(&made.kvs[0].value));
}

#[tokio::test]
async fn keys_that_nobody_can_read_are_told_of_and_replaced_on_demand() {
    let world = World::new().await;
    let account = Address::new(kind("serviceaccounts"), Some("default"), "default");
    let old = world.objects.issue_account_token(&account, &json!({}), None).await.unwrap().token;
    let other = ring(1);
    let id = other.ids()[0];
    world.keys.set(other, Some(id));
    world.objects.ensure_bootstrap().await.unwrap();
    let refused = world.objects.issue_account_token(&account, &json!({}), None).await.unwrap_err();
    assert_eq!(refused.code, 500);
    assert!(refused.message.contains("cannot be decrypted: this node lacks key"), "{refused}");
    let kept = world.objects.rotate_signing_key(false).await.unwrap_err();
    assert!(kept.message.contains("cannot be decrypted"), "{kept}");
    assert_eq!(world.objects.rotate_signing_key(true).await.unwrap().len(), 1);
    let new = world.objects.issue_account_token(&account, &json!({}), None).await.unwrap().token;
    assert!(world.objects.authenticate(&new, &[]).await.unwrap().is_some());
    assert!(world.objects.authenticate(&old, &[]).await.unwrap().is_none());
}
