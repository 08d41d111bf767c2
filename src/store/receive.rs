//! Answers peers' messages.
//!
//! Invariant: a message is looked at only after its cluster, generation and disks were
//! found right; a member whose disk is not the one its peers remember takes part in
//! nothing.

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::time::Instant;

use super::health::Health;
use super::member::Store;
use super::message::{Answer, Envelope, Rejection, Request};
use super::shared::{Shared, WRITE_BUDGET};
use super::types::TypeConfig;
use crate::base::chain::chain;
use crate::store::codec::{decode, encode};

impl Store {
    /// Answers one message of a peer; what `PeerNetwork::call` brings to the other side.
    pub async fn receive(&self, message: Bytes) -> Bytes {
        let shared = &self.shared;
        let answer = match decode::<Envelope>(&message) {
            Ok(Envelope { cluster, request: Request::Fence(record), .. })
                if cluster == shared.identity.cluster =>
            {
                Answer::FenceHeard { ended: shared.generations.fence(&record) }
            }
            Ok(envelope) => match shared.admit(&envelope) {
                Ok(()) => shared.answer(envelope.request).await,
                Err(rejection) => Answer::Rejected(rejection),
            },
            Err(error) => Answer::Rejected(Rejection::Garbled { reason: chain(&error) }),
        };
        Bytes::from(encode(&answer))
    }
}

impl Shared {
    fn admit(&self, envelope: &Envelope) -> Result<(), Rejection> {
        let own = &self.identity;
        if envelope.cluster != own.cluster {
            return Err(Rejection::Cluster { expected: envelope.cluster, found: own.cluster });
        }
        if envelope.generation != own.generation {
            let (theirs, ours) = (envelope.generation, own.generation);
            if theirs < ours
                && let Some(record) = self.generations.own()
            {
                return Err(Rejection::Fenced { record });
            }
            return Err(Rejection::Generation { theirs, ours });
        }
        if envelope.to != own.member {
            return Err(Rejection::Member { expected: envelope.to, found: own.member });
        }
        // Only what is committed and applied counts: a removal may still be undone before.
        if self.state.is_removed(envelope.from.0) {
            return Err(Rejection::SenderRemoved { member: envelope.from });
        }
        self.admit_sender(envelope)?;
        let foreign = envelope.to_incarnation != 0 && envelope.to_incarnation != own.incarnation;
        let overtaken = envelope
            .to_start
            .is_some_and(|newest| own.note().is_overtaken_by(&self.outbound.lineage(), &newest));
        if foreign || overtaken {
            let rejection = Rejection::ReceiverForgot { member: own.member };
            Health::forgotten(&self.health, &rejection.to_string());
            return Err(rejection);
        }
        if matches!(envelope.request, Request::Hello | Request::Status) {
            return Ok(());
        }
        match *self.health.borrow() {
            Health::Forgotten { .. } => Err(Rejection::ReceiverForgot { member: own.member }),
            Health::Removed => Err(Rejection::ReceiverRemoved { member: own.member }),
            _ => Ok(()),
        }
    }

    /// Whether the sender's disk is the one this member knows, and no older.
    fn admit_sender(&self, envelope: &Envelope) -> Result<(), Rejection> {
        let member = envelope.from;
        let forgot = |detail: String| Err(Rejection::SenderForgot { member, detail });
        if let Some(newest) = self.outbound.newest_start(member.0)
            && envelope.from_start.is_overtaken_by(&envelope.from_lineage, &newest)
        {
            return forgot(format!("{} after {newest}", envelope.from_start));
        }
        if let Some(peer) = self.outbound.peer(member.0)
            && peer.incarnation != 0
            && peer.incarnation != envelope.from_start.incarnation
        {
            return forgot("the membership names another disk under this id".into());
        }
        Ok(())
    }

    async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        match request {
            Request::Append(rpc) => self.append(rpc).await,
            Request::AppendInTurn { place, rpc } => {
                let appended = self.append_order.in_turn(place, self.append(rpc)).await;
                appended.unwrap_or_else(|error| Answer::Failed { reason: error.to_string() })
            }
            Request::Vote(rpc) => match self.raft.vote(rpc).await {
                Ok(response) => Answer::Vote(response),
                Err(error) => Answer::Failed { reason: error.to_string() },
            },
            Request::PreVote(rpc) => match self.raft.pre_vote(rpc).await {
                Ok(response) => Answer::Vote(response),
                Err(error) => Answer::Failed { reason: error.to_string() },
            },
            Request::TransferLeader(rpc) => match self.raft.handle_transfer_leader(rpc).await {
                Ok(response) => Answer::TransferLeader(response),
                Err(error) => Answer::Failed { reason: error.to_string() },
            },
            Request::SnapshotBegin { session } => {
                self.incoming.lock().await.begin(self.disk.clone(), session).await
            }
            Request::SnapshotRows { session, number, rows } => {
                self.quorum.leader_heard();
                self.incoming.lock().await.rows(&*self.disk, session, number, rows).await
            }
            Request::SnapshotEnd { session, vote, meta } => {
                // On a task of its own: the sender may give up and its request be dropped,
                // and then no new snapshot may take this one's file before it is installed.
                let shared = Arc::clone(self);
                let install = self.tracker.spawn(async move {
                    shared.incoming.lock().await.end(&shared.raft, session, vote, meta).await
                });
                install.await.unwrap_or_else(|error| Answer::Failed { reason: error.to_string() })
            }
            Request::Propose { commands } => self.propose_all_here(commands).await,
            Request::ReadIndex => {
                Answer::ReadIndex(self.read_index_here(Instant::now() + WRITE_BUDGET).await)
            }
            Request::Change(change) => Answer::Changed(self.change_here(change).await),
            Request::Hello => Answer::Hello { incarnation: self.identity.incarnation },
            Request::KeepAlive { id } => {
                let until = Instant::now() + WRITE_BUDGET;
                Answer::KeepAlive(self.keep_alive_here(id, until).await)
            }
            Request::LeaseLeft { id } => {
                let until = Instant::now() + WRITE_BUDGET;
                Answer::LeaseLeft(self.lease_left_here(id, until).await)
            }
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::LendState { session, number } => self.lend_state(session, number).await,
            Request::AppendKnowing { place, rpc, safe } => {
                let answer = match place {
                    None => self.append(rpc).await,
                    Some(place) => {
                        let appended = self.append_order.in_turn(place, self.append(rpc)).await;
                        appended
                            .unwrap_or_else(|error| Answer::Failed { reason: error.to_string() })
                    }
                };
                self.state.hear_safe(safe);
                answer
            }
            Request::Safe { index } => {
                self.state.hear_safe(index);
                Answer::Heard
            }
            Request::Promise => Answer::Promise { given: self.promise_here().await },
            Request::Commitment(wish) => Answer::Changed(self.fulfil_here(wish).await),
            Request::Replication => Answer::Replication(self.leader_view().await.map(Box::new)),
            // Of another cluster, or it would have been answered before.
            Request::Fence(_) => Answer::FenceHeard { ended: false },
        }
    }

    async fn append(&self, rpc: AppendEntriesRequest<TypeConfig>) -> Answer {
        match self.raft.append_entries(rpc).await {
            Ok(response) => {
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    self.quorum.leader_heard();
                }
                Answer::Append(response)
            }
            Err(error) => Answer::Failed { reason: error.to_string() },
        }
    }
}
