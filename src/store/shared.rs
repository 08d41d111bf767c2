//! What the parts of one member share, and what it knows of itself.
//!
//! Why a file of its own: reads, writes, peers' messages and membership changes all stand
//! on it, and it knows none of them.
//! Not here: opening and stopping (`member`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, RaftMetrics};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::StoreError;
use super::append_order::AppendOrder;
use super::disk::StoreDisk;
use super::footing::Modes;
use super::forward_queue::ForwardQueue;
use super::generation::Generations;
use super::health::Health;
use super::incoming::IncomingSlot;
use super::loan::Loan;
use super::log::{Identity, LogFile};
use super::message::{Answer, Request};
use super::outbound::Outbound;
use super::quorum::Quorum;
use super::read_gate::ReadGate;
use super::space::SpaceGuard;
use super::state::{Machine, STATE_FILE, StateStore};
use super::status::{MemberInfo, StoreStatus};
use super::types::{Peer, TypeConfig};
use super::watch::{Stream, WatchHub};
use crate::base::ids::MemberId;
use crate::model::auth::Caller;

/// Pause between attempts while nothing is known to have changed.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long a write may look for a leader and an answer.
pub(super) const WRITE_BUDGET: Duration = Duration::from_secs(10);
/// How long one attempt at one leader may take before another is asked; the answer to
/// both is the same.
pub(super) const ATTEMPT: Duration = Duration::from_millis(2_500);

/// The leader as Raft's own account of this member has it. A leader that left the group
/// leads no more, though its last vote still names it.
pub(super) fn leader_in(now: &RaftMetrics<TypeConfig>, own: MemberId) -> Option<MemberId> {
    let leader = MemberId(now.current_leader?);
    (leader != own || now.state.is_leader()).then_some(leader)
}

/// What the member's tasks share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) raft: Raft<TypeConfig, Machine>,
    pub(super) state: Arc<StateStore>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) disk: Arc<dyn StoreDisk>,
    pub(super) log: Arc<dyn LogFile>,
    pub(super) health: watch::Sender<Health>,
    pub(super) leader: watch::Sender<Option<MemberId>>,
    pub(super) tracker: TaskTracker,
    pub(super) cancel: CancellationToken,
    /// Distinguishes this run's requests from earlier ones.
    pub(super) run: u64,
    pub(super) sequence: AtomicU64,
    pub(super) gate: ReadGate,
    pub(super) quorum: Quorum,
    /// Proposals for a leader elsewhere.
    pub(super) forwards: ForwardQueue,
    /// Keepalives that wait for the word that this member leads.
    pub(super) lead_gate: ReadGate,
    pub(super) space: SpaceGuard,
    pub(super) hub: Arc<WatchHub>,
    /// Of the leader's messages.
    pub(super) append_order: AppendOrder,
    pub(super) incoming: tokio::sync::Mutex<IncomingSlot>,
    /// Membership changes are made one at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) generations: Arc<Generations>,
    /// Of the commit modes.
    pub(super) modes: Modes,
    /// A copy of the state that another member is fetching.
    pub(super) loan: tokio::sync::Mutex<Option<Loan>>,
}

impl Shared {
    pub(super) fn membership(&self) -> openraft::Membership<u64, Peer> {
        self.raft.metrics().borrow_watched().membership_config.membership().clone()
    }

    /// A stream of watches on somebody's behalf.
    pub(super) fn open_stream(&self, caller: Caller) -> Stream {
        let (hub, disk) = (self.hub.clone(), self.disk.clone());
        Stream::new(hub, disk, self.health.subscribe(), self.cancel.clone(), caller)
    }

    pub(super) async fn wait_for_leader(&self, within: Duration) -> Result<(), StoreError> {
        let mut leader = self.leader.subscribe();
        let found = tokio::time::timeout(within, leader.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::NoLeader { reason: "none was elected in time".into() }),
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let revisions = self.state.revisions();
        let last = metrics.last_log_index.unwrap_or(0);
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let matched = |member: u64| {
            let replication = metrics.replication.as_ref()?;
            if member == self.identity.member.0 {
                return Some(last);
            }
            replication.get(&member)?.as_ref().map(|matched| matched.index)
        };
        let silent = |member: u64| {
            let answered = metrics.heartbeat.as_ref()?;
            if member == self.identity.member.0 {
                return Some(0);
            }
            let last = answered.get(&member)?.as_ref()?;
            u64::try_from(last.elapsed().as_millis()).ok()
        };
        let members = metrics
            .membership_config
            .nodes()
            .map(|(member, peer)| MemberInfo {
                member: MemberId(*member),
                name: peer.name.clone(),
                address: peer.address.clone(),
                voter: voters.contains(member),
                matched: matched(*member),
                silent_ms: silent(*member),
                lag: matched(*member).map(|matched| last.saturating_sub(matched)),
            })
            .collect();
        StoreStatus {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            member: self.identity.member,
            boot: self.identity.boot,
            health: self.health.borrow().text(),
            leader: leader_in(&metrics, self.identity.member),
            term: metrics.current_term,
            last_log_index: last,
            committed: metrics.local_committed.map_or(0, |committed| committed.index),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            revision: revisions.current,
            compacted: revisions.compacted,
            log_bytes: self.log.bytes(),
            state_bytes: self.disk.size(STATE_FILE).unwrap_or(0),
            disk_free_bytes: self.space.free_bytes(),
            writes_refused: self.space.check().err().map(|error| error.to_string()),
            members,
        }
    }

    pub(super) async fn status_with_lag(&self, deadline: Duration) -> StoreStatus {
        let mut own = self.status();
        let Some(leader) = own.leader.filter(|leader| *leader != own.member) else { return own };
        match self.outbound.call_member(leader.0, Request::Status, deadline).await {
            // One that leads no more knows no lag, or an old one.
            Ok(Answer::Status(theirs)) if theirs.leader == Some(leader) => {
                if theirs.term >= own.term {
                    own.members = theirs.members;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the leader was not asked for the lag"),
        }
        own
    }

    /// Returns when another member than `known` leads. Who waits for an answer of `known`
    /// asks that one instead: the other may be dead, and then only silence would tell.
    pub(super) async fn other_leader(&self, known: MemberId) {
        let mut leader = self.leader.subscribe();
        if leader.wait_for(|now| now.is_some_and(|now| now != known)).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits a little, or until the leader is another one.
    pub(super) async fn pause(&self, known: Option<MemberId>) {
        let mut leader = self.leader.subscribe();
        let changed = leader.wait_for(|now| *now != known && now.is_some());
        let mut health = self.health.subscribe();
        tokio::select! {
            biased;
            _ = changed => {}
            _ = health.wait_for(|health| health.check().is_err()) => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
