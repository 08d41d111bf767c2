//! What the survivors of a lost majority say of themselves, and the record of the
//! generation that is made from one of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::model::kv::Revision;

/// One member of the group as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownMember {
    pub member: MemberId,
    pub name: String,
    /// `host:port` of the peer listener.
    pub address: String,
}

/// Where a log ends; the later term counts before the higher index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEnd {
    pub term: u64,
    pub index: u64,
}

/// What one member has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSummary {
    pub cluster: ClusterId,
    pub generation: Generation,
    pub member: MemberId,
    pub name: String,
    pub boot: BootCount,
    /// Of the newest vote.
    pub vote_term: u64,
    pub last: LogEnd,
    /// Up to where the member knew its log to be committed.
    pub committed: LogEnd,
    pub applied: LogEnd,
    /// Of a stopped member with its whole log applied, of a running one as applied.
    pub revision: Revision,
    pub compacted: Revision,
    pub keys: u64,
    /// The newest membership that the member has.
    pub members: Vec<KnownMember>,
    /// The voters; two sets while they are being changed.
    pub voters: Vec<Vec<MemberId>>,
    pub membership_at: LogEnd,
    /// Whether the member was running when it said this.
    pub running: bool,
}

/// A generation, as the operator made it; signed by the cluster's authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationRecord {
    pub cluster: ClusterId,
    pub generation: Generation,
    /// All generations before it, the newest first.
    pub parents: Vec<Generation>,
    /// Where the log of the parent ended as far as it was taken over.
    pub fork: LogEnd,
    /// The first voter.
    pub member: MemberId,
    pub name: String,
    /// The members of the parent, who are told.
    pub former: Vec<KnownMember>,
    pub reason: String,
    pub at: Timestamp,
}

/// A record with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedGeneration {
    /// The record as it was signed, JSON.
    pub record: String,
    /// By the key of the cluster's authority, hexadecimal.
    pub signature: String,
}

impl SignedGeneration {
    /// The record; its signature is not looked at.
    pub fn parse(&self) -> Result<GenerationRecord, serde_json::Error> {
        serde_json::from_str(&self.record)
    }
}
