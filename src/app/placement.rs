//! Keeps the votes of the store where `logic/placement` wants them; the leader's work.
//!
//! ```text
//!  every PERIOD: records of nodes + who answers ─► who should vote ─► one joint change
//! ```
//! Why a loop and not a step of joining: who should vote depends on all others, and changes
//! when a center is lost or comes back.
//! Invariants: a silence counts only after HOLD_OFF, and so does its end; a member without a
//! record of its node keeps what it has. A second leader beside this one for a moment does
//! no harm: a change is Raft's, and an old leader's is never committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::remote_site::{mode_of_file, remote_members};
use super::status_view::SILENCE_MAX_MS;
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::logic::placement::{Seat, wanted_voters};
use crate::model::cluster_record::{CLUSTER_KEY, ClusterRecord, NODES_PREFIX, NodeRecord};
use crate::model::kv::RangeRequest;
use crate::store::{Kv, MemberInfo, Store, StoreError};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a member is silent before its vote may be taken, and answers again before it
/// counts as there.
const HOLD_OFF: Duration = Duration::from_secs(15);

/// How long naming the remote center may hold up the votes; promises run out meanwhile.
const REMOTE_LIMIT: Duration = Duration::from_secs(8);

/// How long a change is waited for before the members are looked at again.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Placement {
    store: Arc<Store>,
    /// Whether each member answers, and since when.
    answering: BTreeMap<MemberId, (bool, Instant)>,
    /// Whether each counts as there.
    alive: BTreeMap<MemberId, bool>,
}

impl Placement {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, answering: BTreeMap::new(), alive: BTreeMap::new() }
    }

    /// Until this member leads no longer.
    pub(super) async fn run(mut self, term: CancellationToken) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! {
                () = term.cancelled() => return,
                done = self.look() => if let Err(error) = done {
                    tracing::debug!(error = chain(&error), "the votes could not be placed; they are looked at again");
                },
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let members = self.store.status().members;
        self.listen(&members);
        let Some(cluster) = self.cluster().await? else { return Ok(()) };
        let Some(primary) = cluster.cluster.sites.first().map(|site| site.name.clone()) else {
            return Ok(());
        };
        let nodes = self.nodes().await?;
        self.place_remote(&cluster, &nodes, &members).await;
        let place = |member: MemberId| {
            nodes.iter().find(|node| node.member_id == Some(member) && !node.leaving)
        };
        let seat = |member: &MemberInfo| {
            let node = place(member.member)?;
            Some(Seat {
                member: member.member,
                site: node.site.clone(),
                center: node.center.clone(),
                voter: member.voter,
                alive: self.alive.get(&member.member).copied().unwrap_or(true),
            })
        };
        let seats: Vec<Seat> = members.iter().filter_map(seat).collect();
        let placed: BTreeSet<MemberId> = seats.iter().map(|seat| seat.member).collect();
        let votes: BTreeSet<MemberId> =
            members.iter().filter(|one| one.voter).map(|one| one.member).collect();
        let mut wanted = wanted_voters(&seats, &primary);
        wanted.extend(votes.difference(&placed));
        if wanted == votes {
            return Ok(());
        }
        let names = |of: &BTreeSet<MemberId>| {
            let named = members.iter().filter(|member| of.contains(&member.member));
            named.map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        tracing::warn!(before = names(&votes), after = names(&wanted), "the votes change places");
        match tokio::time::timeout(CHANGE_LIMIT, self.store.set_voters(wanted)).await {
            Ok(done) => done,
            // It may still be under way; what is then is looked at anew.
            Err(_) => Ok(()),
        }
    }

    /// Takes in who answers; what is new holds at once, a change after the hold-off.
    fn listen(&mut self, members: &[MemberInfo]) {
        let now = Instant::now();
        for member in members {
            // One that never answered this leader is as silent as the leader is old.
            let answers = member.silent_ms.is_some_and(|silent| silent <= SILENCE_MAX_MS);
            let known = self.answering.entry(member.member).or_insert((answers, now));
            if known.0 != answers {
                *known = (answers, now);
            }
            let alive = self.alive.entry(member.member).or_insert(true);
            if known.1 + HOLD_OFF <= now {
                *alive = answers;
            }
        }
        let listed = |id: &MemberId| members.iter().any(|member| member.member == *id);
        self.answering.retain(|id, _| listed(id));
        self.alive.retain(|id, _| listed(id));
    }

    /// Tells the store who is of the other site, and the mode that the cluster file names.
    async fn place_remote(
        &self,
        cluster: &ClusterRecord,
        nodes: &[NodeRecord],
        members: &[MemberInfo],
    ) {
        let remote = remote_members(&cluster.cluster, nodes, members);
        let placed = self.store.place_remote(mode_of_file(&cluster.cluster), remote);
        match tokio::time::timeout(REMOTE_LIMIT, placed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = chain(&error), "the remote center is named later");
            }
            Err(_) => tracing::debug!("the remote center is named later"),
        }
    }

    async fn cluster(&self) -> Result<Option<ClusterRecord>, StoreError> {
        let found = self.store.range(RangeRequest::key(CLUSTER_KEY.as_bytes())).await?;
        Ok(found.kvs.first().and_then(|kv| serde_json::from_slice(&kv.value).ok()))
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let found = self.store.range(RangeRequest::prefix(NODES_PREFIX.as_bytes())).await?;
        Ok(found.kvs.iter().filter_map(|kv| serde_json::from_slice(&kv.value).ok()).collect())
    }
}
