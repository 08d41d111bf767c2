//! The rules against a model that keeps every state of every revision.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    KeyRange, MvccError, MvccView, Revisions, Scan, check_compaction, check_txn, is_read_only,
    run_range, run_txn,
};
use crate::model::kv::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, EventKind, KeyValue, Op, OpResponse,
    PutRequest, RangeRequest, TxnRequest,
};

type State = BTreeMap<Bytes, KeyValue>;

/// Every state there ever was; index is the revision.
struct Model(Vec<State>);

impl Model {
    fn new() -> Self {
        Self(vec![State::new(), State::new()])
    }

    fn revisions(&self) -> Revisions {
        Revisions { current: self.0.len() as i64 - 1, compacted: 0 }
    }

    fn newest(&self) -> &State {
        self.0.last().unwrap()
    }

    fn txn(&mut self, txn: &TxnRequest) -> Result<super::Outcome, MvccError<Infallible>> {
        let outcome = run_txn(self, self.revisions(), txn)?;
        if !outcome.events.is_empty() {
            let mut next = self.newest().clone();
            for event in &outcome.events {
                match event.kind {
                    EventKind::Put => next.insert(event.kv.key.clone(), event.kv.clone()),
                    EventKind::Delete => next.remove(&event.kv.key),
                };
            }
            self.0.push(next);
        }
        Ok(outcome)
    }
}

impl MvccView for Model {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Infallible> {
        Ok(self.newest().get(key).cloned())
    }

    fn has_lease(&self, id: i64) -> bool {
        id == 7
    }

    fn scan(&self, range: &KeyRange, at: Option<i64>, take: usize) -> Result<Scan, Infallible> {
        let state = at.map_or(self.newest(), |at| &self.0[at as usize]);
        let found: Vec<KeyValue> =
            state.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        let count = found.len() as u64;
        Ok(Scan { kvs: found.into_iter().take(take).collect(), count })
    }
}

fn then(ops: Vec<Op>) -> TxnRequest {
    TxnRequest { success: ops, ..TxnRequest::default() }
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::put(key, value)
}

#[test]
fn the_first_write_is_revision_two_and_versions_count_from_creation() {
    let mut model = Model::new();
    assert_eq!(model.txn(&then(vec![put("a", "1")])).unwrap().response.revision, 2);
    assert_eq!(model.txn(&then(vec![put("a", "2")])).unwrap().response.revision, 3);
    let kv = &model.newest()[&b"a"[..]];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    model.txn(&then(vec![Op::delete("a")])).unwrap();
    model.txn(&then(vec![put("a", "3")])).unwrap();
    let kv = &model.newest()[&b"a"[..]];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn deleting_nothing_makes_no_revision() {
    let mut model = Model::new();
    let outcome = model.txn(&then(vec![Op::delete("a")])).unwrap();
    assert_eq!(outcome.response.revision, 1);
    assert!(outcome.events.is_empty());
}

#[test]
fn operations_see_the_writes_before_them() {
    let mut model = Model::new();
    model.txn(&then(vec![put("b", "0")])).unwrap();
    let outcome = model
        .txn(&then(vec![
            put("a", "1"),
            Op::DeleteRange(DeleteRangeRequest { key: "b".into(), ..Default::default() }),
            Op::Range(RangeRequest::prefix("")),
        ]))
        .unwrap_err();
    assert!(matches!(outcome, MvccError::Refused(_)));
    let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let outcome = model.txn(&then(vec![put("a", "1"), Op::delete("b"), Op::Range(all)])).unwrap();
    let OpResponse::Range(seen) = &outcome.response.responses[2] else { panic!() };
    assert_eq!(seen.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"a"]);
    assert_eq!(seen.revision, 3);
}

#[test]
fn one_key_is_written_at_most_once_in_a_transaction() {
    let refused = |txn: &TxnRequest| check_txn::<Infallible>(txn).is_err();
    assert!(refused(&then(vec![put("a", "1"), put("a", "2")])));
    let range = DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: false };
    assert!(refused(&then(vec![put("b", "1"), Op::DeleteRange(range)])));
    let branches = TxnRequest {
        success: vec![put("a", "1")],
        failure: vec![put("a", "2")],
        ..Default::default()
    };
    let nested = then(vec![Op::Txn(Box::new(branches.clone()))]);
    assert!(!refused(&nested), "branches exclude each other");
    assert!(refused(&then(vec![Op::Txn(Box::new(branches)), put("a", "3")])));
    let one = |op: Op| Op::Txn(Box::new(then(vec![op])));
    for ops in [[put("a", "1"), Op::delete("a")], [Op::delete("a"), put("a", "1")]] {
        let ops = ops.map(one).to_vec();
        assert!(refused(&then(ops)), "one nested transaction puts what another one deletes");
    }
}

