//! What Raft carries for the store: commands, replies, peers.
//!
//! Invariant: these types are written to disk and sent to peers, so fields are only ever
//! added in a new record version (`codec`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::ids::MemberId;
use crate::logic::auth::AuthCommand;
use crate::logic::lease::LeaseMark;
pub(crate) use crate::logic::lineage::{Lineage, StartNote};
use crate::model::auth::AuthInfo;
use crate::model::kv::{Revision, TxnRequest, TxnResponse};
use crate::model::lease::{LeaseGranted, LeaseId};
use crate::store::admin_api::Alarm;
use crate::store::commitment::CommitmentChange;
use crate::store::runtime::StoreRuntime;

/// What the log can tell the state machine to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Txn {
        id: RequestId,
        /// What the origin had applied when it first sent the request. If the memory of
        /// answered requests reaches back no further than this, an unknown id may have
        /// been answered and forgotten.
        issued_at: u64,
        /// `None` is this program itself, which is not checked.
        by: Option<AuthInfo>,
        request: TxnRequest,
    },
    /// Anything else that is asked for and must be done once.
    Ask {
        id: RequestId,
        issued_at: u64,
        by: Option<AuthInfo>,
        ask: Ask,
    },
    /// The leader of `term` found the time of these leases over.
    LeaseEnds {
        term: u64,
        ids: Vec<LeaseId>,
    },
    /// The leader of `term` notes how long these leases have, or that they were renewed.
    LeaseMarks {
        term: u64,
        marks: Vec<LeaseMark>,
    },
    Compact {
        revision: Revision,
    },
    /// A member started; remembered so that an older copy of its disk is recognised.
    Boot {
        member: MemberId,
        note: StartNote,
    },
    /// What answers wait for changes.
    Commitment(Box<CommitmentChange>),
}

/// What a client or this program asks for besides transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    LeaseGrant {
        id: LeaseId,
        ttl_s: i64,
    },
    LeaseRevoke {
        id: LeaseId,
    },
    Auth(AuthCommand),
    /// Gives a user whose password was right at this revision a token; `secret` is its
    /// first part.
    Authenticate {
        user: String,
        revision: u64,
        secret: String,
    },
    Alarm {
        alarm: Alarm,
        on: bool,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Txn { id, .. } => write!(f, "txn {id}"),
            Command::Ask { id, ask, .. } => {
                let what = match ask {
                    Ask::LeaseGrant { .. } => "lease grant",
                    Ask::LeaseRevoke { .. } => "lease revocation",
                    Ask::Auth(_) => "users' change",
                    Ask::Authenticate { .. } => "sign-in",
                    Ask::Alarm { .. } => "alarm",
                };
                write!(f, "{what} {id}")
            }
            Command::LeaseEnds { ids, .. } => write!(f, "end of {} leases", ids.len()),
            Command::LeaseMarks { marks, .. } => write!(f, "marks of {} leases", marks.len()),
            Command::Compact { revision } => write!(f, "compact {revision}"),
            Command::Boot { member, note } => write!(f, "{note} of member {member}"),
            Command::Commitment(change) => {
                write!(f, "commit mode {}, {}", change.mode.name(), change.footing.name())
            }
        }
    }
}

/// Names one request of one origin, so that a repeated one is answered and not redone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RequestId {
    pub origin: MemberId,
    /// Distinguishes the origin's runs.
    pub run: u64,
    pub sequence: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.origin, self.run, self.sequence)
    }
}

/// What the state machine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A blank or membership entry, a compaction or a boot note.
    Done,
    Txn(TxnResponse),
    Granted(LeaseGranted),
    /// The revision after a lease's keys were deleted.
    Revoked(Revision),
    Token(String),
    /// What an alarm's command changed.
    Alarms(Vec<Alarm>),
    Refused(Refusal),
    /// Whether a change of what answers wait for was not void.
    Commitment {
        took_effect: bool,
    },
}

/// Why the state machine did nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Compacted {
        requested: Revision,
        compacted: Revision,
    },
    Future {
        requested: Revision,
        current: Revision,
    },
    /// A rule of etcd's.
    Rule(crate::model::refusal::Refusal),
    /// The id is older than the memory of answered requests: it may have been done.
    Forgotten,
    /// The request was done, but its answer was too large to keep.
    AnswerLost,
    /// The member whose start should be noted is in no membership that is committed.
    NotAMember,
}

/// A member as the others reach it; part of the membership in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub name: String,
    pub address: String,
    /// Which disk it is, drawn at random when its log was made; 0 while not known. A
    /// voter's is always known, so a wiped disk under an old id is recognised.
    pub incarnation: u64,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

openraft::declare_raft_types!(
    /// The store's choice of Raft's types.
    pub(crate) TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = StoreRuntime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Done => f.write_str("done"),
            Reply::Txn(answer) => write!(f, "txn at {}", answer.revision),
            Reply::Granted(granted) => write!(f, "lease of {} s", granted.ttl_s),
            Reply::Revoked(revision) => write!(f, "lease ended at {revision}"),
            Reply::Token(_) => f.write_str("token"),
            Reply::Alarms(changed) => write!(f, "{} alarms", changed.len()),
            Reply::Refused(refusal) => write!(f, "refused: {refusal:?}"),
            Reply::Commitment { took_effect: true } => f.write_str("commit mode changed"),
            Reply::Commitment { took_effect: false } => f.write_str("commit mode not changed"),
        }
    }
}
