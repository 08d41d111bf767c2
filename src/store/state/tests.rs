//! Layers, file and compaction against a model, over random flushes and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::Membership;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::apply::Step;
use super::{Reader, StateStore};
use crate::base::ids::{BootCount, MemberId};
use crate::logic::mvcc::KeyRange;
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::store::disk::HostDisk;
use crate::store::types::{
    Command, LogId, Peer, Refusal, Reply, RequestId, StartNote, StoredMembership,
};

type State = BTreeMap<String, String>;

fn open(dir: &Path) -> StateStore {
    StateStore::open(Arc::new(HostDisk::new(dir).unwrap())).unwrap()
}

fn log_id(index: u64) -> LogId {
    let leader = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 };
    LogId::new(leader, index)
}

fn apply(state: &StateStore, index: u64, command: Command) -> Reply {
    state.apply(log_id(index), Step::Command(command)).unwrap()
}

fn txn(index: u64, ops: Vec<Op>) -> Command {
    let id = RequestId { origin: MemberId(1), run: 1, sequence: index };
    let request = TxnRequest { success: ops, ..TxnRequest::default() };
    Command::Txn { id, issued_at: index, by: None, request }
}

fn check(state: &StateStore, model: &[State], compacted: usize) {
    for (revision, truth) in model.iter().enumerate().skip(compacted.max(1)) {
        let request = RangeRequest { revision: revision as i64, ..RangeRequest::prefix("k") };
        let found: State = state
            .range(&request)
            .unwrap()
            .kvs
            .iter()
            .map(|kv| (text(&kv.key), text(&kv.value)))
            .collect();
        assert_eq!(&found, truth, "state at revision {revision}");
    }
    let range = KeyRange::new(Bytes::from_static(b"k"), Bytes::from_static(b"l"));
    let mut next = compacted.max(2) as i64;
    let mut replayed = model[next as usize - 1].clone();
    while next < model.len() as i64 {
        let Reader::Changes { changes, next: after } =
            state.changes(&range, next, false, 7).unwrap()
        else {
            panic!("compacted at {next}")
        };
        for change in changes {
            for event in change.events {
                if event.kv.version > 0 {
                    replayed.insert(text(&event.kv.key), text(&event.kv.value));
                } else {
                    replayed.remove(&text(&event.kv.key));
                }
            }
            assert_eq!(replayed, model[change.revision as usize], "after {}", change.revision);
        }
        assert!(after > next);
        next = after;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn scenario(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut state = open(dir.path());
    let mut model = vec![State::new(), State::new()];
    let (mut compacted, mut index) = (0, 0);
    for _ in 0..150 {
        index += 1;
        let key = format!("k{}", rng.random_range(0..12));
        let mut now = model.last().unwrap().clone();
        match rng.random_range(0..12) {
            0..=6 => {
                let value = index.to_string();
                now.insert(key.clone(), value.clone());
                apply(&state, index, txn(index, vec![Op::put(key, value)]));
                model.push(now);
            }
            7 | 8 => {
                apply(&state, index, txn(index, vec![Op::delete(key.clone())]));
                if now.remove(&key).is_some() {
                    model.push(now);
                }
            }
            9 => {
                state.flush().await.unwrap();
                while state.trim().await.unwrap() {}
            }
            10 => {
                let upto = rng.random_range(0..model.len());
                let reply = apply(&state, index, Command::Compact { revision: upto as i64 });
                if reply == Reply::Done {
                    compacted = upto;
                }
            }
            _ => {
                state.flush().await.unwrap();
                drop(state);
                state = open(dir.path());
                assert!(state.applied().0.is_none_or(|applied| applied.index < index));
            }
        }
        assert_eq!(state.revisions().current, model.len() as i64 - 1);
    }
    check(&state, &model, compacted);
    state.flush().await.unwrap();
    while state.trim().await.unwrap() {}
    check(&state, &model, compacted);
    drop(state);
    check(&open(dir.path()), &model, compacted);
}

#[tokio::test]
async fn every_kept_revision_reads_the_same_from_memory_and_disk() {
    for seed in 0..12 {
        println!("seed {seed}");
        scenario(seed).await;
    }
}

#[tokio::test]
async fn a_repeated_request_is_answered_and_not_redone() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let command = txn(1, vec![Op::put("k", "1")]);
    let first = apply(&state, 1, command.clone());
    assert_eq!(apply(&state, 2, command.clone()), first);
    state.flush().await.unwrap();
    drop(state);
    let state = open(dir.path());
    assert_eq!(apply(&state, 3, command), first);
    assert_eq!(state.revisions().current, 2);
}

fn membership(index: u64, members: &[u64]) -> Step {
    let nodes: BTreeMap<u64, Peer> =
        members.iter().map(|member| (*member, Peer::default())).collect();
    let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
    Step::Membership(StoredMembership::new(Some(log_id(index)), membership))
}

/// A leader that adds a member can lose its lead before that is committed, after the member
/// has heard of it and noted its start.
#[tokio::test]
async fn an_id_is_taken_only_by_a_member_that_was_added() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let note = StartNote { incarnation: 7, boot: BootCount(1), session: 1 };
    let boot = || Command::Boot { member: MemberId(4), note };
    state.apply(log_id(1), membership(1, &[1])).unwrap();
    assert_eq!(apply(&state, 2, boot()), Reply::Refused(Refusal::NotAMember));
    assert!(!state.is_removed(4));
    state.apply(log_id(3), membership(3, &[1, 4])).unwrap();
    assert_eq!(apply(&state, 4, boot()), Reply::Done);
    assert_eq!(state.remembered_start(4), Some(note));
    assert!(!state.is_removed(4));
    // What a removed member says late changes nothing, and its id stays taken.
    state.apply(log_id(5), membership(5, &[1])).unwrap();
    let later = StartNote { boot: BootCount(2), session: 2, ..note };
    let late = Command::Boot { member: MemberId(4), note: later };
    assert_eq!(apply(&state, 6, late), Reply::Refused(Refusal::NotAMember));
    assert_eq!(state.remembered_start(4), Some(note));
    assert!(state.is_removed(4));
}
