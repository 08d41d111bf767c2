//! Answers peers' messages.
//!
//! Invariant: a message is looked at only after its cluster, generation and disks were
//! found right; a member whose disk is not the one its peers remember takes part in
//! nothing.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Snapshot;
use openraft::raft::SnapshotResponse;
use tokio::time::Instant;

use super::health::Health;
use super::member::{Shared, Store};
use super::message::{Answer, Envelope, Rejection, Request};
use super::propose::WRITE_BUDGET;
use super::state::{Incoming, Row, SnapshotData};
use super::types::{SnapshotMeta, TypeConfig, Vote};
use crate::base::chain::chain;
use crate::store::codec::{decode, encode};

/// The one snapshot that is being received, and the last that was installed.
#[derive(Debug, Default)]
pub(super) struct IncomingSlot {
    open: Option<IncomingSession>,
    /// Kept because the answer to the last page may be lost and the page sent again.
    installed: Option<(u64, SnapshotResponse<TypeConfig>)>,
}

/// A snapshot that is being received.
#[derive(Debug)]
struct IncomingSession {
    session: u64,
    /// Pages received; a page that comes again is not written again.
    pages: u64,
    incoming: Incoming,
}

impl Store {
    /// Answers one message of a peer; what `PeerNetwork::call` brings to the other side.
    pub async fn receive(&self, message: Bytes) -> Bytes {
        let shared = &self.shared;
        let answer = match decode::<Envelope>(&message) {
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
            return Err(Rejection::Generation { theirs, ours });
        }
        if envelope.to != own.member {
            return Err(Rejection::Member { expected: envelope.to, found: own.member });
        }
        self.admit_sender(envelope)?;
        if envelope.to_incarnation != 0 && envelope.to_incarnation != own.incarnation {
            let rejection = Rejection::ReceiverForgot { member: own.member };
            Health::forgotten(&self.health, &rejection.to_string());
            return Err(rejection);
        }
        if matches!(*self.health.borrow(), Health::Forgotten { .. })
            && !matches!(envelope.request, Request::Hello | Request::Status)
        {
            return Err(Rejection::ReceiverForgot { member: own.member });
        }
        Ok(())
    }

    /// Whether the sender's disk is the one this member knows, and no older.
    fn admit_sender(&self, envelope: &Envelope) -> Result<(), Rejection> {
        let member = envelope.from;
        let forgot = |detail: String| Err(Rejection::SenderForgot { member, detail });
        if let Some((incarnation, boot)) = self.state.remembered_boot(member.0) {
            if incarnation != envelope.from_incarnation {
                return forgot("another disk announced itself under this id".into());
            }
            if envelope.from_boot.0 < boot {
                return forgot(format!("start {} after start {boot}", envelope.from_boot));
            }
        }
        if let Some(peer) = self.outbound.peer(member.0)
            && peer.incarnation != 0
            && peer.incarnation != envelope.from_incarnation
        {
            return forgot("the membership names another disk under this id".into());
        }
        Ok(())
    }

    async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        match request {
            Request::Append(rpc) => match self.raft.append_entries(rpc).await {
                Ok(response) => Answer::Append(response),
                Err(error) => Answer::Failed { reason: error.to_string() },
            },
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
            Request::SnapshotBegin { session } => self.snapshot_begin(session).await,
            Request::SnapshotRows { session, number, rows } => {
                self.snapshot_rows(session, number, rows).await
            }
            Request::SnapshotEnd { session, vote, meta } => {
                self.snapshot_end(session, vote, meta).await
            }
            Request::Propose(command) => {
                Answer::Proposed(self.propose_here(command, Instant::now() + WRITE_BUDGET).await)
            }
            Request::ReadIndex => {
                Answer::ReadIndex(self.read_index_here(Instant::now() + WRITE_BUDGET).await)
            }
            Request::Change(change) => Answer::Changed(self.change_here(change).await),
            Request::Hello => Answer::Hello { incarnation: self.identity.incarnation },
            Request::Status => Answer::Status(Box::new(self.status())),
        }
    }

    async fn snapshot_begin(&self, session: u64) -> Answer {
        let mut slot = self.incoming.lock().await;
        if slot.open.as_ref().is_some_and(|open| open.session == session) {
            return Answer::SnapshotReady;
        }
        // The old file is closed before the new one takes its name.
        slot.open = None;
        match Incoming::begin(self.disk.clone()).await {
            Ok(incoming) => {
                slot.open = Some(IncomingSession { session, pages: 0, incoming });
                Answer::SnapshotReady
            }
            Err(error) => Answer::Failed { reason: chain(&error) },
        }
    }

    async fn snapshot_rows(&self, session: u64, number: u64, rows: Vec<Row>) -> Answer {
        let mut slot = self.incoming.lock().await;
        let Some(open) = slot.open.as_mut().filter(|open| open.session == session) else {
            return Answer::Failed { reason: "another snapshot has begun".into() };
        };
        if number < open.pages {
            return Answer::SnapshotReady;
        }
        if number > open.pages {
            return Answer::Failed { reason: format!("page {} is missing", open.pages) };
        }
        match open.incoming.add(&*self.disk, rows).await {
            Ok(()) => {
                open.pages += 1;
                Answer::SnapshotReady
            }
            Err(error) => Answer::Failed { reason: chain(&error) },
        }
    }

    async fn snapshot_end(&self, session: u64, vote: Vote, meta: SnapshotMeta) -> Answer {
        let mut slot = self.incoming.lock().await;
        if let Some((of, response)) = &slot.installed
            && *of == session
        {
            return Answer::SnapshotInstalled(response.clone());
        }
        let Some(open) = slot.open.take_if(|open| open.session == session) else {
            return Answer::Failed { reason: "another snapshot has begun".into() };
        };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Incoming(open.incoming) };
        // The slot stays locked: a new file must not take this one's name before it is
        // installed.
        match self.raft.install_full_snapshot(vote, snapshot).await {
            Ok(response) => {
                slot.installed = Some((session, response.clone()));
                Answer::SnapshotInstalled(response)
            }
            Err(error) => Answer::Failed { reason: error.to_string() },
        }
    }
}
