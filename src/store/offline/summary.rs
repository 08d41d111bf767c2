//! What a stopped member has: what the survivors of a lost majority compare.

use super::error::OfflineError;
use super::stopped::{Replay, StoppedMember};
use crate::base::ids::MemberId;
use crate::model::recovery::{KnownMember, LogEnd, MemberSummary};
use crate::store::types::StoredMembership;

pub(crate) fn end(mark: Option<crate::store::types::LogId>) -> LogEnd {
    mark.map_or(LogEnd::default(), |mark| LogEnd { term: mark.leader_id.term, index: mark.index })
}

impl StoppedMember {
    /// Replays the whole log, in memory, and says what is there.
    pub async fn summary(&self) -> Result<MemberSummary, OfflineError> {
        let applied = end(self.state.applied().0);
        let view = self.view(Replay::Everything).await?;
        let marks = view
            .image_marks()
            .map_err(|source| super::stopped::state_error(self.path(), source))?;
        let (_, membership) = self.state.applied();
        let members = known(&membership);
        let own = members.iter().find(|known| known.member == self.identity.member);
        Ok(MemberSummary {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            member: self.identity.member,
            name: own.map(|own| own.name.clone()).unwrap_or_default(),
            boot: self.identity.boot,
            vote_term: self.head.vote.map_or(0, |vote| vote.leader_id.term),
            last: end(self.head.last.max(marks.applied)),
            committed: end(self.head.committed),
            applied,
            revision: marks.revision,
            compacted: marks.compacted,
            keys: marks.keys,
            voters: voters(&membership),
            membership_at: end(*membership.log_id()),
            members,
            running: false,
        })
    }
}

pub(crate) fn known(membership: &StoredMembership) -> Vec<KnownMember> {
    let nodes = membership.membership().nodes();
    nodes
        .map(|(member, peer)| KnownMember {
            member: MemberId(*member),
            name: peer.name.clone(),
            address: peer.address.clone(),
        })
        .collect()
}

pub(crate) fn voters(membership: &StoredMembership) -> Vec<Vec<MemberId>> {
    let configs = membership.membership().get_joint_config();
    configs.iter().map(|config| config.iter().copied().map(MemberId).collect()).collect()
}
