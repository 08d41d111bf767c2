//! Who a disk is: the identity that its log carries, and the check against the configuration.

use serde::{Deserialize, Serialize};

use super::LogError;
use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::store::types::StartNote;

/// Who the member is configured to be; checked against what the log says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) member: MemberId,
}

/// Who this disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) member: MemberId,
    /// Drawn at random when the log was made; another disk under the same member id has
    /// another one.
    pub(crate) incarnation: u64,
    /// How often this disk was started.
    pub(crate) boot: BootCount,
    /// Drawn at random at each start.
    pub(crate) session: u64,
}

impl Identity {
    /// The identity of a disk that was never started.
    pub(super) fn fresh(claim: Claim, incarnation: u64) -> Self {
        Self {
            cluster: claim.cluster,
            generation: claim.generation,
            member: claim.member,
            incarnation: incarnation.max(1),
            boot: BootCount(0),
            session: 1,
        }
    }

    /// Refuses a disk that belongs to another member or cluster.
    pub(super) fn check(&self, claim: Claim) -> Result<(), LogError> {
        check("cluster", self.cluster, claim.cluster)?;
        check("generation", self.generation, claim.generation)?;
        check("member", self.member, claim.member)
    }

    pub(crate) fn note(&self) -> StartNote {
        StartNote { incarnation: self.incarnation, boot: self.boot, session: self.session }
    }
}

fn check<T: PartialEq + ToString>(
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), LogError> {
    if found == expected {
        return Ok(());
    }
    Err(LogError::Foreign { what, found: found.to_string(), expected: expected.to_string() })
}
