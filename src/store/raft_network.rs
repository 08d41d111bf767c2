//! openraft's network traits over [`Outbound`].
//!
//! Invariant: an unreachable peer is an error and never an answer, above all in pre-vote,
//! where openraft's default would take silence for consent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::api::PeerError;
use super::disk::{StoreDisk, run_on};
use super::message::{Answer, Request};
use super::outbound::{CallError, Outbound};
use super::runtime::random_u64;
use super::state::{Row, SnapshotData, rows_after};
use super::types::{Peer, TypeConfig, Vote};

/// A replication message waits for the peer's fsync, which a busy disk can hold up.
const APPEND_DEADLINE: Duration = Duration::from_millis(2_000);
/// A page of a snapshot waits for a larger one.
const PAGE_DEADLINE: Duration = Duration::from_secs(5);
/// Installing waits for the state to be replaced and read.
const INSTALL_DEADLINE: Duration = Duration::from_secs(20);
/// How often a page is sent before the whole snapshot is begun again.
const PAGE_TRIES: usize = 4;
/// Rows in one message, bytes.
const PAGE_BYTES: usize = 1024 * 1024;

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// Makes a client for each peer.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) disk: Arc<dyn StoreDisk>,
}

impl RaftNetworkFactory<TypeConfig> for Clients {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        Client {
            target,
            peer: node.clone(),
            outbound: self.outbound.clone(),
            disk: self.disk.clone(),
        }
    }
}

/// Speaks to one peer.
#[derive(Debug)]
pub(crate) struct Client {
    target: u64,
    peer: Peer,
    outbound: Arc<Outbound>,
    disk: Arc<dyn StoreDisk>,
}

fn unreachable(error: &CallError) -> Unreachable<TypeConfig> {
    Unreachable::new(error)
}

fn odd(answer: &Answer) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("unexpected answer {answer:?}")))
}

impl Client {
    async fn call(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, RPCError<TypeConfig>> {
        // A membership newer than this client knows the peer's disk better.
        let peer = self.outbound.peer(self.target).unwrap_or_else(|| self.peer.clone());
        self.outbound
            .call(self.target, &peer, request, deadline)
            .await
            .map_err(|error| RPCError::Unreachable(unreachable(&error)))
    }

    async fn send(
        &self,
        vote: Vote,
        snapshot: RaftSnapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::View(view) = snapshot.snapshot else {
            let reason = "a received snapshot is not sent on";
            return Err(StreamingError::Unreachable(Unreachable::from_string(reason)));
        };
        let session = random_u64();
        self.ready(Request::SnapshotBegin { session }).await?;
        let mut after: Option<Row> = None;
        for number in 0_u64.. {
            let (of, last) = (view.clone(), after.take());
            let rows = run_on(&*self.disk, move || rows_after(&of, last.as_ref(), PAGE_BYTES))
                .await
                .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?
                .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
            let Some(last) = rows.last() else { break };
            after = Some(last.clone());
            self.ready(Request::SnapshotRows { session, number, rows }).await?;
        }
        let end = Request::SnapshotEnd { session, vote, meta: snapshot.meta };
        match self.page(end, INSTALL_DEADLINE).await? {
            Answer::SnapshotInstalled(response) => Ok(response),
            answer => Err(StreamingError::Unreachable(Unreachable::from_string(format!(
                "unexpected answer {answer:?}"
            )))),
        }
    }

    async fn ready(&self, request: Request) -> Result<(), StreamingError<TypeConfig>> {
        match self.page(request, PAGE_DEADLINE).await? {
            Answer::SnapshotReady => Ok(()),
            answer => Err(StreamingError::Unreachable(Unreachable::from_string(format!(
                "unexpected answer {answer:?}"
            )))),
        }
    }

    /// Sends one page, again if no answer comes: the receiver knows pages by number.
    async fn page(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, StreamingError<TypeConfig>> {
        let peer = self.outbound.peer(self.target).unwrap_or_else(|| self.peer.clone());
        let mut tries = 1;
        loop {
            let answer = self.outbound.call(self.target, &peer, request.clone(), deadline).await;
            match answer {
                Ok(answer) => return Ok(answer),
                Err(CallError::Peer(PeerError::NoAnswer { .. })) if tries < PAGE_TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(StreamingError::Unreachable(unreachable(&error))),
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = if rpc.entries.is_empty() { option.hard_ttl() * 3 } else { APPEND_DEADLINE };
        match self.call(Request::Append(rpc), deadline).await? {
            Answer::Append(response) => Ok(response),
            answer => Err(odd(&answer)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::Vote(rpc), option.hard_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            answer => Err(odd(&answer)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::PreVote(rpc), option.hard_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            answer => Err(odd(&answer)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::TransferLeader(request), option.hard_ttl()).await? {
            Answer::TransferLeader(response) => Ok(response),
            answer => Err(odd(&answer)),
        }
    }
}
