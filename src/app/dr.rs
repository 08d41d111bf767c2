//! Gathers `holdfast dr status` from what this node holds itself, and from the leader if it
//! answers; writes the canary; has the commit mode set.
//!
//! Why from itself: at the remote center, with the city cut off or gone, nobody else is
//! there to ask.
//! Not here: what the loss may be (`logic/rpo`), the modes (`store/modes`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::dr_view::{Facts, next_loss, problems};
use super::remote_site::{has_other_site, remote_members};
use crate::api::dr::DrBackend;
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::logic::remote_sync::durable_on_two;
use crate::logic::rpo::{Known, LeaderWord, rpo};
use crate::model::cluster::Cluster;
use crate::model::cluster_record::{CLUSTER_KEY, ClusterRecord, NODES_PREFIX, NodeRecord};
use crate::model::commit_mode::CommitMode;
use crate::model::dr_status::{
    CANARY_KEY, CanaryRecord, CanaryView, CenterView, DrStatus, JournalView, LagView, MemberView,
    ModeRequest, SiteRole,
};
use crate::model::kv::{Op, RangeRequest, TxnRequest};
use crate::model::node_config::NodeConfig;
use crate::store::{Kv, LeaderView, MemberInfo, Replication, Store, StoreError};
use crate::sys::clock;

/// How long the leader may take to tell how far the others are.
const LEADER_DEADLINE: Duration = Duration::from_secs(1);
/// How often the leader writes a canary.
const CANARY_EVERY: Duration = Duration::from_secs(1);
/// Changes of the mode that the status shows.
const JOURNAL_SHOWN: usize = 5;

/// Disaster recovery as one control node sees it.
#[derive(Debug)]
pub(super) struct NodeDr {
    pub(super) config: Arc<NodeConfig>,
    pub(super) store: Arc<Store>,
}

/// What this node's own copy has; the rest may be out of reach.
pub(super) async fn local<T>(store: &Store, request: RangeRequest) -> Vec<T>
where
    T: serde::de::DeserializeOwned,
{
    let request = RangeRequest { serializable: true, ..request };
    let found = store.range(request).await.map(|answer| answer.kvs).unwrap_or_default();
    found.iter().filter_map(|kv| serde_json::from_slice(&kv.value).ok()).collect()
}

async fn cluster_record(store: &Store) -> Option<ClusterRecord> {
    local(store, RangeRequest::key(CLUSTER_KEY.as_bytes())).await.into_iter().next()
}

impl NodeDr {
    async fn nodes(&self) -> Vec<NodeRecord> {
        local(&self.store, RangeRequest::prefix(NODES_PREFIX.as_bytes())).await
    }

    async fn canary(&self, now: Timestamp) -> Option<CanaryView> {
        let request = RangeRequest::key(CANARY_KEY.as_bytes());
        let record: CanaryRecord = local(&self.store, request).await.into_iter().next()?;
        let age_ms = now.as_millisecond() - record.at.as_millisecond();
        Some(CanaryView { number: record.number, written: record.at, by: record.by, age_ms })
    }
}

fn lag_of(leader: &LeaderView, member: u64) -> Option<LagView> {
    let found = leader.members.iter().find(|lag| lag.member.0 == member)?;
    Some(LagView { entries: found.entries, bytes: found.bytes, oldest_ms: found.age_ms })
}

/// What two of the remote center's members have not confirmed.
fn leader_word(replication: &Replication, remote: &BTreeSet<MemberId>) -> Option<LeaderWord> {
    let leader = replication.leader.as_ref()?;
    let lags = leader.members.iter().filter(|lag| remote.contains(&lag.member));
    let matched: Vec<u64> = lags.clone().map(|lag| lag.matched).collect();
    let held = durable_on_two(&matched);
    let oldest = lags.filter(|lag| lag.matched <= held).map(|lag| lag.age_ms).min();
    Some(LeaderWord {
        promised_ms: leader.promised_ms,
        entries: leader.last_log_index.saturating_sub(held),
        oldest_ms: oldest.unwrap_or(0),
    })
}

/// The members of the remote center: those that answers count, or, while they count none,
/// those that stand there.
fn remote_of(
    replication: &Replication,
    cluster: Option<&Cluster>,
    nodes: &[NodeRecord],
    members: &[MemberInfo],
) -> BTreeSet<MemberId> {
    if replication.commitment.mode != CommitMode::Majority {
        return replication.commitment.remote.iter().copied().map(MemberId).collect();
    }
    cluster.map(|cluster| remote_members(cluster, nodes, members)).unwrap_or_default()
}

/// The centers in the order of the cluster file, with the members that stand there.
fn centers(
    nodes: &[NodeRecord],
    order: &[(String, String)],
    replication: &Replication,
    status: &crate::store::StoreStatus,
) -> Vec<CenterView> {
    let mut found: BTreeMap<usize, CenterView> = BTreeMap::new();
    for member in &status.members {
        let Some(node) = nodes.iter().find(|node| node.member_id == Some(member.member)) else {
            continue;
        };
        let known = order.iter().position(|(_, center)| *center == node.center);
        let center = found.entry(known.unwrap_or(order.len())).or_insert_with(|| CenterView {
            name: node.center.clone(),
            site: node.site.clone(),
            members: Vec::new(),
            lag: None,
        });
        let answers = member.member == status.member
            || member.silent_ms.is_some_and(|silent| silent <= super::status_view::SILENCE_MAX_MS);
        let lag = replication.leader.as_ref().and_then(|leader| lag_of(leader, member.member.0));
        center.members.push(MemberView {
            name: node.name.clone(),
            voter: member.voter,
            answers,
            lag,
        });
    }
    for center in found.values_mut() {
        center.members.sort_by(|one, other| one.name.cmp(&other.name));
        center.lag = center
            .members
            .iter()
            .filter_map(|member| member.lag)
            .min_by_key(|lag| (lag.entries, lag.oldest_ms));
    }
    found.into_values().collect()
}

