//! What a member can say about itself and the others, for `holdfast status`.

use serde::{Deserialize, Serialize};

use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::model::kv::Revision;

/// One member as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    pub member: MemberId,
    pub name: String,
    /// `host:port` of the peer listener.
    pub address: String,
    pub voter: bool,
    /// Last log index known to be on its disk; known on the leader only.
    pub matched: Option<u64>,
    /// Milliseconds since it last answered the leader; 0 for the leader itself. Known on
    /// the leader only, and not for a member that has not answered it yet.
    pub silent_ms: Option<u64>,
    /// Entries between that and the leader's last one.
    pub lag: Option<u64>,
}

/// The store as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    pub cluster: ClusterId,
    pub generation: Generation,
    pub member: MemberId,
    /// How often this member's disk was started.
    pub boot: BootCount,
    /// `serving`, or why not.
    pub health: String,
    pub leader: Option<MemberId>,
    pub term: u64,
    pub last_log_index: u64,
    pub committed: u64,
    pub applied: u64,
    pub revision: Revision,
    /// Oldest revision that can still be read; 0 if none was compacted.
    pub compacted: Revision,
    /// Size of the log file, bytes.
    pub log_bytes: u64,
    /// Size of the state file, bytes.
    pub state_bytes: u64,
    /// Free bytes of the disk that holds both; `None` if the disk does not say.
    pub disk_free_bytes: Option<u64>,
    /// Why this member's disk has writes that need space refused.
    pub writes_refused: Option<String>,
    pub members: Vec<MemberInfo>,
}
