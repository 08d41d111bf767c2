//! The identities that safety rests on: cluster, generation, member, boot.
//!
//! Why newtypes: a member id passed where a generation is meant would fence the wrong
//! side. Invariants: member ids are never reused within a cluster; generations and boot
//! counters only grow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of a cluster, made once by `init`; a restore gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub uuid::Uuid);

impl ClusterId {
    /// Half of it, for protocols whose ids have 64 bits.
    pub fn as_u64(&self) -> u64 {
        let (high, low) = self.0.as_u64_pair();
        high ^ low
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ClusterId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(ClusterId)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A member of the store's Raft group. Never reused, not even after removal.
    MemberId
);
number!(
    /// Which life of the cluster this is; grown by a forced failover or a recovery.
    Generation
);
number!(
    /// How often a member has started; kept on its disk and remembered by its peers.
    BootCount
);
