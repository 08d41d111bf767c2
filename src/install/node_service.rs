//! The cluster's nodes: lists them, and takes one out for good.
//!
//! ```text
//!  judged ► 1 marked: record says leaving, its key is refused from here on   (one txn)
//!         ► 2 out of the store's group        ► 3 Node object and pods deleted
//!         ► 4 presence in the registry gone   ► 5 record deleted: name and range are free
//! ```
//! Why this order, and what a crash between the steps means: before 1 nothing has happened.
//! After 1 the node is on its way out and cannot come back: its certificate opens nothing,
//! so it cannot make its Node object again, and nobody can join under its name. After 2 a
//! majority no longer counts on it. Controllers replace the pods from 3 on. Only 5 frees
//! the name, so a successor never meets what its predecessor left. The same command goes
//! through all steps again, and each of them is no error where it was done.
//! Invariants: nothing waives the majority (`logic/departure`); a member id is never used
//! again; the mark is never taken back.
//! Not here: HTTP (`api/nodes`), the host of the node itself (`reset`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::client::typed::{Kind, Typed};
use crate::client::{ApiError, DeleteOptions, ListOptions, ObjectKey, SharedApi};
use crate::logic::departure::{MustStay, Remaining, Seat, judge};
use crate::model::cluster_record::{NODES_PREFIX, NodeRecord, REMOVED_PREFIX};
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::model::node_list::{MemberSeat, NodeList, Removed, RemovedKey, VotersLeft};
use crate::registry;
use crate::store::Kv;

use super::join_service::{Membership, node_key};
use super::node_view::{self, is_ready};
use super::refused::JoinRefused;
use super::removed_key::removed_key;
use super::secret_keys::forget_holder;
use super::tokens::{Clock, put_record, read_record, unchanged};

/// How long the group may take to let a member go; the same command waits on.
const MEMBER_DEADLINE: Duration = Duration::from_secs(8);
/// How often a transaction that lost a race is tried again.
const ATTEMPTS: usize = 16;

/// Who wants a node to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The administrator; `force` goes on although the node is still there.
    Operator { force: bool },
    /// The node itself.
    Own,
}

/// The way to the other control nodes; wired to `remote`.
#[async_trait]
pub trait Others: Send + Sync + std::fmt::Debug {
    /// Has one of them take this node out, as if it wished so itself: a member that left
    /// the group can write nothing any more, and so not finish its own removal.
    async fn take_out(&self, own_name: &str) -> Result<Removed, String>;
}

/// What the service needs.
#[derive(Clone)]
pub struct NodeServiceInput {
    pub kv: Arc<dyn Kv>,
    /// The cluster's objects, with all rights.
    pub api: SharedApi,
    pub membership: Arc<dyn Membership>,
    /// The node that this runs on.
    pub own_name: String,
    pub others: Arc<dyn Others>,
    pub clock: Clock,
}

impl std::fmt::Debug for NodeServiceInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeServiceInput").field("own", &self.own_name).finish_non_exhaustive()
    }
}

/// Lists and removes nodes; one on every control node.
pub struct NodeService {
    input: NodeServiceInput,
    nodes: Typed<Node>,
    pods: Typed<Pod>,
}

impl std::fmt::Debug for NodeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeService").field("own", &self.input.own_name).finish_non_exhaustive()
    }
}

/// What is known under one name.
struct Found {
    record: Option<(NodeRecord, i64)>,
    seats: Vec<MemberSeat>,
    object: Option<Node>,
    group: Vec<Seat>,
}

fn objects(error: ApiError) -> JoinRefused {
    JoinRefused::Membership { reason: format!("the cluster's objects: {}", chain(&error)) }
}

fn seat(seat: &MemberSeat) -> Seat {
    let (member, name) = (seat.id, seat.name.clone());
    Seat { member, name, voter: seat.voter, answers: seat.answers }
}

impl NodeService {
    pub fn new(input: NodeServiceInput) -> Self {
        let (nodes, pods) = (Typed::new(input.api.clone()), Typed::new(input.api.clone()));
        Self { input, nodes, pods }
    }

    /// Whether the node with this key was removed, as this member knows.
    pub async fn removed(&self, fingerprint: &str) -> Result<Option<RemovedKey>, JoinRefused> {
        removed_key(self.input.kv.as_ref(), fingerprint, false).await
    }

