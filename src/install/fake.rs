//! Stand-ins for what `install` asks of others, for its tests only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::base::ids::MemberId;
use crate::model::kv::*;
use crate::model::node_list::{MemberSeat, Removed};
use crate::pki::{KeyRing, SecretKeys, new_secret_key};
use crate::store::{Kv, StoreError};

use super::join_service::Membership;
use super::node_service::Others;
use super::tokens::Clock;

/// A store of one map; enough of etcd's rules for mod-revision guards.
#[derive(Debug, Default)]
pub(crate) struct FakeKv {
    state: Mutex<(Revision, BTreeMap<Bytes, KeyValue>)>,
    /// How many more writes are done before each one fails, as if the caller had died.
    pub(crate) writes_left: Mutex<Option<usize>>,
}

#[async_trait]
impl Kv for FakeKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let state = self.state.lock().expect("lock");
        let kvs: Vec<KeyValue> = state
            .1
            .values()
            .filter(|kv| {
                if request.range_end.is_empty() {
                    kv.key == request.key
                } else {
                    kv.key >= request.key && kv.key < request.range_end
                }
            })
            .cloned()
            .collect();
        let count = kvs.len() as i64;
        Ok(RangeResponse { revision: state.0, kvs, more: false, count })
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        if let Some(left) = self.writes_left.lock().expect("lock").as_mut() {
            if *left == 0 {
                return Err(StoreError::NoLeader { reason: "the test cut it off".into() });
            }
            *left -= 1;
        }
        let mut state = self.state.lock().expect("lock");
        let succeeded = request.compare.iter().all(|compare| {
            let CompareTarget::ModRevision(wanted) = compare.target else {
                panic!("the tests compare mod revisions only")
            };
            state.1.get(&compare.key).map_or(0, |kv| kv.mod_revision) == wanted
        });
        let ops = if succeeded { request.success } else { request.failure };
        let revision = state.0 + 1;
        for op in ops {
            state.0 = revision;
            match op {
                Op::Put(put) => {
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value,
                        mod_revision: revision,
                        ..KeyValue::default()
                    };
                    state.1.insert(put.key, kv);
                }
                Op::DeleteRange(delete) => {
                    state.1.remove(&delete.key);
                }
                other => panic!("the tests do not use {other:?}"),
            }
        }
        Ok(TxnResponse { revision: state.0, succeeded, responses: Vec::new() })
    }

    async fn compact(&self, _: Revision) -> Result<(), StoreError> {
        Ok(())
    }

    async fn watch(&self, _: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        Err(StoreError::ShuttingDown)
    }
}

/// A group of members that obeys at once; member 1, `a1`, is in it from the start.
#[derive(Debug, Default)]
pub(crate) struct FakeMembership {
    pub(crate) added: Mutex<Vec<(MemberId, String, String, bool)>>,
    pub(crate) removed: Mutex<Vec<MemberId>>,
    pub(crate) silent: Mutex<Vec<MemberId>>,
    /// Marks this node's record as leaving while a member is being added.
    pub(crate) on_add: Mutex<Option<(Arc<FakeKv>, String)>>,
    /// Fails the next so many removals.
    pub(crate) failures: Mutex<usize>,
}

#[async_trait]
impl Membership for FakeMembership {
    async fn add_member(
        &self,
        member: MemberId,
        name: &str,
        peer_address: &str,
        voter: bool,
    ) -> Result<(), String> {
        if self.removed.lock().expect("lock").contains(&member) {
            return Err("the id was used before".into());
        }
        let marking = self.on_add.lock().expect("lock").take();
        if let Some((kv, name)) = marking {
            let key = format!("/holdfast/nodes/{name}");
            let found = kv.range(RangeRequest::key(key.clone())).await.expect("reads");
            let mut record: serde_json::Value =
                serde_json::from_slice(&found.kvs[0].value).expect("a record");
            record["leaving"] = true.into();
            let success = vec![Op::put(key, record.to_string())];
            kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("writes");
        }
        let entry = (member, name.to_owned(), peer_address.to_owned(), voter);
        let mut added = self.added.lock().expect("lock");
        if !added.contains(&entry) {
            added.push(entry);
        }
        Ok(())
    }

    async fn remove_member(&self, member: MemberId) -> Result<(), String> {
        let mut failures = self.failures.lock().expect("lock");
        if *failures > 0 {
            *failures -= 1;
            return Err("the leader changed".into());
        }
        let mut removed = self.removed.lock().expect("lock");
        if !removed.contains(&member) {
            removed.push(member);
        }
        Ok(())
    }

    async fn seats(&self) -> Result<Vec<MemberSeat>, String> {
        let first = (MemberId(1), "a1".to_owned(), "10.77.0.11:2380".to_owned(), true);
        let (removed, silent) =
            (self.removed.lock().expect("lock"), self.silent.lock().expect("lock"));
        let added = self.added.lock().expect("lock");
        let seats =
            std::iter::once(&first).chain(added.iter()).map(|(id, name, address, voter)| {
                MemberSeat {
                    id: *id,
                    name: name.clone(),
                    address: address.clone(),
                    voter: *voter,
                    leader: id.0 == 1,
                    answers: !silent.contains(id),
                    lag_entries: Some(0),
                }
            });
        Ok(seats.filter(|seat| !removed.contains(&seat.id)).collect())
    }
}

/// Nobody else is there.
#[derive(Debug)]
pub(crate) struct Alone;

#[async_trait]
impl Others for Alone {
    async fn take_out(&self, _: &str) -> Result<Removed, String> {
        Err("nobody else is there".into())
    }
}

/// A clock that is set by hand.
pub(crate) fn clock(start: Timestamp) -> (Clock, Arc<Mutex<Timestamp>>) {
    let now = Arc::new(Mutex::new(start));
    let shared = Arc::clone(&now);
    (Arc::new(move || *shared.lock().expect("lock")), now)
}

/// One key, in use.
pub(crate) fn secrets() -> Arc<SecretKeys> {
    let mut ring = KeyRing::default();
    ring.add([new_secret_key(Timestamp::UNIX_EPOCH)]).expect("a new key");
    let id = ring.ids()[0];
    let keys = SecretKeys::default();
    keys.set(ring, Some(id));
    Arc::new(keys)
}
