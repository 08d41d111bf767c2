//! Random transactions and reads over few keys, and how they are asked.

use bytes::Bytes;
use holdfast::model::kv::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, KeyValue, Op, OpResponse, PutRequest,
    RangeRequest, SortOrder, SortTarget, TxnRequest,
};
use holdfast::store::{Kv, Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::history::{Answer, Question};
use crate::plant::Plant;

/// Keys that everybody writes.
const KEYS: usize = 8;

/// What a client last heard of the keys; compares are made of it, so that some hold.
#[derive(Debug, Default)]
pub(super) struct Memory {
    kvs: Vec<KeyValue>,
}

impl Memory {
    pub(super) fn hear(&mut self, kvs: &[KeyValue]) {
        if !kvs.is_empty() {
            self.kvs = kvs.to_vec();
        }
    }
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k/{number}"))
}

fn any_key(rng: &mut SmallRng) -> Bytes {
    key(rng.random_range(0..KEYS))
}

/// One key, a part of them, all of them, or everything from one on.
fn any_range(rng: &mut SmallRng) -> (Bytes, Bytes) {
    match rng.random_range(0..6) {
        0..3 => (any_key(rng), Bytes::new()),
        3 => {
            let from = rng.random_range(0..KEYS);
            (key(from), key(rng.random_range(from..KEYS)))
        }
        4 => (Bytes::from_static(b"k/"), Bytes::from_static(b"k0")),
        _ => (any_key(rng), Bytes::from_static(&[0])),
    }
}

fn compare(rng: &mut SmallRng, memory: &Memory) -> Compare {
    let known = if memory.kvs.is_empty() {
        KeyValue { key: any_key(rng), ..KeyValue::default() }
    } else {
        memory.kvs[rng.random_range(0..memory.kvs.len())].clone()
    };
    let target = match rng.random_range(0..6) {
        0 => CompareTarget::Version(known.version),
        1 => CompareTarget::CreateRevision(known.create_revision),
        2 | 3 => CompareTarget::ModRevision(known.mod_revision),
        4 => CompareTarget::Value(known.value.clone()),
        _ => CompareTarget::Lease(known.lease),
    };
    let op = match rng.random_range(0..6) {
        0..3 => CompareOp::Equal,
        3 => CompareOp::NotEqual,
        4 => CompareOp::Greater,
        _ => CompareOp::Less,
    };
    let range_end = match rng.random_range(0..8) {
        0 => Bytes::from_static(b"k0"),
        _ => Bytes::new(),
    };
    Compare { key: known.key, range_end, op, target }
}

pub(super) fn range(rng: &mut SmallRng, newest: i64) -> RangeRequest {
    let (key, range_end) = any_range(rng);
    let mut request = RangeRequest { key, range_end, ..RangeRequest::default() };
    if rng.random_bool(0.2) {
        request.revision = rng.random_range(1..=newest + 2);
    }
    if rng.random_bool(0.3) {
        request.limit = rng.random_range(1..6);
    }
    request.keys_only = rng.random_bool(0.1);
    request.count_only = rng.random_bool(0.1);
    if rng.random_bool(0.3) {
        request.sort_order =
            if rng.random_bool(0.5) { SortOrder::Ascend } else { SortOrder::Descend };
        request.sort_target = match rng.random_range(0..5) {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            _ => SortTarget::Value,
        };
    }
    if rng.random_bool(0.1) {
        request.min_mod_revision = rng.random_range(0..=newest);
        request.max_create_revision = rng.random_range(0..=newest);
    }
    request
}

/// Operations of one branch; `keys` are those that may still be put.
fn branch(
    rng: &mut SmallRng,
    memory: &Memory,
    tag: &str,
    keys: &mut Vec<Bytes>,
    deep: u32,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for number in 0..rng.random_range(1..4) {
        match rng.random_range(0..10) {
            0..5 => {
                if keys.is_empty() {
                    continue;
                }
                let key = keys.swap_remove(rng.random_range(0..keys.len()));
                let mut put =
                    PutRequest { key, prev_kv: rng.random_bool(0.3), ..Default::default() };
                if rng.random_bool(0.05) {
                    put.ignore_value = true;
                } else {
                    put.value = Bytes::from(format!("{tag}.{number}"));
                }
                put.ignore_lease = rng.random_bool(0.05);
                ops.push(Op::Put(put));
            }
            5..7 => {
                let (key, range_end) = any_range(rng);
                let range_end = if rng.random_bool(0.7) { Bytes::new() } else { range_end };
                let prev_kv = rng.random_bool(0.3);
                ops.push(Op::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv }));
            }
            7..9 => ops.push(Op::Range(range(rng, 0))),
            _ if deep > 0 => {
                let tag = format!("{tag}.{number}n");
                ops.push(Op::Txn(Box::new(txn(rng, memory, &tag, keys, deep - 1))));
            }
            _ => {}
        }
    }
    ops
}

fn txn(
    rng: &mut SmallRng,
    memory: &Memory,
    tag: &str,
    keys: &mut Vec<Bytes>,
    deep: u32,
) -> TxnRequest {
    let compares = [0, 0, 1, 1, 2][rng.random_range(0..5)];
    let compare = (0..compares).map(|_| compare(rng, memory)).collect();
    let success = branch(rng, memory, &format!("{tag}s"), keys, deep);
    let mut others: Vec<Bytes> = (0..KEYS).map(key).collect();
    // In a nested one the outer branch's keys are taken in both of its branches.
    let failure =
        branch(rng, memory, &format!("{tag}f"), if deep == 2 { &mut others } else { keys }, deep);
    TxnRequest { compare, success, failure }
}

/// A random transaction; values that it writes carry its tag and are written by no other.
pub(super) fn any_txn(rng: &mut SmallRng, memory: &Memory, tag: &str) -> TxnRequest {
    txn(rng, memory, tag, &mut (0..KEYS).map(key).collect(), 2)
}

/// Asks the member, or with a planted fault something else.
pub(super) async fn answer(
    store: &Store,
    plant: Plant,
    question: Question,
) -> Result<Answer, StoreError> {
    let chance = |out_of: u32| crate::random::chance(out_of);
    match question {
        Question::Range(mut request) => {
            if plant == Plant::StaleRead && chance(5) {
                request.serializable = true;
            }
            let mut answer = store.range(request).await?;
            if plant == Plant::WrongAnswer && chance(10) {
                answer.kvs.pop();
            }
            Ok(Answer::Range(answer))
        }
        Question::Txn(mut request) => {
            if plant == Plant::OrphanedKey {
                for op in &mut request.success {
                    let Op::Put(put) = op else { continue };
                    put.lease = 0;
                }
            }
            if plant == Plant::LostWrite && chance(20) {
                let revision = store.status().revision + 1;
                let made = |op: &Op| matches!(op, Op::Put(_));
                if request.compare.is_empty() && request.success.iter().all(made) {
                    let put = OpResponse::Put { revision, prev_kv: None };
                    let responses = vec![put; request.success.len()];
                    let answer =
                        holdfast::model::kv::TxnResponse { revision, succeeded: true, responses };
                    return Ok(Answer::Txn(answer));
                }
            }
            if plant == Plant::DoubledWrite && chance(20) {
                store.txn(request.clone()).await?;
            }
            Ok(Answer::Txn(store.txn(request).await?))
        }
    }
}
