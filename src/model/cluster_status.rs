//! The answer of `holdfast status -o json` and of the status page: one stable document.
//!
//! Served by every node from what it holds itself, so it also answers without quorum;
//! `quorum` and `problems` then say so. Times are RFC 3339, sizes bytes.

use serde::{Deserialize, Serialize};

use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::model::node_config::Role;

/// The whole screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    pub cluster: String,
    pub cluster_id: ClusterId,
    pub generation: Generation,
    /// The node whose view this is.
    pub answered_by: String,
    /// Whether a majority answered a linearizable read just now.
    pub quorum: bool,
    /// The time that nodes and pods are shown of; older than now where no majority answers.
    #[serde(default)]
    pub as_of: String,
    /// Who is missing, where no majority answers.
    #[serde(default)]
    pub quorum_loss: Option<QuorumLossView>,
    pub store: StoreView,
    pub members: Vec<MemberView>,
    pub nodes: Vec<NodeView>,
    pub pods: PodCounts,
    pub certificates: Vec<CertificateView>,
    pub disks: Vec<DiskView>,
    /// What an operator should look at, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// Who answers and who must be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuorumLossView {
    pub answering: Vec<String>,
    pub silent: Vec<String>,
    /// How many of the silent ones make a majority again.
    pub missing: usize,
    /// The same as a sentence: `start b1 or c1`.
    pub remedy: String,
}

/// The answering node's own store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    pub member: Option<MemberId>,
    pub boot: BootCount,
    pub term: u64,
    pub revision: i64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub log_bytes: u64,
    pub state_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    pub id: MemberId,
    pub name: String,
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    /// Whether it answers: the leader, or without one the node whose view this is.
    #[serde(default)]
    pub answers: bool,
    /// Log entries this member is behind the leader; only the leader knows.
    pub lag_entries: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub name: String,
    pub center: String,
    pub roles: Vec<Role>,
    pub address: String,
    pub ready: bool,
    /// Why not, in the node's or the node controller's words.
    pub reason: String,
    pub pods: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(default)]
pub struct PodCounts {
    /// The sum of all the others: every pod is counted once.
    pub total: u32,
    pub ready: u32,
    /// Not ready, and not overdue.
    pub starting: u32,
    /// Without a node.
    pub pending: u32,
    pub image_pull_failing: u32,
    pub crash_looping: u32,
    /// Overdue for another reason.
    pub not_ready: u32,
    pub failed: u32,
    pub succeeded: u32,
    pub terminating: u32,
    /// On nodes that do not answer while no majority does.
    pub unknown: u32,
}

impl PodCounts {
    /// `5 ready, 1 crash-looping`: all that are not zero.
    pub fn text(&self) -> String {
        let all = [
            (self.ready, "ready"),
            (self.starting, "starting"),
            (self.pending, "pending"),
            (self.image_pull_failing, "without image"),
            (self.crash_looping, "crash-looping"),
            (self.not_ready, "not ready"),
            (self.failed, "failed"),
            (self.succeeded, "succeeded"),
            (self.terminating, "terminating"),
            (self.unknown, "on nodes that do not answer"),
        ];
        let some = all.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = some.map(|(count, what)| format!("{count} {what}")).collect();
        if parts.is_empty() { "none".into() } else { parts.join(", ") }
    }
}

impl ClusterStatus {
    /// What must be known before anything else on the screen is read.
    pub fn headline(&self) -> String {
        let voters = self.members.iter().filter(|member| member.voter);
        let (all, there) = voters
            .fold((0, 0), |(all, there), member| (all + 1, there + usize::from(member.answers)));
        let verb = if there == 1 { "answers" } else { "answer" };
        let answer = format!("{there} of {all} members {verb}");
        let leader = self.members.iter().find(|member| member.leader);
        match (self.quorum, leader, &self.quorum_loss) {
            (true, Some(leader), _) => format!("Leader {}; {answer}", leader.name),
            (true, None, _) => format!("The leader is changing; {answer}"),
            (false, _, loss) => {
                let time = self.as_of.get(11..19).unwrap_or("an unknown time");
                let remedy = loss.as_ref().map_or("an election is under way", |loss| &loss.remedy);
                format!(
                    "As of {time} UTC, from the local replica of {}, no leader: {answer}, {remedy}",
                    self.answered_by
                )
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    pub name: String,
    pub expires: String,
    pub days_left: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskView {
    pub path: String,
    pub total_bytes: u64,
    pub free_bytes: u64,
}
