//! Who lacks what of the leader's log, as the leader tells it.

use serde::{Deserialize, Serialize};

use crate::base::ids::MemberId;

/// How far one member is behind the leader's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CenterLag {
    pub member: MemberId,
    /// Last log index known to be on its disk.
    pub matched: u64,
    pub entries: u64,
    /// None where too much is missing to count it.
    pub bytes: Option<u64>,
    /// Age of the oldest entry that it lacks, milliseconds, at most; 0 if it lacks none.
    pub age_ms: u64,
}

/// What only the leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderView {
    pub leader: MemberId,
    pub term: u64,
    pub last_log_index: u64,
    pub applied: u64,
    /// What may be shown, by what the leader knows.
    pub safe: u64,
    /// For how long answers have been waiting for the remote center.
    pub waiting_ms: u64,
    /// For how long the city has promised not to fall back.
    pub promised_ms: u64,
    pub members: Vec<CenterLag>,
}
