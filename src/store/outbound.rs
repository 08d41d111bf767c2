//! Sends messages to peers: wraps, calls, unwraps.
//!
//! Invariant: a call that was refused because this member's disk is not the one its peers
//! remember is reported to the whole member, not only to the caller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::api::{PeerError, PeerNetwork, PeerTarget};
use super::generation::Generations;
use super::health::Health;
use super::log::{Identity, NotedStarts};
use super::measured::Measured;
use super::message::{Answer, Envelope, Rejection, Request};
use super::state::StateStore;
use super::types::{Lineage, Peer, StartNote};
use crate::base::ids::MemberId;
use crate::logic::lineage;
use crate::store::codec::{decode, encode};

/// Why a call brought no useful answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("peer {member} refused: {rejection}")]
    Rejected { member: MemberId, rejection: Rejection },
    #[error("peer {member} failed: {reason}")]
    Failed { member: MemberId, reason: String },
    #[error("the address of member {member} is not known")]
    NoAddress { member: MemberId },
}

impl CallError {
    /// Whether the request may have been carried out.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            CallError::Peer(PeerError::NoAnswer { .. }) | CallError::Failed { .. } => true,
            CallError::Peer(PeerError::Unreachable { .. })
            | CallError::Rejected { .. }
            | CallError::NoAddress { .. } => false,
        }
    }
}

/// This member's way to the others.
#[derive(Debug)]
pub(crate) struct Outbound {
    network: Arc<dyn PeerNetwork>,
    identity: Identity,
    /// Every start of this disk that it remembers.
    starts: Lineage,
    state: Arc<StateStore>,
    noted: NotedStarts,
    peers: RwLock<BTreeMap<u64, Peer>>,
    health: watch::Sender<Health>,
    generations: Option<Arc<Generations>>,
    /// Up to where each peer was told that answers may show what is applied.
    told: Mutex<BTreeMap<u64, u64>>,
}

impl Outbound {
    pub(crate) fn new(
        network: Arc<dyn PeerNetwork>,
        identity: Identity,
        starts: Lineage,
        state: Arc<StateStore>,
        noted: NotedStarts,
        health: watch::Sender<Health>,
    ) -> Self {
        Self {
            network,
            identity,
            starts,
            state,
            noted,
            peers: RwLock::new(BTreeMap::new()),
            health,
            generations: None,
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.told.lock().expect("no holder of what was told panics")
    }

    /// What an append tells the peer of the safe index; none while nobody waits for it.
    pub(crate) fn safe_to_tell(&self, member: u64) -> Option<u64> {
        if !self.state.waits_for_remote() {
            return None;
        }
        let safe = self.state.heard_safe();
        self.note_told(member, safe);
        Some(safe)
    }

    pub(crate) fn note_told(&self, member: u64, safe: u64) {
        let mut told = self.told();
        let known = told.entry(member).or_default();
        *known = (*known).max(safe);
    }

    pub(crate) fn was_told(&self, member: u64, safe: u64) -> bool {
        self.told().get(&member).is_some_and(|told| *told >= safe)
    }

    /// Lets answers end this member's generation.
    pub(crate) fn with_generations(mut self, generations: Arc<Generations>) -> Self {
        self.generations = Some(generations);
        self
    }

    /// This disk's starts from the newest that the state knows of; that one comes first
    /// also if it was before all that the disk remembers.
    pub(crate) fn lineage(&self) -> Lineage {
        lineage::since(&self.starts, self.state.remembered_start(self.identity.member.0))
    }

    /// The newest start of a member that this one's log or state knows of.
    pub(crate) fn newest_start(&self, member: u64) -> Option<StartNote> {
        self.noted.newest(member, self.state.remembered_start(member))
    }

    /// Takes the newest membership's addresses.
    pub(crate) fn set_peers(&self, peers: BTreeMap<u64, Peer>) {
        *self.peers.write().expect("no holder of the peer table panics") = peers;
    }

    pub(crate) fn peer(&self, member: u64) -> Option<Peer> {
        self.peers.read().expect("no holder of the peer table panics").get(&member).cloned()
    }

    /// Calls a member of the membership.
    pub(crate) async fn call_member(
        &self,
        member: u64,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let Some(peer) = self.peer(member) else {
            return Err(CallError::NoAddress { member: MemberId(member) });
        };
        self.call(member, &peer, request, deadline).await
    }

    pub(crate) fn measured(&self) -> &Measured {
        &self.state.measured
    }

    /// Carries a message that the caller made.
    pub(crate) async fn carry(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        self.network.call(target, message, deadline).await
    }

    pub(crate) async fn call(
        &self,
        member: u64,
        peer: &Peer,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let member = MemberId(member);
        let envelope = Envelope {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            from: self.identity.member,
            from_start: self.identity.note(),
            from_lineage: self.lineage(),
            to: member,
            to_incarnation: peer.incarnation,
            to_start: self.newest_start(member.0),
            request,
        };
        let target = PeerTarget { member, address: peer.address.clone() };
        let message = Bytes::from(encode(&envelope));
        let bytes = self.network.call(&target, message, deadline).await?;
        match decode::<Answer>(&bytes) {
            Ok(Answer::Rejected(rejection)) => {
                match &rejection {
                    Rejection::SenderForgot { .. } => {
                        Health::forgotten(&self.health, &rejection.to_string());
                    }
                    Rejection::Fenced { record } => {
                        if let Some(generations) = &self.generations {
                            generations.fence(record);
                        }
                    }
                    Rejection::SenderRemoved { .. } => Health::removed(&self.health),
                    _ => {}
                }
                Err(CallError::Rejected { member, rejection })
            }
            Ok(Answer::Failed { reason }) => Err(CallError::Failed { member, reason }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(CallError::Failed { member, reason: error.to_string() }),
        }
    }
}
