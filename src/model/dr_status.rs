//! What `holdfast dr status` says, as one document.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation};
use crate::model::commit_mode::{CommitMode, Footing};

/// The state of disaster recovery as one control node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrStatus {
    pub cluster: String,
    pub cluster_id: ClusterId,
    pub generation: Generation,
    pub answered_by: String,
    /// The center that the answering node stands in.
    pub center: String,
    pub site: String,
    /// Whether the answering node's site is the one that leads, or the one behind it.
    pub role: SiteRole,
    pub at: Timestamp,
    /// The node that leads; none if the answering one hears of none.
    pub leader: Option<String>,
    pub term: Option<u64>,
    pub mode: CommitMode,
    pub footing: Footing,
    /// Whether the mode and footing are the leader's word or only the newest that the
    /// answering node applied.
    pub is_current: bool,
    /// For how long the answering node has heard no leader, milliseconds.
    pub silent_ms: u64,
    pub centers: Vec<CenterView>,
    pub canary: Option<CanaryView>,
    pub rpo: Rpo,
    /// What the loss of each center, and of the whole first site, would cost now.
    pub next_loss: Vec<LossView>,
    /// Why the exit code is 2.
    pub problems: Vec<String>,
    /// The newest changes of mode and footing, the newest first.
    pub journal: Vec<JournalView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SiteRole {
    Primary,
    Remote,
}

/// One center and how far its copies of the state are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CenterView {
    pub name: String,
    pub site: String,
    pub members: Vec<MemberView>,
    /// Of the member that is furthest; none where the leader does not say.
    pub lag: Option<LagView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    pub name: String,
    pub voter: bool,
    pub answers: bool,
    pub lag: Option<LagView>,
}

/// What a copy lacks of the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LagView {
    pub entries: u64,
    /// None where it is too much to count.
    pub bytes: Option<u64>,
    /// Age of the oldest entry that is missing, at most, milliseconds.
    pub oldest_ms: u64,
}

/// The newest of the records that the leader writes every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryView {
    pub number: u64,
    pub written: Timestamp,
    pub by: String,
    /// By the clocks of both nodes.
    pub age_ms: i64,
}

/// What a forced failover to the remote center would lose now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Rpo {
    /// Nothing, and for so long it is known.
    #[serde(rename_all = "camelCase")]
    Proven { for_ms: u64, reason: String },
    /// No more than the writes of so long.
    #[serde(rename_all = "camelCase")]
    Bounded { at_most_ms: u64, entries: Option<u64>, reason: String },
    /// It cannot be said.
    Unknown { reason: String },
}

impl Rpo {
    /// As people read it.
    pub fn in_words(&self) -> String {
        match self {
            Self::Proven { for_ms, reason } => {
                format!("nothing, proven for {:.1} s more ({reason})", *for_ms as f64 / 1_000.0)
            }
            Self::Bounded { at_most_ms, entries, reason } => {
                let entries = entries.map(|count| format!(", {count} entries"));
                let seconds = *at_most_ms as f64 / 1_000.0;
                let entries = entries.unwrap_or_default();
                format!("at most the writes of the last {seconds:.1} s{entries} ({reason})")
            }
            Self::Unknown { reason } => format!("an unknown amount ({reason})"),
        }
    }
}

/// What a loss would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LossView {
    pub of: String,
    pub costs: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalView {
    pub index: u64,
    pub at: Option<Timestamp>,
    pub mode: CommitMode,
    pub footing: Footing,
    pub by: String,
    pub reason: String,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeRequest {
    pub mode: CommitMode,
    #[serde(default)]
    pub reason: String,
}

/// The record that the leader writes every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRecord {
    pub number: u64,
    pub at: Timestamp,
    pub by: String,
}

/// Where it stands.
pub const CANARY_KEY: &str = "/holdfast/dr/canary";
