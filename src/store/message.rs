//! What members say to each other, inside the opaque bytes of `PeerNetwork`.
//!
//! Invariants: every message names the cluster, the generation and the disks it is from
//! and for, and is refused when one of them is wrong; a record's version comes first.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::lease::LeaseId;
use crate::model::recovery::SignedGeneration;
use crate::store::append_order::Place;
use crate::store::commitment::CommitmentWish;
use crate::store::lag::LeaderView;
use crate::store::quorum_loss::QuorumLoss;
use crate::store::state::Row;
use crate::store::status::StoreStatus;
use crate::store::types::{Lineage, LogId, Reply, SnapshotMeta, StartNote, TypeConfig, Vote};

/// A request with who asks whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) from: MemberId,
    pub(crate) from_start: StartNote,
    /// The sender's starts from the newest that its own state knows of.
    pub(crate) from_lineage: Lineage,
    pub(crate) to: MemberId,
    /// Which disk the sender knows under `to`; 0 if it knows none.
    pub(crate) to_incarnation: u64,
    /// The newest start of `to` that the sender's log knows of.
    pub(crate) to_start: Option<StartNote>,
    pub(crate) request: Request,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    SnapshotBegin {
        session: u64,
    },
    SnapshotRows {
        session: u64,
        number: u64,
        rows: Vec<Row>,
    },
    SnapshotEnd {
        session: u64,
        vote: Vote,
        meta: SnapshotMeta,
    },
    /// For the leader: put each of these commands in the log and say what came of it.
    Propose {
        commands: Vec<Bytes>,
    },
    /// For the leader: which log index must a read that starts now wait for?
    ReadIndex,
    /// For the leader: change the membership.
    Change(MembershipChange),
    /// Which disk is behind this address?
    Hello,
    Status,
    /// For the leader: this lease's holder lives.
    KeepAlive {
        id: LeaseId,
    },
    /// For the leader: how long has this lease?
    LeaseLeft {
        id: LeaseId,
    },
    /// A later generation was made; this is its record.
    Fence(SignedGeneration),
    /// One page of the state, for a member whose own is damaged.
    LendState {
        session: u64,
        number: u64,
    },
    /// A replication message among others that are under way.
    AppendInTurn {
        place: Place,
        rpc: AppendEntriesRequest<TypeConfig>,
    },
    /// The same, or one that is alone, and up to where answers may show what is applied. Not
    /// sent while answers wait for nobody but a majority.
    AppendKnowing {
        place: Option<Place>,
        rpc: AppendEntriesRequest<TypeConfig>,
        safe: u64,
    },
    /// Up to where answers may show what is applied.
    Safe {
        index: u64,
    },
    /// Of the remote center, for the leader: will the city not fall back for a while?
    Promise,
    /// For the leader: what answers wait for shall change.
    Commitment(CommitmentWish),
    /// For the leader: who lacks what?
    Replication,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MembershipChange {
    Add {
        member: MemberId,
        name: String,
        address: String,
        voter: bool,
    },
    Remove {
        member: MemberId,
    },
    /// Exactly these vote; who voted before stays as a learner.
    SetVoters {
        voters: BTreeSet<MemberId>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    SnapshotReady,
    SnapshotInstalled(SnapshotResponse<TypeConfig>),
    /// One for each command.
    Proposed(Vec<Result<Reply, Unproposed>>),
    ReadIndex(Result<u64, Unread>),
    Changed(Result<(), ChangeRefused>),
    Hello {
        incarnation: u64,
    },
    Status(Box<StoreStatus>),
    KeepAlive(Result<i64, LeaseUnserved>),
    /// Milliseconds; none if there is no such lease.
    LeaseLeft(Result<Option<u64>, LeaseUnserved>),
    Rejected(Rejection),
    /// The member could not do it; nothing is known about why it would later.
    Failed {
        reason: String,
    },
    /// Whether the receiver's generation has ended by the record that it was shown.
    FenceHeard {
        ended: bool,
    },
    /// An empty page is the last one.
    StateRows {
        applied: LogId,
        rows: Vec<Row>,
    },
    Heard,
    Promise {
        given: bool,
    },
    /// None if it does not lead.
    Replication(Option<Box<LeaderView>>),
}

/// Why a read has no index.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Unread {
    /// Ask again, perhaps elsewhere.
    #[error("{reason}")]
    Later { reason: String },
    /// This member leads, but nobody follows it.
    #[error("{0}")]
    NoQuorum(QuorumLoss),
}