#[async_trait]
impl DrBackend for NodeDr {
    async fn status(&self) -> DrStatus {
        let now = clock::now();
        let (replication, status, cluster, nodes, canary) = tokio::join!(
            self.store.replication(LEADER_DEADLINE),
            self.store.status_with_lag(LEADER_DEADLINE),
            cluster_record(&self.store),
            self.nodes(),
            self.canary(now),
        );
        let cluster = cluster.map(|record| record.cluster);
        let remote = remote_of(&replication, cluster.as_ref(), &nodes, &status.members);
        let sites = cluster.map(|cluster| cluster.sites).unwrap_or_default();
        let order: Vec<(String, String)> = sites
            .iter()
            .flat_map(|site| site.centers.iter().map(|one| (site.name.clone(), one.name.clone())))
            .collect();
        let primary = sites.first().map(|site| site.name.clone()).unwrap_or_default();
        let own = nodes.iter().find(|node| node.name == self.config.node_name);
        let site = own.map(|own| own.site.clone()).unwrap_or_default();
        let role = if site == primary { SiteRole::Primary } else { SiteRole::Remote };
        let commitment = &replication.commitment;
        let leader = replication.leader.as_ref().map(|leader| leader.leader);
        let named = |member| nodes.iter().find(|node| node.member_id == Some(member));
        let known = Known {
            mode: commitment.mode,
            footing: commitment.footing,
            has_remote: remote.len() > 1,
            proven_ms: replication.proven_ms,
            promise_age_ms: replication.promise_age_ms,
            leader: leader_word(&replication, &remote),
            canary_age_ms: canary.as_ref().map(|canary| u64::try_from(canary.age_ms).unwrap_or(0)),
        };
        let facts = Facts {
            primary: &primary,
            centers: centers(&nodes, &order, &replication, &status),
            mode: commitment.mode,
            footing: commitment.footing,
            has_leader: leader.is_some(),
            silent_ms: replication.silent_ms,
            canary: canary.as_ref(),
            rpo: rpo(&known),
            has_remote: known.has_remote,
        };
        let journal = commitment.journal.iter().rev().take(JOURNAL_SHOWN);
        DrStatus {
            cluster: self.config.cluster_name.clone(),
            cluster_id: status.cluster,
            generation: status.generation,
            answered_by: self.config.node_name.clone(),
            center: own.map(|own| own.center.clone()).unwrap_or_default(),
            site,
            role,
            at: now,
            leader: leader.and_then(named).map(|node| node.name.clone()),
            term: replication.leader.as_ref().map(|leader| leader.term),
            mode: commitment.mode,
            footing: commitment.footing,
            is_current: leader.is_some(),
            silent_ms: replication.silent_ms,
            next_loss: next_loss(&facts),
            problems: problems(&facts),
            journal: journal
                .map(|note| JournalView {
                    index: note.index,
                    at: i64::try_from(note.at_ms)
                        .ok()
                        .filter(|at_ms| *at_ms > 0)
                        .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok()),
                    mode: note.mode,
                    footing: note.footing,
                    by: note.by.clone(),
                    reason: note.reason.clone(),
                })
                .collect(),
            centers: facts.centers,
            rpo: facts.rpo,
            canary,
        }
    }

    async fn set_mode(&self, request: ModeRequest, by: &str) -> Result<(), StoreError> {
        let by = format!("{by} at {}", self.config.node_name);
        let members = self.store.status().members;
        let remote = match cluster_record(&self.store).await {
            Some(record) => remote_members(&record.cluster, &self.nodes().await, &members),
            None => BTreeSet::new(),
        };
        self.store.set_commit_mode(request.mode, remote, &by, &request.reason).await
    }
}

/// Writes the canary every second where there are two sites, until this member leads no
/// longer.
pub(super) async fn sing(store: Arc<Store>, node_name: String, term: CancellationToken) {
    let mut tick = tokio::time::interval(CANARY_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            () = term.cancelled() => return,
            _ = tick.tick() => {}
        }
        if !cluster_record(&store).await.is_some_and(|record| has_other_site(&record.cluster)) {
            continue;
        }
        number += 1;
        let record = CanaryRecord { number, at: clock::now(), by: node_name.clone() };
        let Ok(value) = serde_json::to_vec(&record) else { continue };
        let success = vec![Op::put(CANARY_KEY, value)];
        let put = store.txn(TxnRequest { success, ..TxnRequest::default() });
        tokio::select! {
            () = term.cancelled() => return,
            done = put => if let Err(error) = done {
                tracing::debug!(error = chain(&error), "the canary was not written");
            },
        }
    }
}