    /// All nodes, whatever it is that names them.
    pub async fn list(&self) -> Result<NodeList, JoinRefused> {
        let records = self.records().await?;
        // The list is wanted most when no leader tells; then it comes without the members.
        let seats = self.input.membership.seats().await.unwrap_or_default();
        let objects =
            self.nodes.list(None, &ListOptions::default()).await.map_err(self::objects)?;
        Ok(NodeList {
            answered_by: self.input.own_name.clone(),
            nodes: node_view::items(&records, &seats, &objects),
        })
    }

    async fn records(&self) -> Result<Vec<NodeRecord>, JoinRefused> {
        let answer = self.input.kv.range(RangeRequest::prefix(NODES_PREFIX.as_bytes())).await?;
        let parse = |found: &crate::model::kv::KeyValue| {
            serde_json::from_slice(&found.value).map_err(|error| JoinRefused::Damaged {
                key: String::from_utf8_lossy(&found.key).into_owned(),
                reason: error.to_string(),
            })
        };
        answer.kvs.iter().map(parse).collect()
    }

    /// Takes a node out of the cluster, or says why it must stay. Repeating it goes on
    /// where an earlier one stopped.
    pub async fn remove(&self, name: &str, wish: Wish) -> Result<Removed, JoinRefused> {
        let found = self.find(name).await?;
        if found.record.is_none() && found.seats.is_empty() && found.object.is_none() {
            return self.absent(name).await;
        }
        let begun = found.record.as_ref().is_some_and(|(record, _)| record.leaving);
        if !begun && wish == (Wish::Operator { force: false }) {
            refuse_living(name, &found)?;
        }
        let remaining = judge_all(&found)?;
        if name == self.input.own_name {
            let taken = self.input.others.take_out(name).await;
            let node_name = name.to_owned();
            return taken.map_err(|reason| JoinRefused::OwnNode { node_name, reason });
        }
        self.mark(name).await?;
        let unfinished = |step: &'static str, reason: String| JoinRefused::Unfinished {
            node_name: name.to_owned(),
            step,
            reason,
        };
        let mut members = Vec::new();
        for seat in &found.seats {
            self.release(seat.id).await.map_err(|r| unfinished("leave the store's group", r))?;
            members.push(seat.id);
        }
        let pods = self
            .clear_objects(name)
            .await
            .map_err(|error| unfinished("delete the Node and its pods", chain(&error)))?;
        registry::forget_node(Arc::clone(&self.input.kv), name)
            .await
            .map_err(|error| unfinished("forget its images", chain(&error)))?;
        self.erase(name).await?;
        tracing::info!(node = name, ?members, pods, "node removed");
        let Remaining { voters, tolerates } = remaining;
        let left = Some(VotersLeft { voters, tolerates });
        Ok(Removed { name: name.to_owned(), already_done: false, members, pods, left })
    }

    /// A node wants to go. It proves by its key that it is the one of that name, for a
    /// successor may have the name by now.
    pub async fn leave(&self, name: &str, key_fingerprint: &str) -> Result<Removed, JoinRefused> {
        let kv = self.input.kv.as_ref();
        let record = read_record::<NodeRecord>(kv, &node_key(name)).await?.value;
        if record.is_none_or(|record| record.key_fingerprint == key_fingerprint) {
            return self.remove(name, Wish::Own).await;
        }
        if removed_key(kv, key_fingerprint, true).await?.is_some() {
            return Ok(gone_before(name));
        }
        let reason = format!("another host is node {name} now");
        Err(JoinRefused::Forbidden { reason })
    }

    async fn find(&self, name: &str) -> Result<Found, JoinRefused> {
        let seats = self.input.membership.seats().await;
        let seats = seats.map_err(|reason| JoinRefused::Membership { reason })?;
        let group = seats.iter().map(seat).collect();
        let record = read_record::<NodeRecord>(self.input.kv.as_ref(), &node_key(name)).await?;
        let object = self.nodes.find(&ObjectKey::cluster(name)).await.map_err(objects)?;
        // An earlier life of the name may have left a member of the same name behind.
        let own = record.value.as_ref().and_then(|record| record.member_id);
        let seats =
            seats.into_iter().filter(|seat| seat.name == name || Some(seat.id) == own).collect();
        let record = record.value.map(|value| (value, record.revision));
        Ok(Found { record, seats, object, group })
    }

    /// Nobody of that name: it was removed before, or the name is wrong.
    async fn absent(&self, name: &str) -> Result<Removed, JoinRefused> {
        let answer = self.input.kv.range(RangeRequest::prefix(REMOVED_PREFIX.as_bytes())).await?;
        let parse = |kv: &crate::model::kv::KeyValue| serde_json::from_slice(&kv.value).ok();
        let before: Vec<RemovedKey> = answer.kvs.iter().filter_map(parse).collect();
        if before.iter().any(|gone| gone.node_name == name) {
            return Ok(gone_before(name));
        }
        let list = self.list().await?;
        let known: Vec<String> = list.nodes.into_iter().map(|node| node.name).collect();
        let node_name = name.to_owned();
        Err(JoinRefused::NodeAbsent { node_name, known: known.join(", ") })
    }

    /// Step 1. A stray without a record has no key to refuse and no name to keep.
    async fn mark(&self, name: &str) -> Result<(), JoinRefused> {
        let key = node_key(name);
        for _ in 0..ATTEMPTS {
            let found = read_record::<NodeRecord>(self.input.kv.as_ref(), &key).await?;
            let Some(mut record) = found.value.filter(|record| !record.leaving) else {
                return Ok(());
            };
            record.leaving = true;
            let gone = RemovedKey {
                node_name: record.name.clone(),
                member_id: record.member_id,
                at: (self.input.clock)(),
            };
            let removed = format!("{REMOVED_PREFIX}{}", record.key_fingerprint);
            let txn = TxnRequest {
                compare: vec![unchanged(&key, found.revision)],
                success: vec![put_record(&key, &record), put_record(&removed, &gone)],
                failure: Vec::new(),
            };
            if self.input.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(JoinRefused::Contended)
    }

    /// Step 2.
    async fn release(&self, member: MemberId) -> Result<(), String> {
        let removal = self.input.membership.remove_member(member);
        match tokio::time::timeout(MEMBER_DEADLINE, removal).await {
            Ok(done) => done,
            Err(_) => Err("the group has not agreed in time".to_owned()),
        }
    }

    /// Step 3. The Node first: while it is there, the scheduler may put new pods on it.
    async fn clear_objects(&self, name: &str) -> Result<u32, ApiError> {
        match self.nodes.delete(&ObjectKey::cluster(name), &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let on_it = ListOptions {
            field_selector: Some(format!("spec.nodeName={name}")),
            ..ListOptions::default()
        };
        let mut count = 0;
        for pod in self.pods.list(None, &on_it).await? {
            tracing::info!(node = name, pod = %pod.key(), "deleted with its node");
            self.pods.delete_if_same(&pod, Some(0)).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Step 5.
    async fn erase(&self, name: &str) -> Result<(), JoinRefused> {
        let key = node_key(name);
        for _ in 0..ATTEMPTS {
            let found = read_record::<NodeRecord>(self.input.kv.as_ref(), &key).await?;
            // A record that is not leaving is a successor's: another command was faster.
            if !found.value.is_some_and(|record| record.leaving) {
                return Ok(());
            }
            let txn = TxnRequest {
                compare: vec![unchanged(&key, found.revision)],
                success: vec![Op::delete(key.clone().into_bytes()), forget_holder(name)],
                failure: Vec::new(),
            };
            if self.input.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(JoinRefused::Contended)
    }
}

fn gone_before(name: &str) -> Removed {
    let (name, members) = (name.to_owned(), Vec::new());
    Removed { name, already_done: true, members, pods: 0, left: None }
}

/// A node that lives is asked to go, not thrown out.
fn refuse_living(name: &str, found: &Found) -> Result<(), JoinRefused> {
    let mut signs = Vec::new();
    if found.object.as_ref().is_some_and(is_ready) {
        signs.push("its agent reports that it is Ready");
    }
    if found.seats.iter().any(|seat| seat.answers) {
        signs.push("its member of the store answers");
    }
    if signs.is_empty() {
        return Ok(());
    }
    Err(JoinRefused::NodeAlive { node_name: name.to_owned(), why: signs.join(" and ") })
}

/// Judges the departure of every seat under the name, one after the other.
fn judge_all(found: &Found) -> Result<Remaining, JoinRefused> {
    let mut group = found.group.clone();
    let leaving = found.seats.iter().map(|seat| seat.id).chain([MemberId(0)]);
    let mut last = None;
    for member in leaving {
        last = Some(judge(&group, member).map_err(JoinRefused::MustStay)?);
        group.retain(|seat| seat.member != member);
    }
    last.ok_or(JoinRefused::MustStay(MustStay::Last { name: String::new() }))
}