#[test]
fn compares_follow_etcd_on_missing_keys_and_ranges() {
    let mut model = Model::new();
    model.txn(&then(vec![put("a/1", "x"), put("a/2", "y")])).unwrap();
    let holds = |key: &str, end: &str, op, target| {
        let compare =
            Compare { key: key.to_owned().into(), range_end: end.to_owned().into(), op, target };
        let txn = TxnRequest { compare: vec![compare], ..Default::default() };
        run_txn(&model, model.revisions(), &txn).unwrap().response.succeeded
    };
    use CompareOp::{Equal, Greater, NotEqual};
    use CompareTarget::{ModRevision, Value, Version};
    assert!(holds("none", "", Equal, Version(0)));
    assert!(holds("none", "", Equal, ModRevision(0)));
    assert!(!holds("none", "", Equal, Value("x".into())));
    assert!(!holds("none", "", NotEqual, Value("x".into())));
    assert!(holds("a/", "a0", Greater, Version(0)));
    assert!(!holds("a/", "a0", Equal, Value("x".into())));
}

#[test]
fn limits_and_counts_and_past_revisions() {
    let mut model = Model::new();
    for key in ["k1", "k2", "k3"] {
        model.txn(&then(vec![Op::put(key, "v")])).unwrap();
    }
    model.txn(&then(vec![Op::delete("k1")])).unwrap();
    let read = |request: RangeRequest| run_range(&model, model.revisions(), &request);
    let limited = read(RangeRequest { limit: 1, ..RangeRequest::prefix("k") }).unwrap();
    assert_eq!((limited.kvs.len(), limited.count, limited.more, limited.revision), (1, 2, true, 5));
    let past = read(RangeRequest { revision: 4, ..RangeRequest::prefix("k") }).unwrap();
    assert_eq!((past.count, past.revision), (3, 5));
    let counted = read(RangeRequest { count_only: true, ..RangeRequest::prefix("k") }).unwrap();
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 2, false));
    let future = read(RangeRequest { revision: 6, ..RangeRequest::key("k2") });
    assert!(matches!(future, Err(MvccError::Future { requested: 6, current: 5 })));
    let inverted = RangeRequest { key: "z".into(), range_end: "a".into(), ..Default::default() };
    assert_eq!(read(inverted).unwrap().count, 0);
}

#[test]
fn compaction_neither_repeats_nor_runs_ahead() {
    let at = Revisions { current: 9, compacted: 4 };
    assert!(check_compaction::<Infallible>(at, 5).is_ok());
    assert!(matches!(check_compaction::<Infallible>(at, 4), Err(MvccError::Compacted { .. })));
    assert!(matches!(check_compaction::<Infallible>(at, 10), Err(MvccError::Future { .. })));
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec![&b"a"[..], b"b", b"c", b"d"]).prop_map(Bytes::from_static)
}

fn leaf() -> impl Strategy<Value = Op> {
    prop_oneof![
        (key(), 0..9_u8).prop_map(|(key, value)| Op::Put(PutRequest {
            key,
            value: vec![value].into(),
            prev_kv: true,
            ..Default::default()
        })),
        (key(), key()).prop_map(|(key, range_end)| Op::DeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: true
        })),
        key().prop_map(|key| Op::Range(RangeRequest::key(key))),
    ]
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let guard = (key(), 0..6_i64).prop_map(|(key, revision)| Compare::mod_revision(key, revision));
    let leaves = || prop::collection::vec(leaf(), 0..3);
    let nested = (leaves(), leaves()).prop_map(|(success, failure)| {
        Op::Txn(Box::new(TxnRequest { compare: Vec::new(), success, failure }))
    });
    let op = prop_oneof![2 => leaf(), 1 => nested].boxed();
    let branch = || prop::collection::vec(op.clone(), 0..4);
    (prop::collection::vec(guard, 0..2), branch(), branch())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

proptest! {
    #[test]
    fn every_transaction_keeps_the_rules(txns in prop::collection::vec(txn(), 1..30)) {
        let mut model = Model::new();
        for txn in &txns {
            let before = model.revisions().current;
            let Ok(outcome) = model.txn(txn) else {
                prop_assert_eq!(model.revisions().current, before, "a refusal wrote something");
                continue;
            };
            let wrote = !outcome.events.is_empty();
            prop_assert_eq!(outcome.response.revision, before + i64::from(wrote));
            prop_assert!(!(wrote && is_read_only(txn)));
            let mut seen = std::collections::BTreeSet::new();
            for event in &outcome.events {
                prop_assert!(seen.insert(event.kv.key.clone()), "a key changed twice");
                prop_assert_eq!(event.kv.mod_revision, before + 1);
                let old = model.0[before as usize].get(&event.kv.key).cloned();
                prop_assert_eq!(&event.prev_kv, &old);
                if event.kind == EventKind::Put {
                    let version = old.as_ref().map_or(1, |old| old.version + 1);
                    let created = old.map_or(before + 1, |old| old.create_revision);
                    prop_assert_eq!(event.kv.version, version);
                    prop_assert_eq!(event.kv.create_revision, created);
                }
            }
        }
    }
}
