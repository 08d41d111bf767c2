//! openraft's network traits over [`Outbound`].
//!
//! Several replication messages are under way at a time: what is written while the peer's
//! disk is busy is there when it is done, and the word that something is committed holds
//! up nothing that follows it. The peer keeps their order (`append_order`).
//!
//! Invariant: an unreachable peer is an error and never an answer, above all in pre-vote,
//! where openraft's default would take silence for consent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::{Instant, timeout_at};

use super::api::PeerError;
use super::append_order::{Place, UNDER_WAY};
use super::disk::{StoreDisk, run_on};
use super::message::{Answer, Request};
use super::outbound::{CallError, Outbound};
use super::runtime::random_u64;
use super::state::{Row, SnapshotData, rows_after};
use super::types::{Peer, TypeConfig, Vote};

/// A replication message waits for the peer's fsync, which a busy disk can hold up.
const APPEND_DEADLINE: Duration = Duration::from_millis(2_000);
/// How long the word that something is committed waits for entries to go with: a message of
/// its own for each write would cost both sides as much as the entry did. Reads that must
/// see the write do not wait, their round brings the word along.
const COMMIT_ALONE: Duration = Duration::from_millis(1);
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
            lane: random_u64(),
            session: 0,
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
    /// Tells the peer this client's messages from others'.
    lane: u64,
    /// Streams of replication messages so far.
    session: u64,
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

fn unreachable(error: &CallError) -> Unreachable<TypeConfig> {
    Unreachable::new(error)
}

fn odd(answer: &Answer) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("unexpected answer {answer:?}")))
}

/// Where messages to one peer go.
#[derive(Clone, Debug)]
struct Way {
    target: u64,
    peer: Peer,
    outbound: Arc<Outbound>,
}

impl Way {
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

    /// The message, with the word of what may be shown if that is not all that is committed.
    fn append_request(
        &self,
        place: Option<Place>,
        rpc: AppendEntriesRequest<TypeConfig>,
    ) -> Request {
        match (self.outbound.safe_to_tell(self.target), place) {
            (Some(safe), place) => Request::AppendKnowing { place, rpc, safe },
            (None, Some(place)) => Request::AppendInTurn { place, rpc },
            (None, None) => Request::Append(rpc),
        }
    }

    /// Sends one replication message, which may wait at the peer for those before it.
    async fn append(
        self,
        place: Place,
        rpc: AppendEntriesRequest<TypeConfig>,
        deadline: Duration,
    ) -> Appended {
        let before = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(before);
        // Waits for nothing at the peer.
        let alone = place.number == 0 && rpc.entries.is_empty();
        let sent = Instant::now();
        let request = self.append_request(Some(place), rpc);
        let answer = self.call(request, deadline).await?;
        if alone {
            self.outbound.measured().round_trip(self.target, sent.elapsed());
        }
        match answer {
            Answer::Append(response) => Ok(response.into_stream_result(before, last)),
            answer => Err(odd(&answer)),
        }
    }
}

/// Leaves out what tells of a commit alone, if something that tells of it too comes soon.
fn worth_sending<S>(input: S) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    stream::unfold((input, true), async |(mut input, first)| {
        let mut rpc = input.next().await?;
        let until = Instant::now() + COMMIT_ALONE;
        // The first one also asks whether the peer's log is as it is thought to be.
        while !first && rpc.entries.is_empty() {
            match timeout_at(until, input.next()).await {
                Ok(Some(later)) => rpc = later,
                Ok(None) | Err(_) => break,
            }
        }
        Some((rpc, (input, false)))
    })
}

impl Client {
    fn way(&self) -> Way {
        let (target, peer) = (self.target, self.peer.clone());
        Way { target, peer, outbound: self.outbound.clone() }
    }

    async fn call(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, RPCError<TypeConfig>> {
        self.way().call(request, deadline).await
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
        let way = self.way();
        match way.call(way.append_request(None, rpc), deadline).await? {
            Answer::Append(response) => Ok(response),
            answer => Err(odd(&answer)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        self.session += 1;
        let (way, lane, session) = (self.way(), self.lane, self.session);
        let sent = worth_sending(input).boxed().enumerate().map(move |(number, rpc)| {
            let place = Place { lane, session, number: number as u64 };
            // One that waits for nothing before it shows soonest that the peer is silent.
            let alone = number == 0 && rpc.entries.is_empty();
            let deadline = if alone { option.hard_ttl() * 3 } else { APPEND_DEADLINE };
            way.clone().append(place, rpc, deadline)
        });
        let answers = stream::unfold(Some(sent.buffered(UNDER_WAY)), async |answers| {
            let mut answers = answers?;
            let answer = answers.next().await?;
            // Nothing that follows what went wrong can go right.
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(answers)))
        });
        Box::pin(async move { Ok(answers.boxed()) })
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
