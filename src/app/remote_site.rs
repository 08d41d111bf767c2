//! Which members are of the other site, by the cluster file and the records of the nodes.
//!
//! Not here: what counts of it (`store/modes`), who votes (`placement`).

use std::collections::BTreeSet;

use crate::base::ids::MemberId;
use crate::model::cluster::Cluster;
use crate::model::cluster_record::NodeRecord;
use crate::model::commit_mode::CommitMode;
use crate::store::MemberInfo;

/// Whether one site is there to fail over to; of three it is not said which.
pub(super) fn has_other_site(cluster: &Cluster) -> bool {
    cluster.sites.len() == 2
}

/// The mode that the file names and such a cluster can have.
pub(super) fn mode_of_file(cluster: &Cluster) -> CommitMode {
    if has_other_site(cluster) { cluster.commit_mode() } else { CommitMode::Majority }
}

/// The members that stand in the second of two sites.
pub(super) fn remote_members(
    cluster: &Cluster,
    nodes: &[NodeRecord],
    members: &[MemberInfo],
) -> BTreeSet<MemberId> {
    if !has_other_site(cluster) {
        return BTreeSet::new();
    }
    let primary = cluster.sites.first().map(|site| &site.name);
    let stands_there = |member: &&MemberInfo| {
        let node = nodes.iter().find(|node| node.member_id == Some(member.member));
        node.is_some_and(|node| node.joined && !node.leaving && Some(&node.site) != primary)
    };
    members.iter().filter(stands_there).map(|member| member.member).collect()
}