/// Why a proposal has no reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Unproposed {
    /// It never reached the log.
    NotLeader,
    /// This member leads, but nobody follows it; it never reached the log.
    NoQuorum(QuorumLoss),
    /// It may be in the log.
    Unknown { reason: String },
    /// A disk is nearly full; it never reached the log.
    NoSpace { reason: String },
    /// The commit mode does not let it in; it never reached the log.
    HeldBack { reason: String },
}

/// Why the leader did not answer about a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum LeaseUnserved {
    /// There is no such lease.
    Gone,
    /// Ask again, perhaps elsewhere.
    Later { reason: String },
}

/// Why the membership was not changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ChangeRefused {
    /// Ask again, perhaps elsewhere.
    Later { reason: String },
    /// It will never be done.
    Never { reason: String },
}

/// Why a message was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("the message cannot be read: {reason}")]
    Garbled { reason: String },
    #[error("the message is for cluster {expected}, this is {found}")]
    Cluster { expected: ClusterId, found: ClusterId },
    #[error("the message is of generation {theirs}, this member lives in {ours}")]
    Generation { theirs: Generation, ours: Generation },
    #[error("the message is for member {expected}, this is {found}")]
    Member { expected: MemberId, found: MemberId },
    /// The receiver lost its disk or runs from an old copy of it; the sender is right.
    #[error(
        "member {member} has lost its disk or runs from an older copy of it; it must rejoin \
         under a new id"
    )]
    ReceiverForgot { member: MemberId },
    /// The sender lost its disk or runs from an old copy of it.
    #[error(
        "member {member} has another or an older disk than its peers remember ({detail}); it \
         must rejoin under a new id"
    )]
    SenderForgot { member: MemberId, detail: String },
    /// The sender was taken out of the group, and this member has applied that.
    #[error("member {member} was removed from the cluster")]
    SenderRemoved { member: MemberId },
    #[error("member {member} was removed from the cluster and answers nothing any more")]
    ReceiverRemoved { member: MemberId },
    /// The sender's generation has ended.
    #[error("a later generation was made; the sender's has ended")]
    Fenced { record: SignedGeneration },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::encode;

    /// The number of a variant, behind the record's version.
    fn number<T: Serialize>(message: &T) -> u8 {
        encode(message)[1]
    }

    #[test]
    fn messages_that_were_once_sent_keep_their_numbers() {
        let record = SignedGeneration { record: String::new(), signature: String::new() };
        let member = MemberId(1);
        assert_eq!(number(&Request::SnapshotBegin { session: 1 }), 4);
        assert_eq!(number(&Request::ReadIndex), 8);
        assert_eq!(number(&Request::Hello), 10);
        assert_eq!(number(&Request::Status), 11);
        assert_eq!(number(&Request::LeaseLeft { id: 1 }), 13);
        assert_eq!(number(&Request::Fence(record.clone())), 14);
        assert_eq!(number(&Request::LendState { session: 1, number: 0 }), 15);
        let place = Place { lane: 1, session: 1, number: 0 };
        let rpc = AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        assert_eq!(number(&Request::AppendInTurn { place, rpc }), 16);
        assert_eq!(number(&Request::Safe { index: 1 }), 18);
        assert_eq!(number(&Request::Replication), 21);
        assert_eq!(number(&Answer::Heard), 16);
        assert_eq!(number(&Answer::Replication(None)), 18);
        assert_eq!(number(&Answer::SnapshotReady), 3);
        assert_eq!(number(&Answer::Hello { incarnation: 1 }), 8);
        assert_eq!(number(&Answer::LeaseLeft(Ok(None))), 11);
        assert_eq!(number(&Answer::Failed { reason: String::new() }), 13);
        assert_eq!(number(&Answer::FenceHeard { ended: true }), 14);
        assert_eq!(number(&Rejection::ReceiverForgot { member }), 4);
        assert_eq!(number(&Rejection::ReceiverRemoved { member }), 7);
        assert_eq!(number(&Rejection::Fenced { record }), 8);
    }
}
