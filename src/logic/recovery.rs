//! Decides, after the loss of the majority, who has most, what may be lost, and the order
//! of the steps that make a new generation from one member.
//!
//! Why pure: a wrong answer loses data or makes two clusters of one, so every distribution
//! of logs and every interruption is tested.
//! Invariants: nothing is done while a majority may still be there; the chosen member's
//! log is a longest one of all that are known; "nothing is lost" is said only where no
//! majority can have acknowledged without a survivor; generations only grow.
//! Not here: reading members (`store/offline`), files and services (`install/recover`).

mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::base::ids::{Generation, MemberId};
use crate::model::kv::Revision;
use crate::model::recovery::{GenerationRecord, KnownMember, LogEnd, MemberSummary};

pub use steps::{Facts, Place, Step, next_step};

/// How far the revision jumps, so that it is past everything that the lost members can
/// have handed out: as etcd advises, more than any cluster writes between a snapshot and
/// its use.
pub const REVISION_LEAP: Revision = 1_000_000_000;
/// Member ids of generation n begin behind n times this, so that none is used again that
/// the lost members gave out unseen.
const IDS_PER_GENERATION: u64 = 1_000;

/// What may be lost of what clients were told is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Loss {
    /// Every majority of the voters has a survivor among it.
    Nothing,
    /// The lost members could commit without any survivor: how much is not known.
    Unknown,
}

/// What the operator is shown and asked to confirm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The member whose data goes on.
    pub chosen: MemberId,
    pub chosen_name: String,
    pub from_generation: Generation,
    pub to_generation: Generation,
    /// The id of the new generation's first voter.
    pub new_member: MemberId,
    pub loss: Loss,
    /// Entries of the chosen log that were not known to be committed and are kept.
    pub unconfirmed_entries: u64,
    pub last: LogEnd,
    pub revision: Revision,
    pub new_revision: Revision,
    /// Voters of the old generation that are not among the survivors.
    pub lost: Vec<KnownMember>,
    /// Whether those together could elect a leader of the old generation until they learn
    /// of the new one.
    pub lost_could_elect: bool,
    /// Survivors beside the chosen one; they join again under new ids.
    pub rejoin: Vec<KnownMember>,
    /// Summaries that were not counted, and why.
    pub ignored: Vec<String>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    #[error("no member was found")]
    Nobody,
    #[error("the members belong to different clusters: {clusters:?}")]
    TwoClusters { clusters: Vec<String> },
    #[error("members were found twice with different contents: {members:?}")]
    Twice { members: Vec<MemberId> },
    #[error(
        "{survivors} of {voters} voters are left, which is a majority: start these members, \
         nothing needs to be recovered"
    )]
    Majority { survivors: usize, voters: usize },
}

fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// Makes the plan from all that the survivors say of themselves.
pub fn plan(found: &[MemberSummary]) -> Result<Plan, NoPlan> {
    let newest = found.iter().map(|one| one.generation).max().ok_or(NoPlan::Nobody)?;
    let clusters: BTreeSet<String> = found.iter().map(|one| one.cluster.to_string()).collect();
    if clusters.len() > 1 {
        return Err(NoPlan::TwoClusters { clusters: clusters.into_iter().collect() });
    }
    let mut ignored = Vec::new();
    let mut survivors: Vec<&MemberSummary> = Vec::new();
    for one in found {
        if one.generation < newest {
            let MemberSummary { name, member, generation, .. } = one;
            ignored.push(format!("{name} (member {member}) is of generation {generation}"));
        } else if let Some(known) = survivors.iter().find(|known| known.member == one.member) {
            if known.last != one.last {
                return Err(NoPlan::Twice { members: vec![one.member] });
            }
        } else {
            survivors.push(one);
        }
    }
    // The membership that stands latest in any log counts, as it does for Raft.
    let newest_group =
        survivors.iter().max_by_key(|one| one.membership_at).ok_or(NoPlan::Nobody)?;
    let has = |member: &MemberId| survivors.iter().any(|one| one.member == *member);
    let mut no_majority = false;
    // While the voters are being changed either set may have become the only one unseen.
    let mut lost_could_elect = false;
    for voters in &newest_group.voters {
        let left = voters.iter().filter(|voter| has(voter)).count();
        no_majority |= left < majority(voters.len());
        lost_could_elect |= voters.len() - left >= majority(voters.len());
    }
    if !no_majority {
        let voters = newest_group.voters.iter().map(Vec::len).max().unwrap_or(0);
        return Err(NoPlan::Majority { survivors: survivors.len(), voters });
    }
    let chosen = survivors
        .iter()
        .max_by_key(|one| (one.last, one.committed, std::cmp::Reverse(one.member)))
        .ok_or(NoPlan::Nobody)?;
    let known = &newest_group.members;
    let voters: BTreeSet<MemberId> = newest_group.voters.iter().flatten().copied().collect();
    let is_lost = |one: &&KnownMember| voters.contains(&one.member) && !has(&one.member);
    let is_other = |one: &&KnownMember| has(&one.member) && one.member != chosen.member;
    Ok(Plan {
        chosen: chosen.member,
        chosen_name: chosen.name.clone(),
        from_generation: newest,
        to_generation: Generation(newest.0 + 1),
        new_member: new_member(&survivors, newest.0 + 1),
        loss: if lost_could_elect { Loss::Unknown } else { Loss::Nothing },
        unconfirmed_entries: chosen.last.index.saturating_sub(chosen.committed.index),
        last: chosen.last,
        revision: chosen.revision,
        new_revision: chosen.revision + REVISION_LEAP,
        lost: known.iter().filter(is_lost).cloned().collect(),
        lost_could_elect,
        rejoin: known.iter().filter(is_other).cloned().collect(),
        ignored,
    })
}

fn new_member(survivors: &[&MemberSummary], generation: u64) -> MemberId {
    let known = survivors
        .iter()
        .flat_map(|one| one.members.iter().map(|known| known.member.0).chain([one.member.0]));
    let newest = known.max().unwrap_or(0);
    MemberId(newest.max(generation * IDS_PER_GENERATION) + 1)
}

/// Generation and first voter of what follows a member that is alone.
pub fn alone(own: &MemberSummary) -> (Generation, MemberId) {
    let generation = own.generation.0 + 1;
    (Generation(generation), new_member(&[own], generation))
}

/// Whether a record ends the life of a member of `own`: the record's cluster is its own,
/// and its own generation is among the parents. A higher number alone says nothing.
pub fn fences(
    record: &GenerationRecord,
    cluster: crate::base::ids::ClusterId,
    own: Generation,
) -> bool {
    record.cluster == cluster && record.generation > own && record.parents.contains(&own)
}
